"""A mask repaired, or a part called good: it goes into the data, and the page tells what the gate said of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nicegui import run, ui

from lerenet.errors import LerenetError
from lerenet.page.canvas import drawing_board
from lerenet.page.photos import Photo
from lerenet.page.uploads import uploads
from lerenet.page.visit import off_loop, tell
from lerenet.tracking.machine import user

if TYPE_CHECKING:
    from lerenet.page.visit import Visit

LOOK = 5.0  # seconds between two looks at the ledger
NEWEST = 5  # decisions that are shown


class CorrectTab:
    """The view and the photo that it shows."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.photo: Photo | None = None
        self.said: list[str] | None = None
        with ui.row().classes("w-full items-start"):
            with ui.column().classes("col"):
                uploads(visit, "A photo to mark or to correct", self.show, multiple=False)
                self.title = ui.label("")
                self.known = ui.label("").classes("text-caption")
                self.canvas, self.board = drawing_board(lambda: None)
            with ui.column().classes("w-80"):
                self.classes = _classes(visit)
                self.cls = ui.select(self.classes, label="class").classes("w-64")
                self.group = ui.input("part (photos of one part share it)").classes("w-64")
                self.by = ui.input("who says so", value=user()).classes("w-64")
                ui.button("Save the mask", icon="save", on_click=lambda: self.hand_in(good=False))
                ui.button("It is a good part", icon="check", on_click=lambda: self.hand_in(good=True)).props(
                    "outline"
                )
                ui.separator()
                ui.label("What became of it").classes("text-subtitle1")
                self.decisions()
        ui.timer(LOOK, self._look)

    async def show(self, photo: Photo, cls: str = "") -> None:
        """Show a photo, with its mask if it has one, for a class if the data have it."""
        begun = await off_loop(self.visit.desk.corrections.begin, photo, cls or self.cls.value or "")
        cls, words = begun or (cls, "")
        self.photo = photo
        if cls in self.classes:
            self.cls.set_value(cls)
        self.known.set_text(words)
        self.title.set_text(f"{photo.name}, {photo.width} x {photo.height}")
        self.board.set_visibility(True)
        base = f"/mask/{photo.key}?{time.monotonic_ns()}" if self.visit.desk.photos.mask(photo) else ""
        self.canvas.show(photo, base)

    async def hand_in(self, good: bool) -> None:
        """Into the data, whole or not at all."""
        if self.photo is None or not self.cls.value:
            ui.notify("choose a photo and a class", type="warning")
            return
        if not await self.canvas.kept():
            return
        given = (
            self.photo,
            self.cls.value,
            good,
            self.group.value.strip(),
            self.by.value.strip() or "unknown",
        )
        name = await off_loop(self.visit.desk.corrections.hand_in, *given)
        if name is not None:
            ui.notify(f"saved as {name}; services that run retrain with it", type="positive", timeout=8000)

    async def _look(self) -> None:
        said = await run.io_bound(newest_decisions)
        if said != self.said:
            self.said = said
            self.decisions.refresh()
            await self.visit.models.look()

    @ui.refreshable_method
    def decisions(self) -> None:
        """The gate's newest words."""
        for line in self.said or ["nothing was decided yet"]:
            ui.label(line).classes("text-caption")


def _classes(visit: Visit) -> list[str]:
    try:
        return visit.desk.corrections.data_classes()
    except LerenetError as error:
        tell(error)
        return []


def newest_decisions() -> list[str]:
    """The last decisions of the ledger, newest first, in words."""
    from lerenet.registry import ledger

    try:
        made = [entry for entry in ledger.read() if entry.get("version")]
    except LerenetError as error:
        return [str(error)]
    lines = []
    for entry in reversed(made[-NEWEST:]):
        reasons = (entry.get("verdict") or {}).get("reasons") or []
        words = f": {reasons[0]}" if reasons else ""
        lines.append(
            f"{entry.get('time', '')[:16]} version {entry['version']}: {entry.get('outcome', '')}{words}"
        )
    return lines
