"""The element in which a mask is drawn, with its tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from lerenet.page.photos import Photo

TOOLS = ["brush", "eraser", "rectangle"]
HELP = "B brush, E eraser, R rectangle, [ ] size, + - 0 zoom, Ctrl+Z undo"


class Canvas(ui.element, component="canvas.js"):
    """A photo with what is drawn on it; ``on_drawn`` is told when the server has it."""

    def __init__(self, on_drawn: Callable[[], Any]) -> None:
        super().__init__()
        self._props["label"] = "Photo to draw on. " + HELP
        self._props |= {"src": "", "base": "", "target": "", "width": 1, "height": 1}
        self.on(
            "drawn",
            lambda event: on_drawn() if event.args.get("ok") else ui.notify("not saved", type="negative"),
        )

    async def kept(self) -> bool:
        """Whether the server has all that was drawn, once it has."""
        try:
            kept = bool(await self.run_method("flush", timeout=60))
        except TimeoutError:
            kept = False
        if not kept:
            ui.notify("the drawing is not saved yet: try again", type="warning")
        return kept

    def show(self, photo: Photo, base: str = "") -> None:
        """Show a photo, with the mask at the address ``base`` to go on from."""
        width, height = photo.shown
        self._props |= {
            "src": f"/photo/{photo.key}", "base": base, "target": f"/mask/{photo.key}",
            "width": width, "height": height,
        }  # fmt: skip
        self.update()


def drawing_board(on_drawn: Callable[[], Any]) -> tuple[Canvas, ui.column]:
    """Tools, canvas and help, out of sight until a photo is shown."""
    with ui.column().classes("w-full gap-1") as board:
        tools = ui.row().classes("items-center gap-2")
        canvas = Canvas(on_drawn).classes("w-full")
        with tools:
            drawing_tools(canvas)
        ui.label(HELP).classes("text-caption text-grey")
    board.set_visibility(False)
    return canvas, board


def drawing_tools(canvas: Canvas, size: int = 20) -> None:
    """The tools of a canvas."""
    with ui.row().classes("items-center gap-2"):
        tools = ui.toggle(TOOLS, value="brush").props("dense no-caps")
        tools.on_value_change(lambda event: canvas.run_method("set_tool", event.value))
        canvas.on("picked", lambda event: tools.set_value(event.args["tool"]))
        ui.label("size")
        slider = ui.slider(min=1, max=200, value=size).props("label").classes("w-32")
        slider.on_value_change(lambda event: canvas.run_method("set_size", event.value))
        canvas.on("sized", lambda event: slider.set_value(event.args["size"]))
        for icon, said, call in (
            ("undo", "Undo (Ctrl+Z)", lambda: canvas.run_method("undo")),
            ("zoom_in", "Zoom in (+)", lambda: canvas.run_method("scale", 1.25)),
            ("zoom_out", "Zoom out (-)", lambda: canvas.run_method("scale", 0.8)),
            ("fit_screen", "Fit (0)", lambda: canvas.run_method("fit")),
            ("delete", "Clear", lambda: canvas.run_method("clear")),
        ):
            ui.button(icon=icon, on_click=call).props(f'flat dense aria-label="{said}"').tooltip(said)
