"""New masks that do not belong are doubted batch by batch; a champion that can not tell says nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lerenet.files import write_json
from lerenet.registry.doubts import FEWEST, batches, doubted
from lerenet.registry.registered import INSPECTION


def rows(*classes: str, parts: int = 12, reader: str = "matching") -> pd.DataFrame:
    """Defects, a part each; the last six of a class are new."""
    table = [
        (cls, f"{cls}/{place}", f"{cls}/p{place}", True, reader) for cls in classes for place in range(parts)
    ]
    return pd.DataFrame(table, columns=["cls", "image", "group", "defect", "reader"])


def fits(bad: str = "", old: float = 0.001) -> tuple[Callable[[str, list[str]], float], list[list[str]]]:
    """A fit that is good but for what holds the image ``bad``, and what was asked of it."""
    asked: list[list[str]] = []

    def fit(cls: str, images: list[str]) -> float:
        asked.append(images)
        return old if f"{cls}/0" in images else 0.5 if bad in images else 0.002

    return fit, asked


def came(cls: str, *numbers: int) -> dict[str, int]:
    """The last images of a class, in batches."""
    return {f"{cls}/{12 - len(numbers) + place}": number for place, number in enumerate(numbers)}


def test_a_batch_that_does_not_fit_is_doubted_though_others_do() -> None:
    fit, asked = fits(bad="A/10")
    found = doubted(rows("A", "B"), came("A", 1, 1, 1, 1, 2, 2, 2, 2), fit)
    assert len(found) == 1
    assert "A: what the champion marks on 4 new parts" in found[0]
    assert "A/8" in found[0]
    assert [len(images) for images in asked] == [4, 4, 4]  # the old, and each batch; B has nothing new


def test_batches_too_small_are_asked_about_together_or_not_at_all() -> None:
    fit, asked = fits(bad="A/11")
    assert len(doubted(rows("A"), came("A", 1, 1, 2, 3), fit)) == 1
    assert [len(images) for images in asked] == [8, 4]
    assert doubted(rows("A"), came("A", *[1] * (FEWEST - 1)), fit) == []
    assert len(asked) == 2


def test_where_the_champion_can_not_tell_nothing_is_doubted() -> None:
    blind, _ = fits(bad="A/11", old=0.3)
    assert doubted(rows("A"), came("A", 1, 1, 1, 1), blind) == []
    fit, _ = fits(bad="A/11")
    assert doubted(rows("A", reader=""), came("A", 1, 1, 1, 1), fit) == []  # a class that it does not know
    assert doubted(rows("A", parts=11).tail(7), came("A", 1, 1, 1, 1), fit) == []  # too few old ones


def test_images_that_came_together_are_told_by_the_versions_between(tmp_path: Path) -> None:
    def package(name: str, **masks: str) -> Path:
        folder = tmp_path / name
        images = [{"name": image, "sha256": "s", "masks": [mask]} for image, mask in masks.items()]
        write_json(folder / INSPECTION / "classes" / "A" / "enrolment.json", {"examples": images, "good": []})
        return folder

    champion = package("1", a="1", b="1")
    earlier = [package("2", a="1", b="1", c="1"), package("3", a="1", b="1", c="2", d="1")]
    challenger = package("4", a="1", b="2", c="2", d="1", e="1")
    assert batches(champion, earlier, challenger) == {"b": 2, "c": 1, "d": 1, "e": 2}
