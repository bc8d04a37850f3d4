"""A new class: drawn on one photo, seen at once on others, with good parts to decide by, and kept as a draft."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from nicegui import run, ui
from PIL import Image

from lerenet.data.masks import read_mask
from lerenet.data.scaling import resize_image
from lerenet.drawing import draw_overlay
from lerenet.page.canvas import drawing_board
from lerenet.page.photos import Photo
from lerenet.page.uploads import uploads
from lerenet.page.visit import Work, off_loop

if TYPE_CHECKING:
    from lerenet.page.visit import Visit

THUMBNAIL = 320  # pixels
TRIED = 12  # other photos that a drawing is tried on


class EnrolTab:
    """The view and what it holds."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.marked: list[Photo] = []  # photos to draw on; what is drawn on makes an example
        self.good: list[Photo] = []
        self.current: Photo | None = None
        self.asked = 0
        with ui.row().classes("w-full items-start no-wrap-lg"):
            with ui.column().classes("col"):
                uploads(visit, "1. Photos of the defect; mark one, see it on the others", self._took)
                self.canvas, self.board = drawing_board(self.drawn)
            with ui.column().classes("col"):
                self.said = ui.label("").classes("text-caption")
                self.found()
        with ui.row().classes("items-start"):
            uploads(visit, "2. Good parts of the same surface (five or more)", self._took_good)
            with ui.column():
                self.counts = ui.label("")
                self.name = ui.input("3. Name of the kind of defect").classes("w-64")
                ui.button("Keep as a draft", icon="save", on_click=self.keep)
                self.work = Work()
        self.curve = ui.column()
        self._count()

    async def _took(self, photo: Photo) -> None:
        self.marked.append(photo)
        if self.current is None:
            self._show(photo)
        self._count()
        self.found.refresh()
        await off_loop(self.visit.desk.described, photo)  # ahead of the first stroke

    def _took_good(self, photo: Photo) -> None:
        self.good.append(photo)
        self._count()

    def _count(self) -> None:
        drawn = sum(self.visit.desk.photos.mask(photo) is not None for photo in self.marked)
        self.counts.set_text(f"marked examples: {drawn}; good parts: {len(self.good)}")

    def _show(self, photo: Photo) -> None:
        self.current = photo
        self.board.set_visibility(True)
        base = f"/mask/{photo.key}?{time.monotonic_ns()}" if self.visit.desk.photos.mask(photo) else ""
        self.canvas.show(photo, base)

    async def drawn(self) -> None:
        """Something was drawn: try it on the other photos, unless more was drawn meanwhile."""
        self.asked += 1
        number, photo = self.asked, self.current
        self._count()
        if photo is None or self.visit.desk.photos.mask(photo) is None or len(self.marked) < 2:
            return
        began = time.monotonic()
        others = [other for other in self.marked if other is not photo][:TRIED]
        found = await off_loop(self._tried, photo, others)
        if found is not None and number == self.asked:
            self.said.set_text(f"by this one example, in {time.monotonic() - began:.1f} s:")
            self.found.refresh(dict(zip((other.key for other in others), found, strict=True)))

    def _tried(self, photo: Photo, others: list[Photo]) -> list[Image.Image]:
        mask = self.visit.desk.photos.mask(photo)
        assert mask is not None
        marks = self.visit.desk.tried(photo, read_mask(mask), others)
        return [_thumbnail(self.visit, other, marked) for other, marked in zip(others, marks, strict=True)]

    @ui.refreshable_method
    def found(self, marks: dict[str, Image.Image] | None = None) -> None:
        """The other photos, with what is found on them."""
        with ui.row():
            for photo in sorted(self.marked, key=lambda one: one.name):
                if photo is self.current:
                    continue
                with (
                    ui.card()
                    .tight()
                    .classes("w-40 cursor-pointer")
                    .on("click", lambda photo=photo: self._choose(photo))
                ):
                    shown = (marks or {}).get(photo.key)
                    ui.image(shown if shown is not None else f"/photo/{photo.key}").classes(
                        "w-40 h-32"
                    ).props('fit="contain"')
                    ui.label(photo.name).classes("ellipsis text-caption q-px-xs")

    def _choose(self, photo: Photo) -> None:
        self._show(photo)
        self.found.refresh()

    async def keep(self) -> None:
        """Enrol the class as a draft, and show what more examples bought."""
        desk = self.visit.desk
        if self.current is not None and not await self.canvas.kept():
            return
        marked = [photo for photo in self.marked if desk.photos.mask(photo) is not None]
        total = len(marked) + len(self.good)
        name = self.name.value.strip()
        enrolled = await self.work(
            total, desk.draft, name, marked, list(self.good), None, self.work.tick, self.work.stopped
        )
        if enrolled is None:
            return
        point = enrolled.point
        said = (
            "not calibrated: give five good parts or more" if point is None else f"NG above {point.bad:.2f}"
        )
        ui.notify(f"{name}: {len(marked)} examples, {len(self.good)} good parts; {said}", type="positive")
        svg = await run.io_bound(desk.curve_of, name)
        with self.curve:
            self.curve.clear()
            if svg:
                ui.html(svg, sanitize=False)


def _thumbnail(visit: Visit, photo: Photo, marked: np.ndarray) -> Image.Image:
    path = visit.desk.photos.picture(photo.key)
    assert path is not None
    width, height = photo.shown
    factor = THUMBNAIL / max(width, height)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    with Image.open(path) as shown:
        picture = resize_image(np.asarray(shown.convert("RGB")), size)
    mask = Image.fromarray(marked.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return Image.fromarray(draw_overlay(picture, np.asarray(mask) > 0))
