"""Where everything lives, relative to the project's folder."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path("data")
PARAMS = Path("params.yaml")
ARTIFACTS = Path("artifacts")
CATALOG = ARTIFACTS / "catalog.parquet"
PROFILE = ARTIFACTS / "profile.parquet"
VALIDATION = ARTIFACTS / "validation"  # result.json, docs/, run.json
FOLDS = ARTIFACTS / "folds"  # folds.json, episodes.parquet, run.json
FOLDS_VALIDATION = ARTIFACTS / "validation_folds"  # result.json, docs/, run.json
PRETRAIN = ARTIFACTS / "pretrain"  # <split>-<backbone>/
FEATURES = ARTIFACTS / "features"  # <split>-<backbone>/
FLOORS = ARTIFACTS / "floors"  # <fold>-<backbone>/
TRAIN = ARTIFACTS / "train"  # <cell>/
EVALUATE = ARTIFACTS / "evaluate"  # <cell>/
ENROL = ARTIFACTS / "enrol"  # network/, classes/<class>/, metrics.json
INSPECT = ARTIFACTS / "inspect"  # counts.parquet, summary.json, metrics.json
REPORT = ARTIFACTS / "report"
CHECKPOINTS = Path(
    os.environ.get("LERENET_CHECKPOINTS", ".checkpoints")
)  # set where a copy of the project runs
CACHE = Path(os.environ.get("LERENET_CACHE", ".cache"))  # likewise
TABLES = Path("tables")  # <name>/: params.yaml, artifacts/ of a table of the paper
LEDGER = Path("ledger.jsonl")
RESTORING = Path(".restored/manifest.json")  # there from a restore's first move into place to its last
WEIGHTS = "weights.safetensors"  # in a model's folder


def data_md5(project: Path = Path()) -> str:
    """The hash that ``data.dvc`` gives the data, or ``untracked``."""
    import yaml

    try:
        entry = yaml.safe_load((project / DATA.with_suffix(".dvc")).read_text(encoding="utf-8"))
        return str(entry["outs"][0]["md5"])
    except (OSError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return "untracked"
