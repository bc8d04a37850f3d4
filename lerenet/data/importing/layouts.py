"""How a data set lies on disk: a few rules say where images, masks and groups are.

A rule's ``images`` is a path template with named pieces, ``{cls}/test/{defect}/{id}.*``
(`lerenet.data.importing.patterns` says what it matches). The pieces then fill the other templates: mask,
class, stem and group. Known data sets are entries of `lerenet.data.importing.known_layouts`; another is described by
the same fields in a YAML file, given with ``--spec FILE``.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lerenet.data.importing.patterns import PIECE, path_pattern
from lerenet.data.reading import PLAIN, Reading
from lerenet.errors import DataError
from lerenet.files import shown
from lerenet.yaml_file import read_yaml


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _label(value: object) -> object:
    if value is None:
        raise ValueError("empty; a colour stands in quotes")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, BeforeValidator(_label)]


class Rule(_Entry):
    """Where one kind of image of a data set lies.

    Args:
        images: Path template, e.g. ``{cls}/test/{defect}/{id}.png``; may end in ``.*``, any image suffix.
        mask: Its mask; may end in ``.*``. With a ``*`` in its name, ``{cls}/masks/{id}/*.*``, several files are
            joined. Empty: these are clean images. What is a mask of one image is never an image itself.
        cls: Template of the class name.
        stem: Template of the file name in the data folder, without suffix; unique in a class.
        group: Template of the specimen's name. Empty: the image is its own group.
        sequence: Two pieces with numbers, an exposure and a frame counter: a new specimen begins
            where the exposure does not rise, or the counter jumps by over ``max_step``.
        max_step: See ``sequence``.
        exclude: Piece to the values that this rule leaves to others.
        exclude_pattern: Piece to a regular expression; values that it matches whole are left to others.
        rename: Piece to {value: name}, used for ``cls``; other values are left out.
        share_among: Regular expression of class names; the images are dealt out among the
            classes found, group by group (clean images that belong to no class).
        empty_is_clean: An empty mask makes the image a clean one.
        no_mask_is_clean: An image without a mask file is a clean one.
        bits, label, ignore, inverted, drawn_on: How the files are read, see `lerenet.data.reading.Reading`.
        resize_mask: A mask of another size is scaled instead of refused.
    """

    images: str
    mask: str = ""
    cls: str = "{cls}"
    stem: str = Field("{cls}_{id}", min_length=1)
    group: str = ""
    sequence: tuple[str, str] | None = None
    max_step: int = 400
    exclude: dict[str, tuple[str, ...]] = {}
    exclude_pattern: dict[str, str] = {}
    rename: dict[str, dict[str, str]] = {}
    share_among: str = ""
    empty_is_clean: bool = False
    no_mask_is_clean: bool = False
    bits: int = 0
    label: Label = ""
    ignore: Label = ""
    inverted: bool = False
    drawn_on: str = ""
    resize_mask: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        pieces = set(PIECE.findall(self.images))
        own = {"cls"} if self.cls != "{cls}" or self.share_among else set()
        used = PIECE.findall(self.mask + self.stem + self.group)
        for name in (*used, *(self.sequence or ())):
            if name not in pieces | own:
                raise ValueError(f"piece {{{name}}} is not in images: {self.images!r}")
        if not self.share_among and not set(PIECE.findall(self.cls)) <= pieces:
            raise ValueError(f"cls {self.cls!r} uses a piece that is not in images: {self.images!r}")
        for name in (*self.exclude, *self.exclude_pattern, *self.rename):
            if name not in pieces:
                raise ValueError(f"piece {name!r} of exclude or rename is not in images: {self.images!r}")
        if "*" in self.mask.rpartition("/")[0]:
            raise ValueError(f"mask {self.mask!r}: * may stand in the file's name, not in a folder's")
        _compiled(self.share_among, *self.exclude_pattern.values())
        self.read_as()
        return self

    @property
    def joins(self) -> bool:
        """Whether an image may have several masks, which are joined."""
        return "*" in self.mask.removesuffix(".*")

    def leaves_out(self, pieces: dict[str, str]) -> bool:
        """Whether an image with these ``pieces`` is none of this rule's, though its path matches."""
        return (
            any(pieces[piece] in values for piece, values in self.exclude.items())
            or any(re.fullmatch(text, pieces[piece]) for piece, text in self.exclude_pattern.items())
            or any(pieces[piece] not in names for piece, names in self.rename.items())
        )

    def read_as(self, asked: Reading = PLAIN) -> Reading:
        """How this rule's files are read; what ``asked`` says goes before what the rule says."""
        own = {name: getattr(self, name) for name in asdict(PLAIN)}
        try:
            return replace(asked, **own | {name: value for name, value in asdict(asked).items() if value})
        except DataError as error:
            raise ValueError(f"{error.what} ({error.remedy})") from error


def _compiled(*texts: str) -> None:
    for text in texts:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from error


class Source(_Entry):
    """A data set: its name on the command line, where it comes from, its rules and what they leave out on purpose.

    Args:
        ignore: Path templates of image files that are left out, e.g. ``{cls}/train/good/{id}.*``.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    url: str = ""
    licence: str = ""
    rules: tuple[Rule, ...] = Field(min_length=1)
    ignore: tuple[str, ...] = ()

    def ignores(self, path: str) -> bool:
        """Whether an image file is left out on purpose."""
        return any(path_pattern(template).fullmatch(path) for template in self.ignore)


def load_spec(path: Path) -> Source:
    """Read a `Source` from a YAML file.

    Raises:
        DataError: missing, no YAML, or a field that is unknown or wrong; the message names it.
    """
    try:
        raw: Any = read_yaml(path)
        return Source.model_validate(raw)
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)}: not found", "give --spec the YAML file of your data set") from error
    except ValidationError as error:
        reasons = (
            f"{'.'.join(map(str, item['loc'])) or 'top level'}: {item['msg']}" for item in error.errors()
        )
        raise DataError(
            f"{shown(path)}: {'; '.join(reasons)}", "see docs/data.md for an example of each field"
        ) from error
