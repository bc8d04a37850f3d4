"""What MLflow knows of the data: where they are from, their columns, how many there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lerenet import layout
from lerenet.errors import TrackingError

MAX_DIGEST = 36  # characters
KINDS = {
    "int64": "long",
    "float64": "double",
    "bool": "boolean",
}  # of pandas, as MLflow names them; else text


def check_digest(name: str, digest: str) -> None:
    """Refuse a digest that MLflow would cut.

    Raises:
        TrackingError: it is longer than `MAX_DIGEST`, or nothing is known of such a dataset.
    """
    if name not in MAKERS:
        raise TrackingError(f"dataset {name!r}: unknown", f"known: {', '.join(MAKERS)}")
    if len(digest) > MAX_DIGEST:
        raise TrackingError(f"dataset {name}: digest {digest!r} has more than {MAX_DIGEST} characters")


def data(digest: str) -> Any:
    """The images as DVC keeps them: an `mlflow.entities.Dataset` with the catalogue's columns."""
    return _dataset("data", digest[:MAX_DIGEST], layout.DATA, layout.CATALOG)


def episodes(digest: str) -> Any:
    """The frozen evaluation episodes."""
    path = layout.FOLDS / "episodes.parquet"
    return _dataset("episodes", digest, path, path)


MAKERS: dict[str, Callable[[str], Any]] = {"data": data, "episodes": episodes}


def _dataset(name: str, digest: str, source: Path, table: Path) -> Any:
    from mlflow.entities import Dataset

    where = json.dumps({"uri": source.as_posix(), "tracked_by": "dvc"})
    schema, profile = _shape(table)
    return Dataset(name, digest, "dvc", where, schema, profile)


def _shape(table: Path) -> tuple[str | None, str | None]:
    """Columns and rows of a Parquet file as MLflow writes them; none while it isn't there."""
    import pandas as pd

    if not table.is_file():
        return None, None
    rows = pd.read_parquet(table)
    columns = [
        {"name": str(column), "type": KINDS.get(str(kind), "string"), "required": True}
        for column, kind in rows.dtypes.items()
    ]
    profile = {"num_rows": len(rows), "num_elements": int(rows.size)}
    if "cls" in rows:
        profile["num_classes"] = int(rows["cls"].nunique())
    return json.dumps({"mlflow_colspec": columns}), json.dumps(profile)
