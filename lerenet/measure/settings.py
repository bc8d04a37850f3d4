"""How marks become defects, and pixels millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from lerenet.errors import ParamsError
from lerenet.files import shown
from lerenet.params import Positive, Settings, explain
from lerenet.yaml_file import read_yaml

Asked = TypeVar("Asked", bound=Settings)
REMEDY = "correct the key; docs/inspect.md has a whole file"


class Measuring(Settings):
    """What counts as one defect, and the scale of the pictures."""

    mm_per_pixel: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # None: pixels only
    closing: Annotated[int, Field(ge=0, le=500)] = 0  # radius in pixels; gaps up to twice as wide are closed
    smallest: Positive = 1  # pixels; what has fewer is no defect
    connectivity: Literal[4, 8] = 8  # 8: pixels that meet at a corner belong together, too


def read_settings(path: Path, kind: type[Asked], option: str) -> Asked:
    """Read and check a file that an option of ``lerenet inspect`` names; an empty one says nothing.

    Raises:
        ParamsError: it is missing, or a key is unknown or out of range; the message names file and key.
        DataError: it is no YAML.
    """
    try:
        raw = read_yaml(path)
    except FileNotFoundError as error:
        said = f"name a file of {option} with --{option}"
        raise ParamsError(f"{shown(path)}: not found", said) from error
    try:
        return kind.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise ParamsError(f"{shown(path)}: {explain(error, kind)}", REMEDY) from error
