"""What a customer's rules may say: a YAML file, checked key by key before any picture is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from lerenet.errors import ParamsError
from lerenet.measure.regions import Region
from lerenet.measure.settings import Measuring, read_settings
from lerenet.params import Positive, Settings, Share, explain

Least = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Place = tuple[str | int, ...]  # keys and numbers from the top of the file


class Condition(Settings):
    """What a defect must be to meet it: all that is given. A number is the least that meets it."""

    area_px: Least | None = None
    area_mm2: Least | None = None
    length_px: Least | None = None
    length_mm: Least | None = None
    width_px: Least | None = None
    width_mm: Least | None = None
    skeleton_px: Least | None = None
    skeleton_mm: Least | None = None
    mean_width_px: Least | None = None
    mean_width_mm: Least | None = None
    mean_probability: Share | None = None
    highest_probability: Share | None = None
    touches_border: bool | None = None
    region: Name | None = None  # one of the file's regions
    rectangle: Region | None = None  # one without a name
    every: Annotated[tuple[Condition, ...], Field(min_length=1)] | None = Field(None, alias="all")
    some: Annotated[tuple[Condition, ...], Field(min_length=1)] | None = Field(None, alias="any")

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if all(value is None for _, value in self):
            raise ValueError("an empty condition; leave it out, and every defect meets it")
        return self

    @property
    def measures(self) -> dict[str, float]:
        """Column of defects.csv -> the least that meets the condition."""
        values = ((name, getattr(self, name)) for name in MEASURES)
        return {name: value for name, value in values if value is not None}


MEASURES = tuple(
    name
    for name in Condition.model_fields
    if name.endswith(("_px", "_mm", "_mm2")) or name.endswith("_probability")
)


class Rule(Settings):
    """A result, where so many defects of the class meet the condition, on an image of such a score."""

    result: Literal["REVIEW", "NG"]
    when: Condition | None = None  # None: every defect meets it
    count: Positive = 1  # the fewest defects that meet it
    score: Annotated[float, Field(allow_inf_nan=False)] | None = None  # of the class on the image, the least


Several = Annotated[tuple[Rule, ...], Field(min_length=1)]


class Rules(Settings):
    """A whole file."""

    measure: Measuring = Measuring()
    regions: dict[Name, Region] = Field(default_factory=dict)
    default: Several | None = None  # of each class that ``classes`` does not name
    classes: dict[str, Several] = Field(default_factory=dict)

    def of(self, name: str) -> Sequence[Rule] | None:
        """The rules of a class; None: there are none, and its own verdict stands."""
        return self.classes.get(name, self.default)

    @property
    def rectangles(self) -> dict[str, Region]:
        """Every rectangle that is asked about, by its name or its words."""
        nameless = (one.rectangle for _, one in self.conditions() if one.rectangle is not None)
        return {**self.regions, **{region.words: region for region in nameless}}

    def conditions(self) -> Iterator[tuple[Place, Condition]]:
        """Every condition, with where it stands."""
        sections: list[tuple[Place, Sequence[Rule]]] = [(("default",), self.default or ())]
        sections += [(("classes", name), rules) for name, rules in self.classes.items()]
        for place, rules in sections:
            for number, rule in enumerate(rules):
                if rule.when is not None:
                    yield from _nested((*place, number, "when"), rule.when)

    @model_validator(mode="after")
    def _known_regions(self) -> Rules:
        for place, condition in self.conditions():
            if condition.region is not None and condition.region not in self.regions:
                known = ", ".join(self.regions) or "none"
                raise ValueError(
                    f"{dotted((*place, 'region'))}: {condition.region!r} is not under 'regions' ({known})"
                )
        return self


def _nested(place: Place, condition: Condition) -> Iterator[tuple[Place, Condition]]:
    yield place, condition
    for key, inner in (("all", condition.every), ("any", condition.some)):
        for number, one in enumerate(inner or ()):
            yield from _nested((*place, key, number), one)


def dotted(place: Place) -> str:
    """A place as messages name it."""
    return ".".join(map(str, place))


def load_rules(path: Path) -> Rules:
    """Read and check a file of rules.

    Raises:
        ParamsError: it is missing, or a key is unknown or out of range; the message names file and key.
        DataError: it is no YAML.
    """
    return read_settings(path, Rules, "rules")


def fitted(
    rules: Rules,
    classes: Sequence[str],
    options: Mapping[str, object],
    name: str = "rules",
    cameras: bool = False,
) -> Rules:
    """The rules with measuring options of the command line in the place of the file's, if they fit one another.

    Args:
        classes: names of those that are inspected for.
        options: fields of `Measuring`; None: the file's stands.
        name: of the file, for messages.
        cameras: whether each photo's own says how large its pixels are.

    Raises:
        ParamsError: a rule is for a class that is not inspected for, or asks for millimetres without a scale.
    """
    given = {key: value for key, value in options.items() if value is not None}
    try:
        measuring = Measuring.model_validate({**rules.measure.model_dump(), **given})
    except ValidationError as error:
        raise ParamsError(explain(error, Measuring), "correct the option") from error
    for one in rules.classes:
        if one not in classes:
            raise ParamsError(
                f"{name}: classes.{one}: no such class is inspected for; there are {', '.join(classes)}",
                "correct the name, or leave its rules out",
            )
    for place, condition in () if cameras or measuring.mm_per_pixel is not None else rules.conditions():
        for key in condition.measures:
            if key.endswith(("_mm", "_mm2")):
                raise ParamsError(
                    f"{name}: {dotted((*place, key))}: the scale of the pictures is not known",
                    "give --mm-per-pixel, or measure.mm_per_pixel in the file; or ask for pixels",
                )
    return rules.model_copy(update={"measure": measuring})
