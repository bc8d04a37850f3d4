"""What the catalogue must satisfy, said once: a sentence, a remedy and the expectation behind it.

Nothing here imports Great Expectations; `lerenet.data.validation.runner` turns a `Check` into an
expectation of the named type. Checks that look across rows (twins, groups, classes) are computed
here into a column beforehand, so that a failing row names the image and its counterpart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from lerenet.params import ValidationSettings

TEXT, WHOLE, REAL, TRUTH, ANY = "str", "int64", "float64", "bool", ""
COLUMNS: Mapping[str, str] = {
    "image": TEXT,
    "mask": TEXT,
    "cls": TEXT,
    "fold": WHOLE,
    "kind": TEXT,
    "group": TEXT,
    "width": WHOLE,
    "height": WHOLE,
    "mask_width": WHOLE,
    "mask_height": WHOLE,
    "mask_binary": TRUTH,
    "foreground": REAL,
    "sha256": TEXT,
    "mask_sha256": TEXT,
    "phash": TEXT,
}
REBUILD = "run the catalogue stage again: `dvc repro --force catalog`"
BLOCK = 1024  # rows compared at once, so that memory stays at BLOCK x N words


@dataclass(frozen=True)
class Check:
    """One expectation: ``type`` and ``args`` as Great Expectations names them."""

    sentence: str
    remedy: str
    type: str
    args: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Suite:
    """A frame, the columns that name its rows, and what its rows must satisfy."""

    name: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    checks: tuple[Check, ...]


def is_null(
    column: str, sentence: str, remedy: str, severity: Literal["error", "warning"] = "error"
) -> Check:
    """A check that ``column``, which holds the offence, is null in every row."""
    return Check(sentence, remedy, "ExpectColumnValuesToBeNull", {"column": column}, severity)


def in_set(column: str, values: Sequence[Any], sentence: str, remedy: str) -> Check:
    """A check that ``column`` holds only ``values``."""
    args = {"column": column, "value_set": list(values)}
    return Check(sentence, remedy, "ExpectColumnValuesToBeInSet", args)


def between(
    column: str, sentence: str, remedy: str, *, low: float | None = None, high: float | None = None
) -> Check:
    """A check that ``low`` <= ``column`` <= ``high``; null values pass."""
    args = {"column": column, "min_value": low, "max_value": high}
    return Check(sentence, remedy, "ExpectColumnValuesToBeBetween", args)


def equal(a: str, b: str, sentence: str, remedy: str) -> Check:
    """A check that columns ``a`` and ``b`` agree in every row."""
    args = {"column_A": a, "column_B": b}
    return Check(sentence, remedy, "ExpectColumnPairValuesToBeEqual", args)


def matches(column: str, regex: str, sentence: str, remedy: str) -> Check:
    """A check that ``column`` matches ``regex`` in every row."""
    return Check(sentence, remedy, "ExpectColumnValuesToMatchRegex", {"column": column, "regex": regex})


def unique(column: str, sentence: str, remedy: str) -> Check:
    """A check that no value of ``column`` comes twice."""
    return Check(sentence, remedy, "ExpectColumnValuesToBeUnique", {"column": column})


def rows(sentence: str, remedy: str, *, low: int = 1, high: int | None = None) -> Check:
    """A check on the number of rows."""
    return Check(sentence, remedy, "ExpectTableRowCountToBeBetween", {"min_value": low, "max_value": high})


def schema(name: str, frame: pd.DataFrame, columns: Mapping[str, str], remedy: str) -> Suite:
    """Exactly these columns, each of its type (any width of number), and at least one row."""
    kinds: Mapping[Any, Any] = {"integer": "int64", "floating": "float64"}
    wide = {column: kinds[kind] for kind in kinds for column in frame.select_dtypes(kind)}
    checks = [
        Check(
            f"the columns are: {', '.join(columns)}",
            remedy,
            "ExpectTableColumnsToMatchSet",
            {"column_set": list(columns), "exact_match": True},
        ),
        rows("there is at least one row", remedy),
    ]
    for column, kind in columns.items():
        if column in frame and kind != ANY:
            args = {"column": column, "type_": kind}
            checks.append(Check(f"{column} is {kind}", remedy, "ExpectColumnValuesToBeOfType", args))
    return Suite(name, frame.astype(wide), (), tuple(checks))


def twins(
    hashes: Sequence[str], bits: int, allowed: Callable[[slice], npt.NDArray[np.bool_]] | None = None
) -> list[int | None]:
    """For each 64-bit hash (16 hex characters) the first other row within ``bits`` bits, or None.

    ``allowed`` tells for some rows (n of N) which pairs count, (n, N); None: every pair of different rows.
    Memory grows with N, not with its square.
    """
    words = np.array([int(value, 16) for value in hashes], dtype=np.uint64)
    twin_of: list[int | None] = []
    for start in range(0, len(words), BLOCK):
        block = words[start : start + BLOCK]
        near = np.bitwise_count(block[:, None] ^ words[None, :]) <= bits
        near[np.arange(len(block)), np.arange(start, start + len(block))] = False
        if allowed is not None:
            near &= allowed(slice(start, start + BLOCK))
        first = near.argmax(axis=1)
        twin_of += [int(j) if near[i, j] else None for i, j in enumerate(first)]
    return twin_of


def _names(catalog: pd.DataFrame, partners: Sequence[int | None]) -> pd.Series:
    images = catalog["image"].tolist()
    names = [None if j is None else images[j] for j in partners]
    return pd.Series(names, index=catalog.index, dtype=object)


def _entry(catalog: pd.DataFrame) -> pd.Series:
    """What entries of one image have in common: bytes, fold and part; of its own where no part is named."""
    part, stem = (
        catalog["group"].str.partition("/")[2],
        catalog["image"].str.extract(r"([^/]*?)(?:\.[^./]*)?$")[0],
    )
    common = catalog["sha256"] + "\n" + catalog["fold"].astype(str) + "\n" + part
    return common.where(part != stem, catalog["image"])


def _same_files(
    catalog: pd.DataFrame, entry: npt.NDArray[np.intp], cls: npt.NDArray[np.intp]
) -> list[int | None]:
    """For each image another one of the same bytes that is no entry of the same image in another class, or None."""
    partners: list[int | None] = [None] * len(catalog)
    for places in catalog.groupby("sha256").indices.values():
        for place in places if len(places) > 1 else ():
            shared = (entry[places] == entry[place]) & (cls[places] != cls[place])
            others = places[~shared & (places != place)].tolist()
            if others:
                partners[place] = others[-1] if place != places[-1] else others[0]
    return partners


def with_twins(catalog: pd.DataFrame, bits: int) -> pd.DataFrame:
    """Add columns with the image's twin (an image key) or None.

    ``same_file_as``: the same bytes, anywhere; but an image may be an entry of several classes of one fold, where
    sources.csv gives both entries one group. Within ``bits`` bits of the perceptual hash:
    ``near_elsewhere``: a defect image and one of another class; ``near_clean``: of another class,
    one of the two clean (good parts are often shared); ``near_in_class``: of another group of its class.
    """
    catalog = catalog.reset_index(drop=True)
    entry = pd.factorize(_entry(catalog))[0]
    cls, group = pd.factorize(catalog["cls"])[0], pd.factorize(catalog["group"])[0]
    defect = (catalog["kind"] == "defect").to_numpy()

    def other_class(rows: slice) -> npt.NDArray[np.bool_]:
        differ: npt.NDArray[np.bool_] = np.not_equal.outer(cls[rows], cls)
        return differ

    def both(rows: slice) -> npt.NDArray[np.bool_]:
        defects: npt.NDArray[np.bool_] = np.logical_and.outer(defect[rows], defect)
        return defects

    def elsewhere(rows: slice) -> npt.NDArray[np.bool_]:
        shared: npt.NDArray[np.bool_] = np.equal.outer(entry[rows], entry)
        return other_class(rows) & both(rows) & ~shared

    def clean(rows: slice) -> npt.NDArray[np.bool_]:
        return other_class(rows) & ~both(rows)

    def in_class(rows: slice) -> npt.NDArray[np.bool_]:
        return ~other_class(rows) & np.not_equal.outer(group[rows], group)

    usable = catalog["phash"].where(catalog["phash"].str.fullmatch("[0-9a-f]{16}"), "0" * 16).tolist()
    return catalog.assign(
        same_file_as=_names(catalog, _same_files(catalog, entry, cls)),
        near_elsewhere=_names(catalog, twins(usable, bits, elsewhere)),
        near_clean=_names(catalog, twins(usable, bits, clean)),
        near_in_class=_names(catalog, twins(usable, bits, in_class)),
    )


def _image_checks(settings: ValidationSettings) -> tuple[Check, ...]:
    bits, side = settings.near_duplicate_bits, settings.min_side
    return (
        unique("image", "every image is listed once", REBUILD),
        matches(
            "cls",
            r"^[A-Za-z0-9][A-Za-z0-9_]{0,63}$",
            "class names are letters, digits and underscores",
            "rename the class folder and its rows in sources.csv",
        ),
        in_set("kind", ["defect", "clean"], "every image is a defect image or a clean one", REBUILD),
        in_set(
            "fold", [0, 1, 2], "every image is in fold 0, 1 or 2", "name the class in dataset.yaml, folds"
        ),
        equal("cls", "group_class", "a group belongs to one class", "give the classes different group_id"),
        matches("sha256", "^[0-9a-f]{64}$", "every image has a SHA-256 digest", REBUILD),
        matches("phash", "^[0-9a-f]{16}$", "every image has a perceptual hash", REBUILD),
        between(
            "shorter_side",
            f"both sides of an image are at least {side} pixels",
            "remove the image, or lower validation.min_side in params.yaml",
            low=side,
        ),
        is_null("same_file_as", "no image is there twice (same bytes)", "delete one of the two files"),
        is_null(
            "near_elsewhere",
            f"no defect image is a near-duplicate of one of another class (within {bits} bits)",
            "keep it in one class; if they only look alike, lower validation.near_duplicate_bits",
        ),
        is_null(
            "near_clean",
            f"no clean image is a near-duplicate of an image of another class (within {bits} bits)",
            "give each class its own clean images, or the scores on clean queries flatter a little",
            "warning",
        ),
        is_null(
            "near_in_class",
            f"near-duplicates within a class share a group (perceptual hash within {bits} bits)",
            "give both the same group_id in sources.csv, or their score is flattering",
            "warning",
        ),
    )


def _defect_checks(settings: ValidationSettings) -> tuple[Check, ...]:
    low, high = settings.min_foreground, settings.max_foreground
    return (
        matches("mask", ".+", "every defect image has a mask", "add GT/<stem>.png, or move the image to Nd/"),
        in_set(
            "mask_binary", [True], "every mask holds only 0 and 255", "threshold the mask and save it as PNG"
        ),
        equal(
            "size", "mask_size", "every mask is as large as its image", "export the mask at the image's size"
        ),
        between(
            "mask_pixels",
            "every mask marks at least one pixel",
            "mark the defect, or move the image to Nd/ if it is clean",
            low=1,
        ),
        between(
            "marked_share",
            f"a mask marks between {low:.2%} and {high:.0%} of its image",
            "look at the mask (inverted?), or change validation.min_foreground and max_foreground",
            low=low,
            high=high,
        ),
    )


def _clean_checks() -> tuple[Check, ...]:
    return (
        in_set("mask", [""], "a clean image has no mask", "move the image to Images/ or delete its mask"),
        between("foreground", "a clean image has no foreground", "move the image to Images/", low=0, high=0),
    )


def _class_checks(settings: ValidationSettings, shots: Sequence[int]) -> tuple[Check, ...]:
    most = max(shots, default=1)
    images = max(settings.min_images, most + 1)
    more = "add images, or lower validation.min_images and episodes.shots in params.yaml"
    return (
        between("images", f"every class has at least {images} defect images", more, low=images),
        between(
            "groups",
            f"the images of every class come from at least {settings.min_groups} groups (parts or photos)",
            "add images of another part, or mend group_id in sources.csv",
            low=settings.min_groups,
        ),
        between(
            "supports",
            f"without its largest group every class still has {most} images to support a {most}-shot query",
            "add images of another part, or lower episodes.shots in params.yaml",
            low=most,
        ),
        between("folds", "every class is in one fold", "name it once in dataset.yaml, folds", low=1, high=1),
    )


def class_frame(catalog: pd.DataFrame) -> pd.DataFrame:
    """One row a class: cls, images, groups, supports (images outside its largest group), folds, clean."""
    defect = catalog[catalog["kind"] == "defect"]
    sizes = defect.groupby(["cls", "group"]).size()
    frame = pd.DataFrame({"folds": catalog.groupby("cls")["fold"].nunique()})
    frame["images"] = defect.groupby("cls").size()
    frame["groups"] = defect.groupby("cls")["group"].nunique()
    frame["supports"] = frame["images"] - sizes.groupby("cls").max()
    frame["clean"] = catalog[catalog["kind"] == "clean"].groupby("cls").size()
    return frame.fillna(0).astype(int).reset_index()


def catalog_suites(catalog: pd.DataFrame, settings: ValidationSettings, shots: Sequence[int]) -> list[Suite]:
    """The suites on a catalogue whose schema is right: images, defects, clean, classes, folds."""
    images = with_twins(catalog, settings.near_duplicate_bits)
    images["group_class"] = images["group"].str.partition("/")[0]
    images["shorter_side"] = images[["width", "height"]].min(axis=1)
    defects = images[images["kind"] == "defect"].copy()
    for prefix in ("", "mask_"):
        width, height = defects[f"{prefix}width"].astype(str), defects[f"{prefix}height"].astype(str)
        defects[f"{prefix}size"] = width + " x " + height
    area = defects["mask_width"] * defects["mask_height"]
    defects["mask_pixels"] = (defects["foreground"] * area).round().astype(int)
    defects["marked_share"] = defects["foreground"].where(defects["foreground"] > 0)
    clean = images[images["kind"] == "clean"]
    folds = images.groupby("fold")["cls"].nunique().rename("classes").reset_index()
    three = rows("there are three folds", "name three lists of classes in dataset.yaml, folds", low=3, high=3)
    return [
        Suite("images", images, ("image",), _image_checks(settings)),
        Suite("defects", defects, ("image",), _defect_checks(settings)),
        Suite("clean", clean, ("image",), _clean_checks()),
        Suite("classes", class_frame(images), ("cls",), _class_checks(settings, shots)),
        Suite("folds", folds, ("fold",), (three,)),
    ]
