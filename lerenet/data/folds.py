"""The splits of both questions, and the frozen evaluation episodes with their digest.

*Novel classes*: fold k of the classes is never trained on. *Known classes*: every class is trained on, fold k of their
groups is not (`lerenet.data.groups`, the rule of the enrolment).

Every draw is seeded by (seed, split, role, protocol, shots, query), so adding a class or an image
leaves the supports of other classes as they were.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from lerenet.data.groups import folds_of
from lerenet.errors import DataError
from lerenet.files import atomic_path, read_json, write_json
from lerenet.params import EpisodeSettings, Params
from lerenet.seeds import generator

GROUP_FOLDS = 4  # of the known classes' groups; the splits known0 to known3 each leave one out


class Split(TypedDict):
    """One split: the classes trained on, held out of training to choose weights, tested on.

    ``left_out`` is the fold of groups that is not trained on and tested instead of novel classes; None: no group is.
    """

    base: list[str]
    validation: list[str]
    novel: list[str]
    left_out: int | None


def asked(split: Split) -> list[str]:
    """The classes of a split's test queries."""
    return split["novel"] if split["left_out"] is None else split["base"]


def apart(catalog: pd.DataFrame, split: Split) -> pd.Series:
    """Of each image whether its group is left out, bool, by the catalogue's index."""
    folds = folds_of(catalog["group"].tolist(), GROUP_FOLDS)
    return pd.Series(folds == (-1 if split["left_out"] is None else split["left_out"]), index=catalog.index)


def trained_on(catalog: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The images that may be trained on, as far as groups are concerned."""
    return catalog[~apart(catalog, split)]


def make_splits(catalog: pd.DataFrame, settings: EpisodeSettings, seed: int) -> dict[str, Split]:
    """Split the classes: fold k tests on its own classes, ``all`` on none, ``known<k>`` on groups of all.

    A known split holds no class out: its weights are those of the last epoch, and nothing is chosen.

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
        base = [c for c in seen if c not in held]
        splits[name] = {"base": base, "validation": held, "novel": novel, "left_out": None}
    for fold in range(GROUP_FOLDS):
        known: Split = {"base": sorted(fold_of), "validation": [], "novel": [], "left_out": fold}
        splits[f"known{fold}"] = known
    return splits


def draw_support(
    pool: pd.DataFrame, query: Any, shots: int, key: tuple[object, ...], other_group: bool
) -> list[str]:
    """Draw ``shots`` defect images of the query's class; ``other_group``: none of the query's group.

    Raises:
        DataError: when fewer than ``shots`` images qualify.
    """
    allowed = pool[pool["image"] != query.image]
    if other_group:
        allowed = allowed[allowed["group"] != query.group]
    if len(allowed) < shots:
        raise DataError(
            f"{query.cls}: {len(allowed)} images can support the query {query.image}, {shots} needed"
            + (f" (outside its group {query.group})" if other_group else ""),
            "annotate images of more specimens, or lower episodes.shots in params.yaml",
        )
    rng = generator(*key, query.image)
    return [str(name) for name in rng.choice(allowed["image"].to_numpy(), size=shots, replace=False)]


def _episodes_of(
    queries: pd.DataFrame,
    pool: pd.DataFrame,
    cls: str,
    kind: str,
    shots: int,
    times: int,
    key: tuple[object, ...],
    other_group: bool,
) -> list[dict[str, Any]]:
    """Episodes of a class: queries of a kind from one table, supports from another."""
    pool = pool[(pool["cls"] == cls) & (pool["kind"] == "defect")]
    group_of = dict(zip(pool["image"], pool["group"], strict=True))
    rows = []
    for query in queries[(queries["cls"] == cls) & (queries["kind"] == kind)].itertuples():
        for repeat in range(times):
            support = draw_support(pool, query, shots, (*key, repeat), other_group)
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
        if classes["left_out"] is not None:
            rows += _known_episodes(catalog, split, classes, settings, seed)
            continue
        for role, names in (("test", classes["novel"]), ("validation", classes["validation"])):
            for protocol, times in (("groups", settings.per_query), ("paper", 1)):
                if protocol == "paper" and role != "test":
                    continue
                for shots in settings.shots:
                    for kind in ("defect", "clean") if protocol == "groups" else ("defect",):
                        once = times if kind == "defect" else 1
                        key = (seed, split, role, protocol, shots, kind)
                        for cls in names:
                            drawn = _episodes_of(
                                catalog, catalog, cls, kind, shots, once, key, protocol == "groups"
                            )
                            rows += [
                                {"split": split, "role": role, "protocol": protocol, **row} for row in drawn
                            ]
    episodes = pd.DataFrame(rows)
    episodes.insert(0, "episode", range(len(episodes)))
    return episodes


def _known_episodes(
    catalog: pd.DataFrame, split: str, classes: Split, settings: EpisodeSettings, seed: int
) -> list[dict[str, Any]]:
    """One episode of each image left out, its supports of groups that are not: where its class has so many."""
    known, unseen = trained_on(catalog, classes), catalog[apart(catalog, classes)]
    supports = known[known["kind"] == "defect"].groupby("cls").size()
    rows = []
    for shots in settings.shots:
        for kind in ("defect", "clean"):
            key = (seed, split, "test", "groups", shots, kind)
            for cls in classes["base"]:
                if supports.get(cls, 0) >= shots:
                    drawn = _episodes_of(unseen, known, cls, kind, shots, 1, key, other_group=True)
                    rows += [{"split": split, "role": "test", "protocol": "groups", **row} for row in drawn]
    return rows


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
