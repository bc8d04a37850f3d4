"""Find the images of a data set by the rules of its `Source`; nothing is decoded here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lerenet.data.images import SUFFIXES
from lerenet.data.sources import CANONICAL, PIECE, REGISTRY, Rule, Source
from lerenet.errors import DataError

LAYOUT = "<Class>/Images/*.jpg, <Class>/GT/*.png of the same names, <Class>/Nd/*.jpg for clean ones"


@dataclass(frozen=True)
class Found:
    """One image of a source; ``mask`` is None for a clean one."""

    rule: Rule
    image: Path
    mask: Path | None
    cls: str
    stem: str
    group: str
    path: str  # posix, below the source's folder
    pieces: dict[str, str] = field(repr=False)

    @property
    def kind(self) -> str:
        """``defect`` or ``clean``, as far as known without looking into the mask."""
        return "defect" if self.rule.mask else "clean"


def list_files(folder: Path) -> list[str]:
    """Posix paths of the files below ``folder``, sorted, without hidden ones.

    A folder that is itself one class (it holds Images) is listed with its own name in front.
    """
    front = f"{folder.resolve().name}/" if (folder / "Images").is_dir() else ""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    seen = [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.parts)]
    return sorted(front + name.as_posix() for name in seen)


def guess_source(files: Sequence[str], where: Path) -> Source:
    """The entry of the registry that matches most files; the canonical layout goes first.

    Raises:
        DataError: no entry matches.
    """
    counts = {
        source.name: sum(any(rule.pattern().fullmatch(name) for rule in source.rules) for name in files)
        for source in REGISTRY
    }
    best = CANONICAL if counts[CANONICAL.name] else max(REGISTRY, key=lambda source: counts[source.name])
    if not counts[best.name]:
        known = ", ".join(source.name for source in REGISTRY)
        raise DataError(
            f"{where}: no data set of a known layout ({known}) is there",
            f"arrange it as {LAYOUT}; or describe it in a YAML file and give --spec FILE",
        )
    return best


def find(folder: Path, files: Sequence[str], source: Source) -> list[Found]:
    """Every image that a rule of ``source`` matches, in the order of the paths.

    Raises:
        DataError: none matches.
    """
    base = folder.resolve().parent if (folder / "Images").is_dir() else folder
    present = {re.sub(r"\.[^./]*$", "", name): name for name in files if name.lower().endswith(SUFFIXES)}
    found = [item for rule in source.rules for item in _by_rule(base, files, present, rule)]
    if not found:
        raise DataError(
            f"{folder}: holds nothing of {source.name} ({source.rules[0].images})",
            "check the path, or leave --kind out to have it guessed",
        )
    return sorted(_shared(_sequenced(found)), key=lambda item: (item.cls, item.path))


def _by_rule(base: Path, files: Sequence[str], present: dict[str, str], rule: Rule) -> Iterator[Found]:
    pattern = rule.pattern()
    for name in files:
        match = pattern.fullmatch(name)
        if not match or any(match[piece] in values for piece, values in rule.exclude.items()):
            continue
        if any(match[piece] not in names for piece, names in rule.rename.items()):
            continue
        pieces = {key: value for key, value in match.groupdict().items() if key != "root"}
        renamed = {key: rule.rename.get(key, {}).get(value, value) for key, value in pieces.items()}
        cls = fill(rule.cls, renamed)
        pieces = {**pieces, "cls": cls} if "cls" not in pieces else pieces
        mask = _mask(base, match["root"] + fill(rule.mask, pieces), present) if rule.mask else None
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", fill(rule.stem, pieces))
        yield Found(rule, base / name, mask, cls, stem, fill(rule.group, pieces), name, pieces)


def fill(template: str, pieces: dict[str, str]) -> str:
    """``template`` with each ``{piece}`` replaced."""
    return PIECE.sub(lambda match: pieces[match[1]], template)


def _mask(base: Path, name: str, present: dict[str, str]) -> Path:
    if name.endswith(".*"):
        return base / present.get(name.removesuffix(".*"), name.removesuffix(".*") + ".png")
    return base / name


def _sequenced(found: list[Found]) -> list[Found]:
    """Specimens of rules with a ``sequence``: s0, s1, ... in the order of their frames."""
    plain = [item for item in found if item.rule.sequence is None]
    frames = []
    for item in found:
        if item.rule.sequence is not None:
            exposure, frame = (item.pieces[piece] for piece in item.rule.sequence)
            if not (exposure.isdecimal() and frame.isdecimal()):
                raise DataError(f"{item.image}: {exposure!r} and {frame!r} are no numbers", "rename the file")
            frames.append((int(frame), int(exposure), item))
    specimen, before, last = -1, 0, 0
    for frame_number, exposure_number, item in sorted(frames, key=lambda row: (row[0], row[1], row[2].path)):
        if specimen < 0 or exposure_number <= before or frame_number - last > item.rule.max_step:
            specimen += 1
        before, last = exposure_number, frame_number
        plain.append(replace(item, group=f"s{specimen}"))
    return plain


def _shared(found: list[Found]) -> list[Found]:
    """Deal the images of rules with ``share_among`` out among the classes, group by group."""
    kept = [item for item in found if not item.rule.share_among]
    for rule in {id(item.rule): item.rule for item in found if item.rule.share_among}.values():
        classes = sorted({item.cls for item in kept if re.fullmatch(rule.share_among, item.cls)})
        mine = [item for item in found if item.rule is rule]
        groups = list(dict.fromkeys(item.group or item.path for item in mine))
        turn = {group: number for number, group in enumerate(groups)}
        for item in mine if classes else ():
            name = classes[turn[item.group or item.path] % len(classes)]
            kept.append(replace(item, cls=name))
    return kept


def orphans(files: Sequence[str], found: Sequence[Found], base: Path) -> list[str]:
    """Masks and unknown files in the canonical folders that belong to no image."""
    used = {item.image for item in found} | {item.mask for item in found}
    folders = re.compile(r"(?:.*/)?[^/]+/(Images|GT|Nd)/[^/]+")
    left = [base / name for name in files if folders.fullmatch(name) and base / name not in used]
    return [
        f"{path}: {'a mask without an image' if path.parent.name == 'GT' else 'unknown file type'}"
        for path in left
        if path.name not in ("Thumbs.db", "desktop.ini")
    ]


def twice(found: Sequence[Found]) -> list[str]:
    """Images that would get the same name in the same class."""
    counts = Counter((item.cls, item.stem) for item in found)
    return [
        f"{item.image}: {counts[item.cls, item.stem]} images would be named {item.cls}/{item.stem}"
        for item in found
        if counts[item.cls, item.stem] > 1
    ]
