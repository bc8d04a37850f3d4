"""Tables for Prefect's page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact


def publish(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Publish a table as a Prefect artifact; nothing when it has no rows."""
    if rows:
        create_table_artifact(table=[dict(row) for row in rows], key=key, description=description)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """``metrics.json`` of every folder inside ``folder``, one row each with its ``key``."""
    rows = []
    for path in sorted(folder.glob("*/metrics.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        flat = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
        rows.append({"key": path.parent.name, **flat})
    return rows
