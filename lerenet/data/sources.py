"""Data sets as their sites ship them: one small entry each says where images, masks and groups are.

A rule's ``images`` is a path pattern with named pieces, ``{cls}/test/{defect}/{id}.png``; a piece
matches anything but a slash, and folders before it don't matter. The pieces then fill the other
templates: mask, class, stem and group. To add a data set, append an entry to `REGISTRY`, or write
the same fields in a YAML file and give it with ``--spec FILE``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lerenet.data.images import SUFFIXES
from lerenet.errors import DataError

PIECE = re.compile(r"\{(\w+)\}")
CLASS_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_]{0,63}$")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Entry):
    """Where one kind of image of a data set lies.

    Args:
        images: Path pattern, e.g. ``{cls}/test/{defect}/{id}.png``; may end in ``.*``, any image suffix.
        mask: Its mask; may end in ``.*``. Empty: these are clean images.
        cls: Template of the class name.
        stem: Template of the file name in the data folder, without suffix; unique in a class.
        group: Template of the specimen's name. Empty: the image is its own group.
        sequence: Two pieces with numbers, an exposure and a frame counter: a new specimen begins
            where the exposure does not rise, or the counter jumps by over ``max_step``.
        max_step: See ``sequence``.
        exclude: Piece to the values that this rule leaves to others.
        rename: Piece to {value: name}, used for ``cls``; other values are left out.
        share_among: Regular expression of class names; the images are dealt out among the
            classes found, group by group (clean images that belong to no class).
        empty_is_clean: An empty mask makes the image a clean one.
        inverted: The defect is black.
        resize_mask: A mask of another size is scaled instead of refused.
    """

    images: str
    mask: str = ""
    cls: str = "{cls}"
    stem: str = "{cls}_{id}"
    group: str = ""
    sequence: tuple[str, str] | None = None
    max_step: int = 400
    exclude: dict[str, tuple[str, ...]] = {}
    rename: dict[str, dict[str, str]] = {}
    share_among: str = ""
    empty_is_clean: bool = False
    inverted: bool = False
    resize_mask: bool = False

    @model_validator(mode="after")
    def _known_pieces(self) -> Rule:
        pieces = set(PIECE.findall(self.images))
        own = {"cls"} if self.cls != "{cls}" or self.share_among else set()
        used = PIECE.findall(self.mask + self.stem + self.group)
        for name in (*used, *(self.sequence or ())):
            if name not in pieces | own:
                raise ValueError(f"piece {{{name}}} is not in images: {self.images!r}")
        if not self.share_among and not set(PIECE.findall(self.cls)) <= pieces:
            raise ValueError(f"cls {self.cls!r} uses a piece that is not in images: {self.images!r}")
        re.compile(self.share_among)
        return self

    def pattern(self) -> re.Pattern[str]:
        """``images`` as a regular expression over a posix path, with ``root`` for what is before."""
        text, seen = "", set()
        for place, part in enumerate(PIECE.split(self.images.removesuffix(".*"))):
            if place % 2 == 0:
                text += re.escape(part)
            else:
                text += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)"
                seen.add(part)
        if self.images.endswith(".*"):
            text += rf"\.(?i:{'|'.join(suffix[1:] for suffix in SUFFIXES)})"
        return re.compile(rf"(?P<root>(?:.*/)?){text}")


class Source(_Entry):
    """A data set: its name on the command line, where it comes from and its rules."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    url: str = ""
    licence: str = ""
    rules: tuple[Rule, ...] = Field(min_length=1)


CANONICAL = Source(
    name="canonical",
    title="the layout of Surface Defects-4i: <Class>/Images, GT, Nd",
    rules=(
        Rule(images="{cls}/Images/{id}.*", mask="{cls}/GT/{id}.*", stem="{id}"),
        Rule(images="{cls}/Nd/{id}.*", stem="{id}"),
    ),
)

