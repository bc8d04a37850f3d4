"""Where photos are dropped: those that can be used are taken, the others are named until somebody has read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nicegui import events, ui

from lerenet.errors import DataError, LerenetError
from lerenet.page.photos import LARGEST, Photo
from lerenet.page.visit import in_words, off_loop
from lerenet.predict.queries import ENDINGS

if TYPE_CHECKING:
    from lerenet.page.visit import Visit

TOO_LARGE = """(files) => {
    const large = files.filter((one) => one.failedPropValidation === "max-file-size");
    if (large.length) emit(large.map((one) => one.file.name));
}"""
LOST = "(info) => emit(info.files.map((file) => file.name))"
EMPTIED = (
    "() => getElement({}).$refs.qRef.reset()"  # a photo that stays in its list is refused when it comes again
)


class Folder(ui.element, component="folder.js"):
    """A button for a whole folder, beside a field for photos; one that is dropped there is taken, too."""

    def __init__(self, field: ui.upload) -> None:
        super().__init__()
        self._props |= {"field": field.id, "endings": list(ENDINGS)}
        self.on("given", lambda event: _none_in(event.args["files"]) if not event.args["photos"] else None)


def _none_in(files: int) -> None:
    ui.notify(f"no photo in that folder, of {files} files", type="warning")


class Refused:
    """Files that can't be used, each by name; they stay to be read until they are taken away."""

    def __init__(self) -> None:
        with ui.row().classes("w-full items-start no-wrap") as self.box:
            self.lines = ui.column().classes("col gap-1 max-h-48 overflow-auto no-wrap")
            ui.button(icon="close", on_click=self.clear).props('flat dense aria-label="Take these away"')
        self.box.set_visibility(False)

    def tell(self, error: LerenetError) -> None:
        """Add one; as text, whatever the file is called."""
        with self.lines:
            ui.label(in_words(error)).classes("refused text-caption text-negative").style(
                "overflow-wrap: anywhere"
            )
        self.box.set_visibility(True)

    def tell_each(self, names: list[str], what: str, remedy: str) -> None:
        """Add the same of several files."""
        for name in names:
            self.tell(DataError(f"{name}: {what}", remedy))

    def clear(self) -> None:
        """Take them away."""
        self.lines.clear()
        self.box.set_visibility(False)


def uploads(visit: Visit, label: str, took: Callable[[Photo], Any], multiple: bool = True) -> None:
    """Where photos are dropped; ``took`` is told each that can be used."""

    async def handle(event: events.UploadEventArguments) -> None:
        name, content, desk = event.file.name, await event.file.read(), visit.desk
        photo = await off_loop(lambda: desk.photos.take(name, content, desk.bits()), told=refused.tell)
        if photo is not None:
            visit.taken.append(photo)
            answer = took(photo)
            if answer is not None:
                await answer

    def too_large(event: events.GenericEventArguments) -> None:
        refused.tell_each(event.args, f"over {LARGEST // 1_000_000} MB", "crop or scale it down")

    def lost(event: events.GenericEventArguments) -> None:
        refused.tell_each(event.args, "did not arrive", "drop it again")

    with ui.column().classes("w-full max-w-md gap-1"):
        field = ui.upload(
            label=label, multiple=multiple, auto_upload=True, max_file_size=LARGEST, on_upload=handle
        )
        if multiple:
            Folder(field)
        refused = Refused()
    field.props("flat bordered").classes("w-full")
    field.on("rejected", too_large, js_handler=TOO_LARGE)
    field.on("failed", lost, js_handler=LOST)
    field.on("finish", js_handler=EMPTIED.format(field.id))
