"""Other tools' annotations: each format read to one dataclass, and written from it, in a file of its own."""
