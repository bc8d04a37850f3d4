"""A class as it is enrolled: its memory, its operating point, and what it was made of; on disk and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lerenet.enrolment.decision import OperatingPoint
from lerenet.enrolment.memory import Memory
from lerenet.errors import DataError
from lerenet.files import atomic_dir, read_json, sha256_file, shown, write_json

MEMORY, FACTS = "memory.safetensors", "enrolment.json"
AGAIN = "enrol the class again: `lerenet enrol`"


@dataclass(frozen=True)
class Enrolled:
    """One class.

    Attributes:
        name: of the class.
        memory: its places.
        point: where an image is called; None: not calibrated, for too few good parts were given.
        network: digest of the backbone whose descriptors these are.
        image_size: working size, in pixels.
        examples, good: name and SHA-256 digests of each image and its masks.
    """

    name: str
    memory: Memory
    point: OperatingPoint | None
    network: str
    image_size: int
    examples: list[dict[str, Any]]
    good: list[dict[str, Any]]


def save_enrolled(folder: Path, enrolled: Enrolled) -> None:
    """Write ``folder``/<name>/, which is replaced whole or not at all."""
    memory = enrolled.memory
    with atomic_dir(folder / enrolled.name) as temporary:
        tensors = {
            name: getattr(memory, name).half().contiguous() for name in ("foreground", "background", "good")
        }
        whole = {"total": memory.total.contiguous(), "good_from": memory.good_from.contiguous()}
        save_file({**tensors, **whole}, temporary / MEMORY)
        facts = {
            "class": enrolled.name,
            "network": enrolled.network,
            "image_size": enrolled.image_size,
            "places": memory.count,
            "point": None if enrolled.point is None else asdict(enrolled.point),
            "examples": enrolled.examples,
            "good": enrolled.good,
            "memory_sha256": sha256_file(temporary / MEMORY),
        }
        write_json(temporary / FACTS, facts)


def load_enrolled(folder: Path) -> Enrolled:
    """The class in ``folder``.

    Raises:
        DataError: a file is missing, damaged, or not the one that was written.
    """
    path = folder / MEMORY
    facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else None
    if not isinstance(facts, dict) or not path.is_file():
        raise DataError(f"{shown(folder)}: no enrolled class ({MEMORY} and {FACTS} are needed)", AGAIN)
    if sha256_file(path) != facts.get("memory_sha256"):
        raise DataError(f"{shown(path)}: not the file that was written (sha256 differs)", AGAIN)
    try:
        tensors = load_file(path)
        kinds = {name: tensors[name].float() for name in ("foreground", "background", "good")}
        whole = {name: tensors[name] for name in ("good_from", "total")}
        memory = Memory(**kinds, **whole, count=int(facts["places"]))
        point = None if facts["point"] is None else OperatingPoint(**facts["point"])
        return Enrolled(
            str(facts["class"]), memory, point, str(facts["network"]), int(facts["image_size"]),
            list(facts["examples"]), list(facts["good"]),
        )  # fmt: skip
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown(folder)}: can't be read: {error}", AGAIN) from error


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


def device_of(memory: Memory, device: torch.device) -> Memory:
    """The memory on a device."""
    names = ("foreground", "background", "good", "good_from", "total")
    return Memory(**{name: getattr(memory, name).to(device) for name in names}, count=memory.count)
