"""Photos dropped, verdicts and marks on them, what another operating point would call, and files to take along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pandas as pd
from nicegui import ui
from PIL import Image

from lerenet.page.learnt import Calibration
from lerenet.page.photos import Photo
from lerenet.page.uploads import uploads
from lerenet.page.visit import COLOURS, Work, off_loop
from lerenet.predict.inspected import DEFECTS, TABLE, Inspected

if TYPE_CHECKING:
    from lerenet.page.visit import Visit

COCO = "annotations_coco.json"
ORDER = {"NG": 0, "REVIEW": 1, "OK": 2}
COLUMNS = {
    "image": "photo", "class": "class", "area_px": "area px", "length_px": "length px", "width_px": "width px",
    "orientation_deg": "angle °", "highest_probability": "probability",
}  # fmt: skip


class InspectTab:
    """The view and what it shows."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.photos = visit, visit.inspected
        self.rows: list[Inspected] = []
        self.calibrations: dict[str, Calibration | None] = {}
        self.out = visit.folder / "found"
        with ui.row().classes("w-full items-start"):
            uploads(visit, "Photos: drop them here, or choose (+)", self._took)
            with ui.column():
                self.count = ui.label("no photos yet").classes("taken")
                with ui.row():
                    ui.button("Inspect", icon="search", on_click=self.inspect)
                    ui.button("Start anew", icon="clear", on_click=self.clear).props("flat")
                self.work = Work()
        self.threshold()
        self.results()

    def _took(self, photo: Photo) -> None:
        self.photos.append(photo)
        self.count.set_text(f"{len(self.photos)} photos")

    def clear(self) -> None:
        """Begin with no photos."""
        self.photos.clear()
        self.calibrations = {}
        self.rows = []
        self.count.set_text("no photos yet")
        self.results.refresh()
        self.threshold.refresh()

    async def inspect(self) -> None:
        """Inspect all photos; those that are done already are kept."""
        if not self.photos:
            ui.notify("drop photos first", type="warning")
            return
        desk, photos = self.visit.desk, list(self.photos)
        rows = await self.work(len(photos), desk.inspect, photos, self.out, self.work.tick, self.work.stopped)
        if rows is not None:
            self.rows = rows
            names = [one.name for one in rows[0].classes]
            found = await off_loop(lambda: {name: desk.calibration(name) for name in names})
            self.calibrations = found or {}
            self.results.refresh()
            self.threshold.refresh()

    @ui.refreshable_method
    def threshold(self) -> None:
        """What another operating point of a class would call."""
        names = [one.name for one in self.rows[0].classes] if self.rows and self.rows[0].classes else []
        if not names:
            return
        with ui.expansion("Operating point: what would be called?", icon="tune").classes("w-full max-w-3xl"):
            choice = ui.select(names, value=names[0], label="class").classes("w-48")
            said, slider = ui.label(), ui.slider(min=0, max=1, step=0.01).props("label")

            def told() -> None:
                found = self.calibrations.get(choice.value)
                if found is None:
                    said.set_text("nothing is known of this class's own images")
                    return
                good, bad = found.at(slider.value)
                photos = [one.score for row in self.rows for one in row.classes if one.name == choice.value]
                called = sum(score > slider.value for score in photos)
                said.set_text(
                    f"above {slider.value:.2f}: {good} of {len(found.good)} good parts and {bad} of "
                    f"{len(found.defects)} defects, each left out, would be called; so would {called} of these "
                    f"{len(photos)} photos"
                )

            def chosen() -> None:
                found = self.calibrations.get(choice.value)
                if found is not None and len(found.good) + len(found.defects):
                    scores = [*found.good, *found.defects, *([found.point.bad] if found.point else [])]
                    slider.props(f"min={min(scores):.3f} max={max(scores):.3f}")
                    slider.set_value(found.point.bad if found.point else max(found.good, default=max(scores)))
                told()

            choice.on_value_change(chosen)
            slider.on_value_change(told)
            chosen()

    @ui.refreshable_method
    def results(self) -> None:
        """Thumbnails, the worst first, and the table of defects."""
        if not self.rows:
            return
        files = {"Table of photos (CSV)": TABLE, "Table of defects (CSV)": DEFECTS, "COCO": COCO}
        with ui.row():
            for label, name in files.items():
                ui.button(
                    label, icon="download", on_click=lambda name=name: ui.download(self.out / name)
                ).props("flat dense")
        by_path = {str(photo.path): photo for photo in self.photos}
        with ui.row().classes("w-full"):
            for row in sorted(self.rows, key=worst_first):
                self._card(row, by_path.get(row.image))
        table = _defects(self.out / DEFECTS, by_path)
        if len(table):
            ui.table.from_pandas(table, pagination=20).classes("w-full").props("dense")

    def _card(self, row: Inspected, photo: Photo | None) -> None:
        name = photo.name if photo else Path(row.image).name
        with ui.card().tight().classes("w-64"):
            if row.overlay:
                address = (
                    f"/overlay/{self.visit.key}/{quote(row.overlay)}?{row.sha256[:16]}{row.marks_sha256[:16]}"
                )
                ui.image(address).classes("w-64 h-48").props('fit="contain"')
            with ui.card_section().classes("w-full"):
                with ui.row().classes("items-center no-wrap"):
                    ui.badge(row.decision or "error", color=COLOURS.get(row.decision, "grey")).classes(
                        "verdict"
                    )
                    ui.label(name).classes("ellipsis")
                ui.label(row.error or row.reason).classes("text-caption")
                if photo is not None and not row.error:
                    ui.button("Correct", icon="edit", on_click=lambda: self._correct(photo, row)).props(
                        "flat dense"
                    )

    async def _correct(self, photo: Photo, row: Inspected) -> None:
        shares = [one.share for one in row.classes]
        number = int(np.argmax(shares)) if any(shares) else -1  # of the class that marks most
        await off_loop(self._take_marks, photo, row, number + 1)
        await self.visit.open_to_correct(photo, row.classes[number].name if number >= 0 else "")

    def _take_marks(self, photo: Photo, row: Inspected, number: int) -> None:
        """Begin with what one class marks, unless somebody drew on the photo."""
        if photo.key not in self.visit.desk.photos.drawn:
            with Image.open(self.out / row.marks) as marks:
                self.visit.desk.photos.keep(photo, (np.asarray(marks) == number) & (number > 0))


def worst_first(row: Inspected) -> tuple[int, float]:
    """Order of photos: NG first, then by the highest score."""
    return ORDER.get(row.decision, 3), -max((one.score for one in row.classes), default=0.0)


def _defects(path: Path, photos: dict[str, Photo]) -> pd.DataFrame:
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
    names = [
        photos[image].name if image in photos else Path(image).name for image in table["image"].astype(str)
    ]
    return table.assign(image=names)[list(COLUMNS)].rename(columns=COLUMNS).round(2)
