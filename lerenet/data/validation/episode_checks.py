"""What the folds and the frozen episodes must satisfy: no leak between classes, groups or roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from lerenet.data.folds import apart, asked, digest_of
from lerenet.data.validation.catalog_checks import (
    ANY,
    TEXT,
    WHOLE,
    Check,
    Suite,
    between,
    equal,
    in_set,
    is_null,
    schema,
    unique,
)

COLUMNS: Mapping[str, str] = {
    "split": TEXT,
    "role": TEXT,
    "kind": TEXT,
    "protocol": TEXT,
    "shots": WHOLE,
    "episode": WHOLE,
    "cls": TEXT,
    "query": TEXT,
    "query_group": TEXT,
    "support": ANY,
    "support_groups": ANY,
}
AGAIN = "draw the episodes again: `dvc repro --force folds`"
ROLES = ("base", "validation", "novel")


def episode_schema(episodes: pd.DataFrame) -> Suite:
    """The columns of episodes.parquet and their types."""
    return schema("episodes-schema", episodes, COLUMNS, AGAIN)


def split_frame(folds: Mapping[str, Any], catalog: pd.DataFrame) -> pd.DataFrame:
    """One row a split and class: entry, split, cls, roles (how often it is named), unknown, misplaced."""
    fold_of: dict[str, int] = dict(zip(catalog["cls"], catalog["fold"], strict=True))
    table = []
    for split, roles in folds["splits"].items():
        named = [(cls, role) for role in ROLES for cls in roles.get(role, [])]
        for cls in sorted({cls for cls, _ in named} | set(fold_of)):
            mine = [role for name, role in named if name == cls]
            novel = split == f"fold{fold_of.get(cls)}"
            wrong = mine != [] and ("novel" in mine) != novel
            told = f"{' and '.join(mine)}, but in fold {fold_of.get(cls)}"
            table.append(
                {
                    "entry": f"{split}/{cls}",
                    "split": split,
                    "cls": cls,
                    "roles": len(mine),
                    "unknown": cls if cls not in fold_of else None,
                    "misplaced": told if wrong and cls in fold_of else None,
                }
            )
    frame = pd.DataFrame(table, columns=["entry", "split", "cls", "roles", "unknown", "misplaced"])
    return frame.astype({"unknown": object, "misplaced": object})


def _first(values: list[str]) -> str | None:
    return ", ".join(values[:5]) or None


def _offences(
    row: Any, cls: Mapping[str, str], kind: Mapping[str, str], group: Mapping[str, str]
) -> dict[str, Any]:
    support = [str(name) for name in row.support]
    catalogued = [name for name in support if name in cls]
    return {
        "support_length": len(support),
        "unknown": _first([name for name in (row.query, *support) if name not in cls]),
        "query_in_support": row.query if row.query in support else None,
        "repeated": _first(sorted({name for name in support if support.count(name) > 1})),
        "foreign": _first([name for name in catalogued if cls[name] != row.cls]),
        "clean_support": _first([name for name in catalogued if kind[name] != "defect"]),
        "true_group": group.get(row.query, row.query_group),
        "true_cls": cls.get(row.query, row.cls),
        "true_kind": kind.get(row.query, row.kind),
        "shared_group": _first(
            [name for name in catalogued if row.protocol == "groups" and group[name] == group.get(row.query)]
        ),
    }


def episode_frame(folds: Mapping[str, Any], episodes: pd.DataFrame, catalog: pd.DataFrame) -> pd.DataFrame:
    """The episodes with a column for each offence: null, or the image keys that offend."""
    by_image = catalog.drop_duplicates("image").set_index("image")
    cls, kind, group = (cast("dict[str, str]", by_image[name].to_dict()) for name in ("cls", "kind", "group"))
    listed: list[Any] = list(episodes.itertuples())
    table = pd.DataFrame([_offences(row, cls, kind, group) for row in listed], index=episodes.index)
    frame = pd.concat([episodes.drop(columns=["support", "support_groups"]), table], axis=1)
    splits = folds["splits"]
    classes = {
        (name, role): classes
        for name, split in splits.items()
        for role, classes in (("test", asked(split)), ("validation", split["validation"]))
    }
    wrong = [
        None
        if row.cls in classes.get((row.split, row.role), ())
        else f"{row.cls} is not for {row.role} in {row.split}"
        for row in listed
    ]
    frame["wrong_role"] = pd.Series(wrong, index=episodes.index, dtype=object)
    unseen = {name: set(catalog.loc[apart(catalog, split), "image"]) for name, split in splits.items()}
    known = {name for name, split in splits.items() if split["left_out"] is not None}
    frame["trained_on"] = pd.Series(
        [row.query if row.split in known and row.query not in unseen[row.split] else None for row in listed],
        index=episodes.index, dtype=object,
    )  # fmt: skip
    frame["left_out"] = pd.Series(
        [_first([n for n in map(str, row.support) if n in unseen.get(row.split, ())]) for row in listed],
        index=episodes.index, dtype=object,
    )  # fmt: skip
    texts = ["unknown", "query_in_support", "repeated", "foreign", "clean_support", "shared_group"]
    return frame.astype(dict.fromkeys(texts, object))


def coverage_frame(folds: Mapping[str, Any], episodes: pd.DataFrame, catalog: pd.DataFrame) -> pd.DataFrame:
    """One row a test image and (split, protocol, shots): how many episodes have it as their query."""
    test = episodes[(episodes["role"] == "test") & (episodes["kind"] == "defect")]
    counts = test.groupby(["split", "protocol", "shots", "query"]).size()
    settings = test[["protocol", "shots"]].drop_duplicates().itertuples(index=False)
    defect = catalog[catalog["kind"] == "defect"]
    table = [
        (image, f"{split}, {protocol}, {shots} shot", int(counts.get((split, protocol, shots, image), 0)))
        for protocol, shots in settings
        for split, roles in folds["splits"].items()
        for image in defect.loc[defect["cls"].isin(roles.get("novel", [])), "image"]
    ]
    return pd.DataFrame(table, columns=["image", "setting", "episodes"])


def _split_checks() -> tuple[Check, ...]:
    return (
        between(
            "roles",
            "in a split every class is base, validation or novel, and only one of them",
            AGAIN,
            low=1,
            high=1,
        ),
        is_null("unknown", "every class of a split is in the catalogue", AGAIN),
        is_null("misplaced", "a split's novel classes are those of its fold, never trained on", AGAIN),
    )


def _episode_checks() -> tuple[Check, ...]:
    return (
        unique("episode", "every episode has its own number", AGAIN),
        in_set("role", ["test", "validation"], "an episode is for test or for validation", AGAIN),
        in_set("protocol", ["groups", "paper"], "an episode's protocol is groups or paper", AGAIN),
        is_null("unknown", "every image of an episode is in the catalogue", AGAIN),
        is_null("wrong_role", "test episodes show novel classes, validation episodes held-out ones", AGAIN),
        is_null("trained_on", "of known classes only images are asked whose group is left out", AGAIN),
        is_null("left_out", "no support is of a group that is left out", AGAIN),
        equal("support_length", "shots", "an episode has as many supports as shots", AGAIN),
        is_null("query_in_support", "the query is not among its supports", AGAIN),
        is_null("repeated", "no support comes twice in an episode", AGAIN),
        is_null("foreign", "every support shows the query's class", AGAIN),
        is_null("clean_support", "every support shows a defect", AGAIN),
        equal("cls", "true_cls", "the query is of the episode's class", AGAIN),
        equal("kind", "true_kind", "the query is of the episode's kind (defect or clean)", AGAIN),
        equal("query_group", "true_group", "the query's group is the catalogue's", AGAIN),
        is_null("shared_group", "in protocol groups no support is of the query's group", AGAIN),
    )


def fold_suites(folds: Mapping[str, Any], episodes: pd.DataFrame, catalog: pd.DataFrame) -> list[Suite]:
    """The suites on folds and episodes whose schema is right: splits, episodes, coverage, digest."""
    digest = pd.DataFrame(
        {
            "file": ["folds.json"],
            "recorded": [str(folds.get("digest", ""))],
            "computed": [digest_of(episodes, catalog)],
        }
    )
    covered = between("episodes", "every test image of a novel class is a query", AGAIN, low=1)
    same = equal("recorded", "computed", "the digest in folds.json is that of the episodes and images", AGAIN)
    return [
        Suite("splits", split_frame(folds, catalog), ("entry",), _split_checks()),
        Suite("episodes", episode_frame(folds, episodes, catalog), ("episode", "query"), _episode_checks()),
        Suite("coverage", coverage_frame(folds, episodes, catalog), ("image", "setting"), (covered,)),
        Suite("digest", digest, ("file",), (same,)),
    ]
