"""The registered versions, what the gate said of each, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from lerenet.page.visit import off_loop

if TYPE_CHECKING:
    from lerenet.page.visit import Visit


class ModelsTab:
    """The view; what watches the ledger tells it to look."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.rows: list[tuple[str, str, str, str]] | None = None
        with ui.row():
            ui.button("Look again", icon="refresh", on_click=self.look).props("flat")
            ui.button("Roll back...", icon="undo", on_click=self.ask).props("outline color=negative")
        self.versions()

    async def look(self) -> None:
        """Read the registry anew."""
        self.rows = await off_loop(listed)
        self.versions.refresh()

    @ui.refreshable_method
    def versions(self) -> None:
        """A row a version."""
        if not self.rows:
            ui.label("no version is registered yet: run the retraining" if self.rows is not None else "…")
            return
        with ui.grid(columns="auto auto 1fr auto").classes("items-center gap-x-6"):
            for head in ("version", "", "verdict", ""):
                ui.label(head).classes("text-weight-bold")
            for number, alias, verdict, judged in self.rows:
                ui.label(number)
                ui.badge(alias, color="green-8") if alias else ui.label("")
                ui.label(verdict)
                if judged:
                    ui.link("pictures", f"/verdict/{number}", new_tab=True)
                else:
                    ui.label("")

    def ask(self) -> None:
        """Ask before anything changes."""
        with ui.dialog() as dialog, ui.card():
            ui.label("Make the champion's predecessor champion again?")
            reason = ui.input("why").classes("w-80")
            with ui.row():
                ui.button("Roll back", on_click=lambda: dialog.submit(reason.value)).props("color=negative")
                ui.button("Leave it", on_click=lambda: dialog.submit(None)).props("flat")
        self._ask(dialog)

    def _ask(self, dialog: ui.dialog) -> None:
        async def answered() -> None:
            reason = await dialog
            if reason is None:
                return
            if not reason.strip():
                ui.notify("say why: the ledger keeps it", type="warning")
                return
            done = await off_loop(roll_back, reason.strip())
            if done is not None:
                ui.notify(done, type="positive")
                await self.look()

        ui.timer(0, answered, once=True)


def listed() -> list[tuple[str, str, str, str]]:
    """Number, alias, verdict in words, and whether it was judged, of each version, newest first."""
    from lerenet.registry import ledger
    from lerenet.registry.versions import versions

    said = {}
    for entry in ledger.read():
        if entry.get("verdict"):
            reasons = entry["verdict"]["reasons"]
            said[entry["version"]] = f"{entry['outcome']}: {'; '.join(reasons)}"
    return [
        (
            one.number,
            " ".join(one.aliases),
            said.get(one.number, "not judged"),
            "yes" if one.number in said else "",
        )
        for one in versions()
    ]


def roll_back(reason: str) -> str:
    """As `lerenet rollback`."""
    from lerenet.registry.promote import rollback
    from lerenet.tracking.machine import user

    done = rollback(operator=user(), reason=reason)
    return f"champion: version {done.before} to version {done.after}"
