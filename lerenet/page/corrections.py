"""Photos into the data: a mask that is drawn or corrected, or a good part, by the calls of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lerenet import layout
from lerenet.data.dataset import read_dataset
from lerenet.data.importing.adding import Given, add_image
from lerenet.data.importing.already import masks_of
from lerenet.data.masks import read_mask
from lerenet.data.reading import UPRIGHT, Reading
from lerenet.errors import DataError
from lerenet.page.photos import Photo, Photos
from lerenet.page.saved import Saved
from lerenet.params import ValidationSettings, load_params


class Corrections:
    """What all visits hand in.

    Args:
        photos: with what is drawn on them.
        bits: says how many the camera uses of 16-bit values; 0: nobody said.
    """

    def __init__(self, photos: Photos, bits: Callable[[], int]) -> None:
        self.photos, self.bits, self.saved = photos, bits, Saved()

    def begin(self, photo: Photo, cls: str) -> tuple[str, str]:
        """Begin with what the data have of a photo, unless somebody drew on it.

        Args:
            cls: the class that is asked for; another one that has the photo where this one hasn't.

        Returns:
            The class, and in words what the data have; empty where they don't have the photo.

        Raises:
            DataError: see `masks_of`; or the mask there is damaged.
        """
        known = masks_of(layout.DATA, photo.path, self.bits())
        if not known:
            return cls, ""
        cls = cls if cls in known else next(iter(known))
        mask = known[cls]
        if photo.key not in self.photos.drawn:
            none = np.zeros((photo.height, photo.width), bool)
            self.photos.keep(photo, none if mask is None else read_mask(mask))
        there = ", ".join(f"{name} ({'marked' if path else 'good part'})" for name, path in known.items())
        return cls, f"in the data already: {there}; saving replaces what its class has"

    def hand_in(self, photo: Photo, cls: str, good: bool, group: str, by: str) -> str:
        """As `lerenet data add`: the photo with its mask, or as a good part.

        Pixels that the data ignore stay to be ignored where nothing is drawn on them.

        Raises:
            DataError: see `add_image` and `Saved.saving`; nothing was changed then.
        """
        mask = None if good else self.photos.mask(photo)
        if not good and mask is None:
            raise DataError(
                f"{photo.name}: nothing is marked on it", "draw on it, or say that it is a good part"
            )
        limits = load_params(layout.PARAMS).validation if layout.PARAMS.exists() else ValidationSettings()
        named = _linked(photo.path, photo.path.with_name(photo.name))
        reading = Reading(self.bits(), drawn_on=UPRIGHT)
        given = Given(cls, named, [mask] if mask else [], group, by, reading, keep_ignored=True)
        with self.saved.saving(photo, cls, by):
            return add_image(layout.DATA, given, limits)

    def data_classes(self) -> list[str]:
        """Classes of the data folder."""
        dataset = read_dataset(layout.DATA) if layout.DATA.exists() else None
        return [] if dataset is None else sorted(name for fold in dataset.folds for name in fold)


def _linked(path: Path, name: Path) -> Path:
    """A file under the name that the inspector knows, where a file may be called so."""
    try:
        if not name.exists():
            name.hardlink_to(path)
        return name
    except OSError:
        return path
