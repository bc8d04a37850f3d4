"""What the live model knows of a defect class: examples and good parts in a memory, and where it decides."""
