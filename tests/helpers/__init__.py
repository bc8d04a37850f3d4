"""What several tests share: projects, data, networks, servers, and independent computations."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]


def written(folder: Path, text: str, name: str = "rules.yaml") -> Path:
    """A file with that text."""
    path = folder / name
    path.write_text(text)
    return path
