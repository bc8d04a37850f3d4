"""One visit: the page's frame and its four tabs, and what they share."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from nicegui import run, ui

from lerenet.errors import LerenetError
from lerenet.page.desk import Cancelled, Desk
from lerenet.page.photos import Photo

T = TypeVar("T")
log = logging.getLogger(__name__)
COLOURS = {"NG": "red-8", "REVIEW": "orange-8", "OK": "green-8"}


class Visit:
    """What one browser works on."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.key = secrets.token_hex(16)
        self.folder = desk.folder / "visits" / self.key
        self.inspected: list[Photo] = []
        self.taken: list[Photo] = []

    def build(self) -> None:
        """Lay the page out."""
        from lerenet.page.correct_tab import CorrectTab
        from lerenet.page.enrol_tab import EnrolTab
        from lerenet.page.inspect_tab import InspectTab
        from lerenet.page.models_tab import ModelsTab

        ui.context.client.on_delete(self.end)
        ui.colors(primary="#1f4e79")
        ui.add_css(".q-uploader__list { display: none }")  # photos are shown where they are worked on
        with ui.header().classes("items-center q-py-xs"):
            ui.label("lerenet").classes("text-h6")
            with ui.tabs().props("inline-label dense no-caps") as tabs:
                names = [ui.tab(name, icon=icon) for name, icon in TABS.items()]
        with ui.tab_panels(tabs, value=names[0]).classes("w-full"):
            with ui.tab_panel(names[0]):
                self.inspect = InspectTab(self)
            with ui.tab_panel(names[1]):
                self.enrol = EnrolTab(self)
            with ui.tab_panel(names[2]):
                self.correct = CorrectTab(self)
            with ui.tab_panel(names[3]):
                self.models = ModelsTab(self)
        self.tabs = tabs

    def end(self) -> None:
        """The browser is gone for good: so are its photos and answers."""
        self.desk.photos.drop(self.taken)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def open_to_correct(self, photo: Photo, cls: str = "") -> None:
        """Show a photo, with what is marked on it, where masks are corrected."""
        await self.correct.show(photo, cls)
        self.tabs.set_value("Correct")


TABS = {"Inspect": "search", "Enrol": "add_a_photo", "Correct": "edit", "Models": "inventory_2"}


def tell(error: LerenetError) -> None:
    """Say what is wrong and what to do; as text, whatever a file is called."""
    ui.notify(in_words(error), type="negative", multi_line=True, timeout=10_000)


def in_words(error: LerenetError) -> str:
    """What is wrong and what to do, in one line."""
    return "; ".join(filter(None, (error.what, error.remedy)))


async def off_loop(
    work: Callable[..., T], *given: Any, told: Callable[[LerenetError], None] = tell
) -> T | None:
    """Do work in a thread of its own; where it is cancelled or goes wrong, that is told, and None comes back."""
    try:
        return await run.io_bound(work, *given)
    except Cancelled as error:
        ui.notify(str(error) or "cancelled", type="warning")
    except LerenetError as error:
        told(error)
    except Exception:
        log.exception("on the page")
        ui.notify("something went wrong; the page's log says what", type="negative")
    return None


class Work:
    """A bar, its words, and a button that stops: one long piece of work at a time."""

    def __init__(self) -> None:
        self.stopped, self.done, self.total, self.busy = threading.Event(), 0, 1, False
        with ui.row().classes("items-center w-full") as self.row:
            self.bar = ui.linear_progress(0, show_value=False).classes("w-64")
            self.words = ui.label("")
            ui.button("Cancel", on_click=self.stopped.set).props("flat dense")
        self.row.set_visibility(False)
        ui.timer(0.3, self._show)

    def tick(self, done: int = 1, note: str | None = None) -> None:
        """So much more is done; called from any thread."""
        self.done += done

    def _show(self) -> None:
        self.row.set_visibility(self.busy)
        self.bar.set_value(min(1.0, self.done / max(1, self.total)))
        self.words.set_text(f"{self.done} of {self.total}")

    async def __call__(self, total: int, work: Callable[..., T], *given: Any) -> T | None:
        """Do it; None where it was cancelled or can't be done, which is told."""
        if self.busy:
            ui.notify("something is under way", type="warning")
            return None
        self.stopped.clear()
        self.done, self.total, self.busy = 0, total, True
        try:
            return await off_loop(work, *given)
        finally:
            self.busy = False
