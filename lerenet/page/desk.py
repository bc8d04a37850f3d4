"""What the page does, without a page: photos inspected, classes drafted, masks tried, versions looked at.

One network and its classes serve all visits; they are opened again when the champion or a draft changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lerenet import layout
from lerenet.data.images import read_image
from lerenet.data.reading import UPRIGHT, Reading
from lerenet.data.scaling import Mask
from lerenet.data.tiles import side_for
from lerenet.enrolment.enrol import Given, enrol_class
from lerenet.enrolment.enrolled import CLASSES, FACTS, READINGS, Enrolled
from lerenet.enrolment.inspect import Inspector, bits_of
from lerenet.enrolment.material import Material
from lerenet.enrolment.trial import Trial
from lerenet.errors import DataError, LerenetError
from lerenet.models.serialization import LoadedNetwork
from lerenet.page.corrections import Corrections
from lerenet.page.learnt import Calibration, calibration, curve_of
from lerenet.page.photos import Photo, Photos
from lerenet.params import EnrolmentSettings, load_params
from lerenet.predict.inspected import Inspected
from lerenet.predict.inspecting import open_inspection, require_new, with_drafts
from lerenet.predict.inspections import Manner, inspect_all
from lerenet.registry.registered import INSPECTION

Tick = Callable[..., None]
WATCHED = (1, 2, 5, 10, 20)  # examples of a draft's learning curve


class Cancelled(Exception):
    """Somebody pressed the button; it says how far the work is."""


class Desk:
    """One network for all visits.

    Args:
        folder: of uploads and answers; it is the page's own.
        model: as `lerenet inspect --model` takes it.
        drafts: folder of enrolled classes.
    """

    def __init__(self, folder: Path, model: str = "champion", drafts: Path = Path("enrolments")) -> None:
        self.folder, self.model, self.drafts = folder, model, drafts
        self._lock = threading.RLock()
        self._opened: tuple[object, LoadedNetwork, list[Enrolled]] | None = None
        self._own: list[Enrolled] = []  # of the opened classes those that the model has
        self._inspector: tuple[object, Inspector] | None = None
        self.photos = Photos(folder / "photos")
        self.corrections = Corrections(self.photos, self.bits)
        self._tried: tuple[LoadedNetwork, Trial] | None = None

    def opened(self) -> tuple[LoadedNetwork, list[Enrolled]]:
        """The network, and the classes of the model and of the drafts; none is an answer, too.

        Raises:
            LerenetError: there is no such model, or it is damaged.
        """
        with self._lock:
            state = self._state()
            if self._opened is None or self._opened[0] != state:
                loaded, classes = open_inspection(self.model)
                drafted = any(self.drafts.glob(f"*/{FACTS}"))
                known = with_drafts(classes, self.drafts) if drafted or classes else []
                self._opened, self._own = (state, loaded, known), classes
            return self._opened[1], self._opened[2]

    def _state(self) -> object:
        """Changes when the champion does, or a draft."""
        drafts = [(str(path), path.stat().st_mtime_ns) for path in sorted(self.drafts.glob(f"*/{FACTS}"))]
        if self.model != "champion":
            return drafts
        from lerenet.registry.versions import champion

        version = champion()
        return (None if version is None else version.number, drafts)

    def inspector(self) -> Inspector:
        """What inspects for every class.

        Raises:
            DataError: no class is known.
            LerenetError: see `opened`.
        """
        with self._lock:
            loaded, classes = self.opened()
            if not classes:
                raise DataError("no class is known yet", "enrol one: mark a defect on a photo")
            assert self._opened is not None
            if self._inspector is None or self._inspector[0] is not self._opened[0]:
                self._inspector = (self._opened[0], Inspector(loaded, classes))
            return self._inspector[1]

    def inspect(
        self,
        photos: Sequence[Photo],
        out: Path,
        tick: Tick,
        stopped: threading.Event,
    ) -> list[Inspected]:
        """As `lerenet inspect`; a call that was cancelled goes on.

        Raises:
            Cancelled: ``stopped`` was set.
            LerenetError: see `inspect_all`.
        """

        def told(done: int = 1, note: str | None = None) -> None:
            tick(done)
            if stopped.is_set():
                raise KeyboardInterrupt

        manner = Manner(probability=True, formats=("coco",))
        try:
            return inspect_all(self.inspector(), [photo.path for photo in photos], out, manner, told)
        except KeyboardInterrupt as error:
            raise Cancelled(str(error)) from None

    def calibration(self, name: str) -> Calibration | None:
        """What the operating point of a class stands on; None where its files say nothing."""
        loaded, classes = self.opened()
        one = next((one for one in classes if one.name == name), None)
        folders = (
            Path(loaded.source) / INSPECTION / CLASSES,
            Path(self.model) / CLASSES,
            self.drafts,
        )  # as inspected
        folder = next((path / name for path in folders if (path / name / READINGS).is_file()), None)
        if one is None or folder is None:
            return None
        return calibration(folder, one)

    def tried(self, photo: Photo, mask: Mask, others: Sequence[Photo]) -> list[NDArray[np.bool_]]:
        """What one example, the photo with what is drawn on it, marks on the others, (h, w) as they are worked on."""
        photos = [photo, *others]
        side = side_for([(one.height, one.width) for one in photos])
        trial = self._trial()
        drawn, *asked = (_described(trial, one, side) for one in photos)
        return trial.marks(drawn, mask, asked)

    def described(self, photo: Photo) -> Material:
        """A photo's descriptors at the scale of its own shape, which are kept."""
        return _described(self._trial(), photo, side_for([(photo.height, photo.width)]))

    def _trial(self) -> Trial:
        with self._lock:
            loaded, _ = self.opened()
            if self._tried is None or self._tried[0] is not loaded:
                self._tried = (loaded, Trial(loaded))
            return self._tried[1]

    def draft(
        self,
        name: str,
        marked: Sequence[Photo],
        good: Sequence[Photo],
        side: int | None = None,
        tick: Tick | None = None,
        stopped: threading.Event | None = None,
    ) -> Enrolled:
        """As `lerenet enrol`, from photos that are marked and good ones.

        Raises:
            Cancelled: ``stopped`` was set; nothing was kept.
            DataError: a photo without a mark; a class that the model knows; see `enrol_class`.
        """
        pairs = []
        for photo in marked:
            mask = self.photos.mask(photo)
            if mask is None:
                raise DataError(f"{photo.name}: nothing is marked on it", "draw on it, or take it out")
            pairs.append((photo.path, [mask]))
        loaded, _ = self.opened()
        require_new(name, self._own)
        given = Given(pairs, [photo.path for photo in good], Reading(self.bits(), drawn_on=UPRIGHT))

        def told(done: int = 1, note: str | None = None) -> None:
            if tick is not None:
                tick(done)
            if stopped is not None and stopped.is_set():
                raise Cancelled("nothing was kept")

        return enrol_class(name, given, loaded, self.drafts, EnrolmentSettings(curve=WATCHED), side, told)

    def bits(self) -> int:
        """Those that the known classes' camera uses of 16-bit values; 0: nobody said."""
        with suppress(LerenetError):
            return bits_of(self.opened()[1])
        return 0

    def curve_of(self, name: str) -> str:
        """SVG: what more examples of a draft bought."""
        return curve_of(self.drafts / name)

    def verdict(self, number: str) -> str:
        """As `lerenet verdict`: HTML."""
        from lerenet.report.verdict import page_of

        return page_of(number, load_params(layout.PARAMS))


def _described(trial: Trial, photo: Photo, side: int) -> Material:
    return trial.described(photo.key, side, lambda: read_image(photo.path))
