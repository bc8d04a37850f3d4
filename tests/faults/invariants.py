"""What must hold after a kill and after the next run; each function gives the violations as sentences."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from lerenet import files
from lerenet.registry import copies, ledger
from lerenet.registry import versions as registry

FOLDERS = ("artifacts", ".checkpoints", ".cache", "mlartifacts")
READERS = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".safetensors": load_file,
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
}


def _kept(root: Path) -> Iterator[Path]:
    """Files as they are met: a stage that is at work takes its folder away, and that is no fault of it."""
    for name in FOLDERS:
        for folder, _, names in os.walk(root / name):
            yield from (Path(folder) / file for file in names)


def half_written(root: Path) -> list[str]:
    """Every file that stands under its own name can be read; what is unfinished has a temporary's name."""
    broken = []
    for path in _kept(root):
        reader = READERS.get(path.suffix)
        if reader is None or any(part.startswith(files.TEMPORARY) for part in path.parts):
            continue
        if path.is_relative_to(root / "mlartifacts"):
            continue  # MLflow's copies; those of a version are checked by their digests
        try:
            reader(path)
        except FileNotFoundError:
            continue
        except Exception as error:
            broken.append(f"half-written: {path.relative_to(root)} ({type(error).__name__})")
    return broken


def leftovers(root: Path) -> list[str]:
    """Temporaries that outlived the next run."""
    found = [path for name in FOLDERS for path in (root / name).rglob(f"{files.TEMPORARY}*")]
    return [f"temporary left: {path.relative_to(root)}" for path in found]


def registry_agrees() -> list[str]:
    """Alias and ledger tell one story, and every version has its files."""
    found = []
    for version in registry.versions():
        try:
            copies.verified(version)
        except Exception as error:
            found.append(f"version {version.number} can't be used: {error}")
    champion = registry.champion()
    alias = champion.number if champion else ""
    changes = [entry for entry in ledger.read() if entry["event"] in ledger.CHANGES]
    last = changes[-1] if changes else {"version": "", "previous": ""}
    if alias not in (last["version"], last["previous"]):
        found.append(f"champion {alias!r}, the ledger ends with {last['previous']!r} -> {last['version']!r}")
    return found


def promoted(version: str, entries: int) -> list[str]:
    """After the command was repeated: one version, one entry, the alias there."""
    champion = registry.champion()
    versions = [item.number for item in registry.versions()]
    told = [entry["version"] for entry in ledger.read()]
    expected = [str(number) for number in range(1, entries + 1)]
    found = [] if champion and champion.number == version else [f"the champion is {champion}, not {version}"]
    found += [] if told == expected else [f"the ledger tells of {told}, not of {expected}"]
    return found + ([] if versions == expected[::-1] else [f"there are versions {versions}"])


def decided(expected: list[str]) -> list[str]:
    """One version and one decision for each state of the data, none twice, none without its verdict or alias."""
    versions = registry.versions()
    numbers = sorted(int(item.number) for item in versions)
    told = [entry["version"] for entry in ledger.read() if entry["event"] in ("promote", "decide")]
    found = [] if list(map(str, numbers)) == expected else [f"versions {numbers}, not {expected}"]
    found += [] if told == expected else [f"the ledger tells of {told}, not of {expected}"]
    champion, live = registry.champion(), ledger.last_change().get("version")
    if champion is None or champion.number != live:
        found.append(f"the champion is {champion}, the ledger says {live}")
    return found + [
        f"{v.number} has no verdict" for v in versions if v.tags.get("verdict") in (None, "candidate")
    ]
