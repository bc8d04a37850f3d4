"""Class-disjoint splits, and the frozen evaluation episodes with their digest.

Every draw is seeded by (seed, split, role, protocol, shots, query), so adding a class or an image
leaves the supports of other classes as they were.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from lerenet.errors import DataError
from lerenet.files import atomic_path, read_json, write_json
from lerenet.params import EpisodeSettings, Params
from lerenet.seeds import generator


class Split(TypedDict):
    """The classes of one split: trained on, held out of training to choose weights, tested on."""

    base: list[str]
    validation: list[str]
    novel: list[str]


def make_splits(catalog: pd.DataFrame, settings: EpisodeSettings, seed: int) -> dict[str, Split]:
    """Split the classes: fold k tests on its own classes, ``all`` tests on none.

    Raises:
        DataError: when a split has too few base classes to hold any out.
    """
    fold_of = {str(c): int(f) for c, f in zip(catalog["cls"], catalog["fold"], strict=True)}
    splits: dict[str, Split] = {}
    for name, test in (("fold0", 0), ("fold1", 1), ("fold2", 2), ("all", None)):
        novel = sorted(c for c, fold in fold_of.items() if fold == test)
        seen = sorted(c for c, fold in fold_of.items() if fold != test)
        if len(seen) <= settings.validation_classes:
            raise DataError(
                f"{name}: {len(seen)} base classes, {settings.validation_classes} to hold out",
                "import more classes, or lower episodes.validation_classes in params.yaml",
            )
        chosen = generator(seed, name, "validation").permutation(seen)[: settings.validation_classes]
        held = sorted(map(str, chosen))
        splits[name] = {"base": [c for c in seen if c not in held], "validation": held, "novel": novel}
    return splits


def draw_support(
    pool: pd.DataFrame, query: Any, shots: int, key: tuple[object, ...], apart: bool
) -> list[str]:
    """Draw ``shots`` defect images of the query's class; ``apart``: none of the query's group.

    Raises:
        DataError: when fewer than ``shots`` images qualify.
    """
    allowed = pool[pool["image"] != query.image]
    if apart:
        allowed = allowed[allowed["group"] != query.group]
    if len(allowed) < shots:
        raise DataError(
            f"{query.cls}: {len(allowed)} images can support the query {query.image}, {shots} needed"
            + (f" (outside its group {query.group})" if apart else ""),
            "annotate images of more specimens, or lower episodes.shots in params.yaml",
        )
    rng = generator(*key, query.image)
    return [str(name) for name in rng.choice(allowed["image"].to_numpy(), size=shots, replace=False)]


def _episodes_of(
    catalog: pd.DataFrame, cls: str, kind: str, shots: int, times: int, key: tuple[object, ...], apart: bool
) -> list[dict[str, Any]]:
    members = catalog[catalog["cls"] == cls]
    pool = members[members["kind"] == "defect"]
    group_of = dict(zip(pool["image"], pool["group"], strict=True))
    rows = []
    for query in members[members["kind"] == kind].itertuples():
        for repeat in range(times):
            support = draw_support(pool, query, shots, (*key, repeat), apart)
            rows.append(
                {
                    "kind": kind,
                    "shots": shots,
                    "cls": cls,
                    "query": query.image,
                    "query_group": query.group,
                    "support": support,
                    "support_groups": [group_of[name] for name in support],
                }
            )
    return rows


def make_episodes(
    catalog: pd.DataFrame, splits: dict[str, Split], settings: EpisodeSettings, seed: int
) -> pd.DataFrame:
    """The frozen episodes of every split, one row each (docs/protocol.md gives the columns)."""
    rows: list[dict[str, Any]] = []
    for split, classes in splits.items():
        for role, names in (("test", classes["novel"]), ("validation", classes["validation"])):
            for protocol, times in (("groups", settings.per_query), ("paper", 1)):
                if protocol == "paper" and role != "test":
                    continue
                for shots in settings.shots:
                    for kind in ("defect", "clean") if protocol == "groups" else ("defect",):
                        once = times if kind == "defect" else 1
                        key = (seed, split, role, protocol, shots, kind)
                        for cls in names:
                            drawn = _episodes_of(catalog, cls, kind, shots, once, key, protocol == "groups")
                            rows += [
                                {"split": split, "role": role, "protocol": protocol, **row} for row in drawn
                            ]
    episodes = pd.DataFrame(rows)
    episodes.insert(0, "episode", range(len(episodes)))
    return episodes


def digest_of(episodes: pd.DataFrame, catalog: pd.DataFrame) -> str:
    """32 hex characters that change when an episode, or a file that one names, changes."""
    sha = dict(zip(catalog["image"], catalog["sha256"] + catalog["mask_sha256"], strict=True))
    hasher = hashlib.sha256()
    for row in episodes.to_dict("records"):
        files = [f"{name}:{sha.get(name, '')}" for name in (row["query"], *row["support"])]
        line = [str(row[name]) for name in ("split", "role", "kind", "protocol", "shots", "cls")] + files
        hasher.update("\t".join(line).encode() + b"\n")
    return hasher.hexdigest()[:32]


def build_folds(catalog: pd.DataFrame, params: Params, out: Path) -> dict[str, Any]:
    """Write ``folds.json`` and ``episodes.parquet`` into ``out``; return what folds.json holds."""
    splits = make_splits(catalog, params.episodes, params.seed)
    episodes = make_episodes(catalog, splits, params.episodes, params.seed)
    defects = catalog[catalog["kind"] == "defect"].groupby("cls")
    folds = {
        "splits": splits,
        "digest": digest_of(episodes, catalog),
        "seed": params.seed,
        "episodes": len(episodes),
        "classes": {
            str(cls): {"images": len(rows), "groups": int(rows["group"].nunique())} for cls, rows in defects
        },
    }
    with atomic_path(out / "episodes.parquet") as temporary:
        episodes.to_parquet(temporary, index=False)
    write_json(out / "folds.json", folds)
    return folds


def load_folds(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what `build_folds` wrote."""
    return read_json(folder / "folds.json"), pd.read_parquet(folder / "episodes.parquet")
