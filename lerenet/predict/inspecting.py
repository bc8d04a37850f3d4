"""Which network describes, and which classes are known: a registered version's, a run's, or drafts beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lerenet.enrolment.enrolled import CLASSES, FACTS, Enrolled, enrolled_in, read_inspection
from lerenet.errors import DataError
from lerenet.files import shown
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict.opening import open_model
from lerenet.registry.registered import INSPECTION


def open_inspection(model: str) -> tuple[LoadedNetwork, list[Enrolled]]:
    """Network and classes of ``champion``, a version number, ``matching`` (no class) or a folder.

    A folder is an inspection model, such as ``artifacts/enrol``, or a model without classes.

    Raises:
        ModelError, TrackingError: see `open_model`.
        DataError: a class is damaged.
    """
    if (Path(model) / CLASSES).is_dir():
        return read_inspection(Path(model))
    loaded = open_model(model)
    inside = Path(loaded.source) / INSPECTION
    if not inside.is_dir():
        return loaded, []
    network, classes = read_inspection(inside)
    return replace(network, version=loaded.version), classes


def require_new(name: str, classes: Sequence[Enrolled]) -> None:
    """Refuse to draft what the model knows: a few examples would stand in for all of its own.

    Raises:
        DataError: a class of that name.
    """
    for one in classes:
        if one.name == name:
            raise DataError(
                f"{name}: the model knows it, from {len(one.examples)} examples",
                "put the images into data/, a retraining takes them in; or enrol them under another name",
            )


def with_drafts(classes: Sequence[Enrolled], folder: Path) -> list[Enrolled]:
    """The model's classes with those enrolled in ``folder``, by name; a draft that the model has by now gives way.

    Raises:
        DataError: there is neither, or see `enrolled_in`.
    """
    drafts = enrolled_in(folder) if any(folder.glob(f"*/{FACTS}")) else []
    known = {one.name: one for one in (*drafts, *classes)}
    if not known:
        raise DataError(
            f"{shown(folder)}: no class is enrolled there, and the model knows none",
            "`lerenet enrol CLASS --example IMG MASK`",
        )
    return [known[name] for name in sorted(known)]


def only(classes: Sequence[Enrolled], names: Sequence[str]) -> list[Enrolled]:
    """The classes of some names, in the classes' order; all where none is named.

    Raises:
        DataError: a name that no class has.
    """
    known = [one.name for one in classes]
    if unknown := sorted(set(names) - set(known)):
        raise DataError(f"{', '.join(unknown)}: no such class is enrolled", f"there are {', '.join(known)}")
    return [one for one in classes if not names or one.name in names]
