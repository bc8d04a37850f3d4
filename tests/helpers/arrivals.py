"""Images that arrive after a champion was trained."""

from __future__ import annotations

import numpy as np
import pandas as pd


def catalogue(
    counts: dict[str, int],
    share: float = 0.1,
    width: int = 100,
    brightness: float = 0.5,
    contrast: float = 0.2,
    embedding: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """``n`` images a class, four of five with a defect, each its own group, with a profile."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "image": f"{cls}/Images/{n}.jpg",
            "cls": cls,
            "kind": "clean" if n % 5 == 4 else "defect",
            "group": f"{cls}/{n}",
            "width": width,
            "height": 80,
            "foreground": share * float(rng.uniform(0.5, 1.5)),
            "brightness": brightness + float(rng.normal(0, 0.05)),
            "contrast": contrast + float(rng.normal(0, 0.02)),
            "embedding": embedding + rng.normal(size=4),
            "sha256": f"{cls}{n}",
            "mask_sha256": f"mask{cls}{n}",
        }
        for cls, count in counts.items()
        for n in range(count)
    ]
    measured = ["width", "height", "foreground", "brightness", "contrast", "embedding"]
    return pd.DataFrame(rows, columns=["image", "cls", "kind", "group", *measured, "sha256", "mask_sha256"])


def arrive(old: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """``old`` and, beside it, ``more`` under names, groups and digests of their own."""
    renamed = more.assign(**{name: "new " + more[name] for name in ("image", "group", "sha256")})
    return pd.concat([old, renamed], ignore_index=True)
