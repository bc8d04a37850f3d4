"""What several tests share: projects, data, networks, servers, and independent computations."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
