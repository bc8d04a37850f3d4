"""Find the images of a data set by the rules of its `Source`; nothing is decoded here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lerenet.data.importing.found import Found
from lerenet.data.importing.grouping import named, sequenced, shared
from lerenet.data.importing.known_layouts import CANONICAL, REGISTRY
from lerenet.data.importing.layouts import Rule, Source
from lerenet.data.importing.patterns import fill, fixed_letters, path_pattern
from lerenet.data.importing.tree import Tree
from lerenet.data.listing import image_like
from lerenet.data.names import safe_stem
from lerenet.errors import DataError
from lerenet.files import shown

LAYOUT = "<Class>/Images/*.jpg, <Class>/GT/*.png of the same names, <Class>/Nd/*.jpg for clean ones"


@dataclass(frozen=True)
class _Match:
    """A file that a rule's ``images`` matches; ``out``: the rule leaves it to others."""

    rule: Rule
    name: str
    cls: str
    wanted: str
    masks: list[str]
    pieces: dict[str, str]
    out: bool


def guess_source(tree: Tree, where: Path) -> Source:
    """The entry of the registry that explains most files; the canonical layout goes first.

    An image with a mask counts only when its mask is there.

    Raises:
        DataError: no entry explains any.
    """
    if any(_matches(tree, CANONICAL)):
        return CANONICAL
    counts = {source.name: _explained(tree, source) for source in REGISTRY}
    best = max(REGISTRY, key=lambda source: counts[source.name])
    if not counts[best.name]:
        names = ", ".join(source.name for source in REGISTRY)
        raise DataError(
            f"{shown(where)}: no data set of a known layout ({names}) is there",
            f"arrange it as {LAYOUT}; or describe it in a YAML file and give --spec FILE",
        )
    return best


def _explained(tree: Tree, source: Source) -> int:
    images, _ = _images(tree, source)
    return sum(1 + len(match.masks) for match in images if match.masks or not match.rule.mask)


def find(tree: Tree, source: Source) -> tuple[list[Found], list[str]]:
    """Every image that a rule of ``source`` matches, by class and path; and the image files left over.

    Left over are those that no rule uses, leaves out (`Rule.exclude`, `Rule.rename`) or ignores (`Source.ignore`).

    Raises:
        DataError: no image.
    """
    images, left_out = _images(tree, source)
    pictures = named(shared(sequenced([_found(tree, match) for match in images])))
    if not pictures:
        raise DataError(
            f"{shown(tree.folder)}: holds no images of {source.name} ({source.rules[0].images})",
            "check the path, or leave --kind out to have it guessed",
        )
    masks = {match.name: match.masks for match in images}
    explained = left_out.union(*((item.path, *masks[item.path]) for item in pictures))
    unused = [
        name
        for name, plain in tree.plain
        if image_like(name) and name not in explained and not source.ignores(plain)
    ]
    return sorted(pictures, key=lambda item: (item.cls, item.path)), unused


def _images(tree: Tree, source: Source) -> tuple[list[_Match], set[str]]:
    """What the rules match and what they leave out; the mask of one image is never an image itself."""
    matches = list(_matches(tree, source))
    masks = {mask for match in matches for mask in match.masks}
    out = set().union(*((match.name, *match.masks) for match in matches if match.out))
    return [match for match in matches if not match.out and match.name not in masks], out


def _matches(tree: Tree, source: Source) -> Iterator[_Match]:
    masks = [(fixed_letters(rule.mask), path_pattern(rule.mask)) for rule in source.rules if rule.mask]
    for rule in source.rules:
        pattern, letters = path_pattern(rule.images), fixed_letters(rule.images)
        nearer = [mask for fixed, mask in masks if fixed > letters]  # masks that look like these images
        for name, plain in tree.plain:
            match = pattern.fullmatch(plain)
            if match and not source.ignores(plain) and not any(mask.fullmatch(plain) for mask in nearer):
                yield _match(tree, rule, name, match.groupdict())


def _match(tree: Tree, rule: Rule, name: str, groups: dict[str, str]) -> _Match:
    root = groups.pop("root")
    out = rule.leaves_out(groups)
    renamed = {key: rule.rename.get(key, {}).get(value, value) for key, value in groups.items()}
    cls = fill(rule.cls, renamed)
    pieces = {"cls": cls, **groups}
    masks = tree.masks(rule.mask, root, pieces, name) if rule.mask else []
    wanted = root + fill(rule.mask, pieces) if rule.mask else ""
    return _Match(rule, name, cls, wanted, masks, pieces, out)


def _found(tree: Tree, match: _Match) -> Found:
    rule, pieces = match.rule, match.pieces
    text = fill(rule.stem, pieces)
    return Found(
        rule=rule,
        image=tree.path(match.name),
        masks=tuple(map(tree.path, match.masks)),
        wanted=match.wanted,
        cls=match.cls,
        text=text,
        stem=safe_stem(text),
        group=fill(rule.group, pieces),
        path=match.name,
        pieces=pieces,
    )