REGISTRY: tuple[Source, ...] = (
    CANONICAL,
    Source(
        name="magnetic-tile",
        title="Magnetic tile surface defects",
        url="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        rules=(
            Rule(
                images="MT_{type}/Imgs/exp{exposure}_num_{frame}.jpg",
                mask="MT_{type}/Imgs/exp{exposure}_num_{frame}.png",
                cls="MT_{type}",
                stem="{cls}_exp{exposure}_num_{frame}",
                sequence=("exposure", "frame"),
                exclude={"type": ("Free",)},
            ),
            Rule(
                images="MT_Free/Imgs/exp{exposure}_num_{frame}.jpg",
                cls="MT_Free",
                stem="MT_Free_exp{exposure}_num_{frame}",
                sequence=("exposure", "frame"),
                share_among="MT_.*",
            ),
        ),
    ),
    Source(
        name="mvtec-ad",
        title="MVTec AD; each category is a class of all its defects",
        url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence="CC BY-NC-SA 4.0",
        rules=(
            Rule(
                images="{cls}/test/{defect}/{id}.png",
                mask="{cls}/ground_truth/{defect}/{id}_mask.png",
                stem="{cls}_{defect}_{id}",
                exclude={"defect": ("good",)},
            ),
            Rule(images="{cls}/test/good/{id}.png", stem="{cls}_test_good_{id}"),
        ),
    ),
    Source(
        name="kolektor-sdd",
        title="KolektorSDD",
        url="https://www.vicos.si/resources/kolektorsdd/",
        licence="CC BY-NC-SA 4.0",
        rules=(
            Rule(
                images="kos{item}/Part{part}.jpg",
                mask="kos{item}/Part{part}_label.bmp",
                cls="KSDD",
                stem="KSDD_kos{item}_Part{part}",
                group="kos{item}",
                empty_is_clean=True,
            ),
        ),
    ),
    Source(
        name="sd-saliency-900",
        title="SD-saliency-900 (NEU): inclusion, patches, scratches on steel",
        url="https://github.com/SongGuorong/MCITF",
        rules=(
            Rule(
                images="Source Images/{code}_{number}.bmp",
                mask="Ground truth/{code}_{number}.png",
                cls="{code}",
                stem="{cls}_{code}_{number}",
                rename={"code": {"In": "NEU_Inclusion", "Pa": "Steel_Pa", "Sc": "Steel_Sc"}},
            ),
        ),
    ),
)

# Folds of the paper's Table 1 and of the stand-ins for its classes without a public original.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("Al_Rm", "MT_Uneven", "Steel_Ld", "Steel_Am", "NEU_Inclusion", "KSDD", "Al_Pit"),
    ("leather", "Steel_Pa", "Rail", "Steel_Sc", "Al_MissingPaint"),
    ("Al_Con", "MT_Break", "MT_Fray", "tile", "Al_SurfaceBulge"),
)


def load_spec(path: Path) -> Source:
    """Read a `Source` from a YAML file.

    Raises:
        DataError: missing, no YAML, or a field that is unknown or wrong; the message names it.
    """
    example = "see docs/data.md for an example of each field"
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Source.model_validate(raw)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found", "give --spec the YAML file of your data set") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid YAML: {error}", example) from error
    except (ValidationError, re.error) as error:
        reasons = [str(error)]
        if isinstance(error, ValidationError):
            reasons = [
                f"{'.'.join(map(str, item['loc'])) or 'top level'}: {item['msg']}" for item in error.errors()
            ]
        raise DataError(f"{path}: {'; '.join(reasons)}", example) from error


def find_source(name: str) -> Source:
    """The entry of ``REGISTRY`` by name.

    Raises:
        DataError: no such entry; the message lists the names.
    """
    for source in REGISTRY:
        if source.name == name:
            return source
    raise DataError(f"unknown kind {name!r}", f"known: {', '.join(source.name for source in REGISTRY)}")
