"""The catalogue's table: one row an image, as `lerenet.data.cataloguing` makes it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lerenet.errors import DataError

COLUMNS = (
    "image",
    "mask",
    "cls",
    "fold",
    "kind",
    "group",
    "width",
    "height",
    "mask_width",
    "mask_height",
    "mask_binary",
    "foreground",
    "sha256",
    "mask_sha256",
    "phash",
)


def load_catalog(path: Path) -> pd.DataFrame:
    """Read the table of `build_catalog`.

    Raises:
        DataError: the file is missing, no Parquet, or lacks a column.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found", "run `dvc repro catalog`") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a Parquet table: {error}", "run `dvc repro -f catalog`") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}", "run `dvc repro -f catalog`")
    return table
