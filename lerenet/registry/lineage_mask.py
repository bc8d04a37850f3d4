"""Where a mask came from: the model that made it, and the photos and examples that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lerenet import layout
from lerenet.errors import TrackingError
from lerenet.files import read_json, sha256_file, shown
from lerenet.registry import versions as registry
from lerenet.registry.lineage import Link
from lerenet.registry.registered import Version

INSPECTIONS = "inspections.json"  # of `lerenet inspect`, beside its masks


def of_mask(mask: Path) -> tuple[Version | None, list[Link]]:
    """The version that made a mask of ``lerenet predict`` or ``inspect``, and whether its files are the same still.

    None where an inspection was made by classes beside a model that is no version of a registry.

    Raises:
        TrackingError: no ``predictions.json`` beside it names the mask, or no registered version made it.
    """
    if (inspections := mask.parent / INSPECTIONS).is_file():
        return _of_inspection(mask, read_json(inspections))
    table = mask.parent / "predictions.json"
    about = read_json(table) if table.is_file() else {}
    row = next((row for row in about.get("predictions", []) if row["mask"] == mask.name), None)
    if mask.name in about.get("earlier", {}):
        raise TrackingError(
            f"{shown(mask)}: made by a call before the one that {shown(table)} tells of",
            "give each call a folder of its own; for this mask, repeat its call",
        )
    if row is None or not mask.is_file():
        raise TrackingError(
            f"{shown(mask)}: no mask that {shown(table)} names",
            "give a file of `lerenet predict`, beside its predictions.json",
        )
    if not about["version"]:
        raise TrackingError(
            f"{shown(mask)}: made by {about['model']}, which is no version of a registry",
            "see `lerenet models`",
        )
    version = registry.by_number(about["version"])
    return version, [_mask(mask, row, version, about["weights_sha256"]), *_inputs(about, row)]


def _mask(mask: Path, row: dict[str, Any], version: Version, weights: str) -> Link:
    same = sha256_file(mask) == row["sha256"] and version.tags.get("weights_sha256") == weights
    note = f"of {row['query']}; the file and the model's weights"
    return Link("mask", row["sha256"], "ok" if same else "differs", note)


def _inputs(about: dict[str, Any], row: dict[str, Any]) -> list[Link]:
    """The query, where the table carries its digest, and the supports' images."""
    named = [("query", row["query"], row["query_sha256"])] if row.get("query_sha256") else []
    named += [
        ("support", name, digests[0])
        for name, digests in zip(about["supports"], about["support_sha256"], strict=True)
    ]
    return [_file(what, name, digest) for what, name, digest in named]


def _of_inspection(mask: Path, about: dict[str, Any]) -> tuple[Version | None, list[Link]]:
    """Mask, photo, and each example and good part of the classes that mark it."""
    row = next((row for row in about["images"] if row["marks"] == mask.name), None)
    if row is None or not mask.is_file():
        raise TrackingError(
            f"{shown(mask)}: no mask that {INSPECTIONS} beside it names",
            "give a *_marks.png of `lerenet inspect`",
        )
    links = [
        _file("mask", str(mask), row["marks_sha256"]),
        _file("photo", row["image"], row["sha256"]),
    ]
    marked = {one["name"] for one in row["classes"] if one["share"]}
    for known in about["classes"]:
        for kind in ("examples", "good") if known["name"] in marked else ():
            what = f"{known['name']}: {'example' if kind == 'examples' else 'good part'}"
            links += [_file(what, image["name"], image["sha256"]) for image in known[kind]]
    return registry.by_number(about["version"]) if about["version"] else None, links


def _file(what: str, name: str, digest: str) -> Link:
    """A file by its name, which may be a key of the catalogue."""
    path = next((path for path in (Path(name), layout.DATA / name) if path.is_file()), None)
    there = None if path is None else sha256_file(path)
    return Link(what, digest, "ok" if there == digest else "differs" if there else "not here", name)
