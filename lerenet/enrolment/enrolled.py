"""A class as it is enrolled: its memory, its operating point, and what it was made of; on disk and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lerenet.enrolment.decision import OperatingPoint, Verdict, verdict_of
from lerenet.enrolment.fitted import FittedHead
from lerenet.enrolment.memory import TENSORS, Memory
from lerenet.enrolment.readers import Known
from lerenet.enrolment.shared import SharedHead
from lerenet.errors import DataError, LerenetError
from lerenet.files import atomic_dir, read_json, sha256_file, shown, write_json
from lerenet.models import serialization
from lerenet.models.serialization import LoadedNetwork

MEMORY, HEADS, READINGS, FACTS = (
    "memory.safetensors",
    "heads.safetensors",
    "readings.parquet",
    "enrolment.json",
)
CURVE = "curve.parquet"
SHARED = "shared.safetensors"  # beside `CLASSES`
FILES = (MEMORY, HEADS, READINGS, CURVE)
NETWORK, CLASSES = "network", "classes"  # folders of an inspection model: what describes, and what is known
WHOLE = "whole"  # the head that is fitted to all images; the others are named by the fold they lack
Head = TypeVar("Head", FittedHead, SharedHead)
HALF = ("foreground", "background", "good")  # kept in half precision
AGAIN = "enrol the class again: `lerenet enrol`"


@dataclass(frozen=True)
class Image:
    """An image that a class was learnt from.

    Attributes:
        name: its file, or its key in the catalogue.
        sha256: of its file.
        group: of the part that it shows.
        masks: SHA-256 of its masks' files.
    """

    name: str
    sha256: str
    group: str
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Enrolled:
    """One class.

    Attributes:
        name: of the class.
        memory: its places.
        heads: fitted to its images: `WHOLE` to all, the others without the fold that names them.
        reader: how its pictures are read.
        point: where an image is called; None: not calibrated, for too few good parts were given.
        surface: how alike an image of its surface is at least (`lerenet.enrolment.decision.surface_bound`); None:
            unknown, for too few images were given.
        folds: of groups, how many.
        network: digest of the backbone whose descriptors these are.
        image_size: working size, in pixels.
        side: of the squares that pictures are cut into, in their pixels; 0: none (`lerenet.data.tiles`).
        examples, good: what it was learnt from.
        shared: heads of all known classes (`lerenet.enrolment.shared`), named as ``heads``.
        quiet: score below which a square marks nothing, named as ``heads`` (`lerenet.enrolment.quiet`).
        bits: that the examples' camera uses of 16-bit values; 0: nobody said.
    """

    name: str
    memory: Memory
    heads: Mapping[str, FittedHead]
    reader: str
    point: OperatingPoint | None
    surface: float | None
    folds: int
    network: str
    image_size: int
    side: int
    examples: list[Image]
    good: list[Image]
    shared: Mapping[str, SharedHead] = field(default_factory=dict)
    quiet: Mapping[str, float] = field(default_factory=dict)
    bits: int = 0

    def verdict(self, score: float, alike: float) -> Verdict:
        """What an image of this score is, if it is alike enough."""
        return verdict_of(self.point, self.surface, score, alike)

    def known(self, device: torch.device) -> Known:
        """What its pictures are read with, on a device."""
        return Known(
            self.memory, self.heads.get(WHOLE), self.shared.get(WHOLE), self.quiet.get(WHOLE, -math.inf)
        ).to(device)


@dataclass(frozen=True)
class Left:
    """What is said of a class's own images, each left out.

    Attributes:
        readings: by each reader (`lerenet.enrolment.leave_out.readings`).
        curve: with some of the examples (`lerenet.enrolment.curve.curve`).
    """

    readings: pd.DataFrame
    curve: pd.DataFrame


def save_enrolled(folder: Path, enrolled: Enrolled, left: Left) -> None:
    """Write ``folder``/<name>/, which is replaced whole or not at all."""
    memory = enrolled.memory
    with atomic_dir(folder / enrolled.name) as temporary:
        tensors = {name: getattr(memory, name).cpu().contiguous() for name in TENSORS}
        save_file(
            {name: value.half() if name in HALF else value for name, value in tensors.items()},
            temporary / MEMORY,
        )
        save_heads(temporary / HEADS, enrolled.heads)
        left.readings.to_parquet(temporary / READINGS, index=False)
        left.curve.to_parquet(temporary / CURVE, index=False)
        facts = {
            "class": enrolled.name,
            "reader": enrolled.reader,
            "point": None if enrolled.point is None else asdict(enrolled.point),
            "surface": enrolled.surface,
            "part_folds": enrolled.folds,
            "network": enrolled.network,
            "image_size": enrolled.image_size,
            "side": enrolled.side,
            "quiet": {name: value for name, value in enrolled.quiet.items() if math.isfinite(value)},
            "bits": enrolled.bits,
            "examples": [asdict(image) for image in enrolled.examples],
            "good": [asdict(image) for image in enrolled.good],
            "shared": _digest(folder) if enrolled.shared else "",
            "sha256": {name: sha256_file(temporary / name) for name in FILES},
        }
        write_json(temporary / FACTS, facts)


def save_heads(path: Path, heads: Mapping[str, FittedHead] | Mapping[str, SharedHead]) -> None:
    """Write heads, each under its name."""
    weights = {
        f"{which}.{name}": value.cpu().contiguous()
        for which, head in heads.items()
        for name, value in head.state_dict().items()
    }
    save_file(weights, path)


def _digest(classes: Path) -> str:
    path = classes.parent / SHARED
    return sha256_file(path) if path.is_file() else ""


def read_facts(folder: Path) -> dict[str, Any]:
    """What is said of the class in ``folder``, once each of its files is known to be the one that was written.

    Raises:
        DataError: a file is missing, damaged, or not the one that was written.
    """
    try:
        facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else None
    except LerenetError as error:
        raise DataError(error.what, AGAIN) from error
    if not isinstance(facts, dict) or not all((folder / name).is_file() for name in FILES):
        raise DataError(
            f"{shown(folder)}: no enrolled class ({', '.join((*FILES, FACTS))} are needed)", AGAIN
        )
    for name in FILES:
        if sha256_file(folder / name) != (facts.get("sha256") or {}).get(name):
            raise DataError(f"{shown(folder / name)}: not the file that was written (sha256 differs)", AGAIN)
    return facts


def load_enrolled(folder: Path) -> Enrolled:
    """The class in ``folder``.

    Raises:
        DataError: a file is missing, damaged, or not the one that was written.
    """
    facts = read_facts(folder)
    wanted = facts.get("shared", "")
    if wanted and _digest(folder.parent) != wanted:
        raise DataError(
            f"{shown(folder.parent.parent / SHARED)}: not the file that was written, or gone", AGAIN
        )
    try:
        tensors = load_file(folder / MEMORY)
        if "counts" not in tensors:  # an earlier version's: pictures as a whole, each of as many places
            tensors["counts"] = torch.full((len(tensors["sums"]),), int(facts["places"]))
        parts = {name: tensors[name].float() if name in HALF else tensors[name] for name in TENSORS}
        return Enrolled(
            str(facts["class"]), Memory(**parts), load_heads(folder / HEADS, FittedHead),
            str(facts["reader"]), None if facts["point"] is None else OperatingPoint(**facts["point"]),
            None if facts["surface"] is None else float(facts["surface"]),
            int(facts["part_folds"]), str(facts["network"]), int(facts["image_size"]), int(facts.get("side", 0)),
            [_image(image) for image in facts["examples"]], [_image(image) for image in facts["good"]],
            load_heads(folder.parent.parent / SHARED, SharedHead) if wanted else {},
            {str(name): float(value) for name, value in facts.get("quiet", {}).items()},
            int(facts.get("bits", 0)),
        )  # fmt: skip
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{shown(folder)}: can't be read: {error}", AGAIN) from error


def load_heads(path: Path, kind: type[Head]) -> dict[str, Head]:
    """The heads in a file, by name."""
    heads, weights = {}, load_file(path)
    for which in sorted({name.partition(".")[0] for name in weights}):
        mine = {name.partition(".")[2]: v for name, v in weights.items() if name.startswith(f"{which}.")}
        head = kind(len(mine["mean"]))
        head.load_state_dict(mine)
        heads[which] = head.eval()
    return heads


def _image(facts: Mapping[str, Any]) -> Image:
    return Image(**{**facts, "masks": tuple(facts["masks"])})


def enrolled_in(folder: Path) -> list[Enrolled]:
    """Every enrolled class below ``folder``, by name.

    Raises:
        DataError: there is none, or see `load_enrolled`.
    """
    folders = sorted(path.parent for path in folder.glob(f"*/{FACTS}"))
    if not folders:
        raise DataError(
            f"{shown(folder)}: no class is enrolled there", "`lerenet enrol CLASS --example IMG MASK`"
        )
    return [load_enrolled(path) for path in folders]


def read_inspection(folder: Path) -> tuple[LoadedNetwork, list[Enrolled]]:
    """The inspection model in ``folder``: ``network/`` and ``classes/``.

    Raises:
        ModelError: see `load_network`.
        DataError: see `enrolled_in`.
    """
    return serialization.load_network(folder / NETWORK), enrolled_in(folder / CLASSES)
