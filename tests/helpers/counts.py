"""Counts of episodes with scores as asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_counts(seed: int = 0, queries: int = 8, per_query: int = 2, quality: float = 0.6) -> pd.DataFrame:
    """Counts of three folds of two classes; a better ``quality`` finds more of each defect."""
    rng = np.random.default_rng(seed)
    rows = []
    for fold in range(3):
        for cls in (f"A{fold}", f"B{fold}"):
            for query in range(queries):
                size = int(rng.integers(50, 400))
                for _ in range(per_query):
                    tp = int(size * np.clip(quality + rng.normal(0, 0.1), 0, 1))
                    fp = int(rng.integers(0, 100))
                    rows.append((f"fold{fold}", cls, f"{cls}/{query}", tp, fp, size - tp, 2000 - size - fp))
    table = pd.DataFrame(rows, columns=["split", "cls", "query", "tp", "fp", "fn", "tn"])
    return table.assign(episode=range(len(table)), kind="defect", protocol="groups", shots=1, model="m")
