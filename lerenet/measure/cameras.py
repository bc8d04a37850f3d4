"""What is known of the cameras that photos come from: a YAML file, checked before any photo is read.

A photo is of the first camera whose pattern fits its path; one that none fits is read as the command line says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from lerenet.data.masks import read_mask
from lerenet.data.scaling import Mask
from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.measure.regions import Region
from lerenet.measure.rules import Name
from lerenet.measure.settings import read_settings
from lerenet.params import Settings


class Camera(Settings):
    """One camera.

    Attributes:
        photos: pattern of its photos' paths, as a shell has them, from the right: ``line1/*.png``, ``*_top.*``.
        bits: that it uses of 16-bit values, 8 to 16; 0: by the values.
        scale: how many of its pixels are one of those that the classes were learnt from, along a side.
        mm_per_pixel: side of a pixel on the part.
        region: the rectangle that is inspected.
        mask: file of a mask in the photos' shape; what is white is inspected. A relative path is beside the file.
    """

    photos: Annotated[str, Field(min_length=1)]
    bits: Annotated[int, Field(ge=0, le=16)] | None = None
    scale: Annotated[float, Field(ge=0.05, le=20)] | None = None
    mm_per_pixel: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    region: Region | None = None
    mask: Path | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Camera:
        if self.bits and self.bits < 8:
            raise ValueError("bits: 8 to 16, or 0")
        if self.region is not None and self.mask is not None:
            raise ValueError("a region or a mask, not both")
        return self

    def within(self, height: int, width: int) -> Mask | None:
        """The pixels of a photo that are inspected, (H, W); None: all.

        Raises:
            DataError: the mask can't be read, is of another shape, or nothing would be inspected.
        """
        if self.region is None and self.mask is None:
            return None
        if self.mask is not None:
            inside = read_mask(self.mask)
            if inside.shape != (height, width):
                raise DataError(
                    f"{shown(self.mask)}: {inside.shape[1]} x {inside.shape[0]} pixels, the photo {width} x {height}",
                    "give the camera a mask in the shape of its photos, or a region",
                )
        else:
            assert self.region is not None
            inside = np.zeros((height, width), bool)
            inside[self.region.inside(height, width)] = True
        if not inside.any():
            raise DataError(f"{self.photos}: the camera's region holds no pixel", "make it larger")
        return inside


class Cameras(Settings):
    """A whole file."""

    cameras: dict[Name, Camera] = Field(default_factory=dict)

    def of(self, photo: Path) -> Camera | None:
        """The camera that a photo is of."""
        return next((one for one in self.cameras.values() if photo.match(one.photos)), None)

    def said(self) -> list[str]:
        """All that decides how photos are read: the settings, and the masks' bytes."""
        masks = [one.mask for one in self.cameras.values() if one.mask is not None]
        return [self.model_dump_json(), *(sha256_file(mask) for mask in masks)]

    def sizes(self, photos: Sequence[Path]) -> bool:
        """Whether the camera of each photo says how large its pixels are."""
        cameras = [self.of(photo) for photo in photos]
        return all(one is not None and one.mm_per_pixel is not None for one in cameras)


def load_cameras(path: Path) -> Cameras:
    """Read and check a file of cameras.

    Raises:
        ParamsError: it is missing, or a key is unknown or out of range; the message names file and key.
        DataError: it is no YAML, or a mask is missing or can't be read.
    """
    found = read_settings(path, Cameras, "cameras")
    cameras = {
        name: one if one.mask is None else one.model_copy(update={"mask": path.parent / one.mask})
        for name, one in found.cameras.items()
    }
    for one in cameras.values():
        if one.mask is not None:
            read_mask(one.mask)
    return Cameras(cameras=cameras)
