"""The registry as it lies in an sqlite file, read without MLflow, which takes seconds to import."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from lerenet.registry.registered import CHAMPION, NAME, Version

WAIT = 5.0  # seconds for another program's lock


class Registry:
    """What an sqlite store says of the registered model.

    Args:
        path: of the store; it is only read.

    Raises:
        sqlite3.OperationalError: another program holds it locked, from any question.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def champion(self) -> str:
        """Number of the version behind the alias; empty without one."""
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        rows = self._ask(query, NAME, CHAMPION)
        return str(rows[0][0]) if rows else ""

    def version(self, number: str) -> Version | None:
        """A version that was not deleted; None without one."""
        query = "SELECT run_id, source, current_stage FROM model_versions WHERE name = ? AND version = ?"
        rows = self._ask(query, NAME, number)
        if not rows or rows[0][2] == "Deleted_Internal":
            return None
        pairs = self._ask(
            "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", NAME, number
        )
        return Version(
            number, {str(key): str(value) for key, value in pairs}, (), str(rows[0][0]), str(rows[0][1])
        )

    def lock_of(self, number: str) -> str | None:
        """Hash of the ``dvc.lock`` of a version; None where there is no such version."""
        version = self.version(number)
        return None if version is None else version.tags.get("lock", "")

    def tags(self) -> Mapping[str, str]:
        """Of the model itself."""
        pairs = self._ask("SELECT key, value FROM registered_model_tags WHERE name = ?", NAME)
        return {str(key): str(value) for key, value in pairs}

    def stage(self, run: str) -> str:
        """``active`` or ``deleted``; empty where there is no such run."""
        rows = self._ask("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", run)
        return str(rows[0][0]) if rows else ""

    def _ask(self, query: str, *values: str) -> list[tuple[str, ...]]:
        if not self.path.is_file():
            return []
        try:
            uri = f"{self.path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=WAIT)) as store:
                return store.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
