"""Nothing is written over but what an earlier call wrote and nobody has changed since."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerenet.errors import DataError
from lerenet.files import read_json, write_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict import Pair, predict
from lerenet.predict.results import JOURNAL
from tests.helpers.prediction import names, picture, pictures, truth

pytestmark = pytest.mark.usefixtures("prepared_once")


def test_an_input_is_never_overwritten(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    mask = query.with_name("query_mask.png")
    support[1].rename(mask)
    with pytest.raises(DataError, match="would be overwritten, and it is an input"):
        predict([(support[0], mask)], [query], query.parent, loaded)
    assert JOURNAL not in names(query.parent)


@pytest.mark.parametrize(
    "name", ["query_mask.png", "query_overlay.png", "predictions.csv", "predictions.json", JOURNAL]
)
def test_a_file_of_somebody_else_is_in_the_way(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(
        DataError, match=f"{name}: is there already.*\n.*move it away or choose another --out"
    ):
        predict([support], [query], out, loaded)
    assert (out / name).read_text() == "mine"
    assert names(out) == {name}


def test_a_folder_or_a_link_is_in_the_way(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    for make in (Path.mkdir, lambda path: path.symlink_to("nowhere")):
        out = tmp_path / make.__name__
        out.mkdir()
        make(out / "query_mask.png")
        with pytest.raises(DataError, match="is no file"):
            predict([support], [query], out, loaded)


def test_a_corrected_mask_is_kept(support: Pair, tmp_path: Path, loaded: LoadedNetwork) -> None:
    queries, out = pictures(tmp_path / "parts", 3), tmp_path / "out"
    predict([support], queries, out, loaded)
    before = read_json(out / "predictions.json")
    (out / "p01_mask.png").write_bytes(b"corrected")
    other = picture(tmp_path / "in" / "other.png", 8)
    for pair in (support, (other, truth(other))):
        with pytest.raises(DataError, match=r"p01_mask\.png: was changed since.*\n.*move it away"):
            predict([pair], queries, out, loaded)
    assert (out / "p01_mask.png").read_bytes() == b"corrected"
    assert read_json(out / "predictions.json") == before
    (out / "p01_mask.png").rename(tmp_path / "corrected.png")
    predict([support], queries, out, loaded)


def test_notes_in_the_table_are_kept(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    out = tmp_path / "out"
    predict([support], [query], out, loaded)
    with (out / "predictions.csv").open("a") as handle:
        handle.write("a note of the inspector's\n")
    with pytest.raises(DataError, match=r"predictions\.csv: was changed since"):
        predict([support], [query], out, loaded)


def test_calls_with_other_queries_share_a_folder(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    one, two = pictures(tmp_path / "one", 2), [picture(tmp_path / "two" / "other.png", 9)]
    out = tmp_path / "out"
    predict([support], one, out, loaded)
    found = predict([support], two, out, loaded)
    assert set(found.earlier) == {f"p0{n}_{what}.png" for n in range(2) for what in ("mask", "overlay")}
    other = picture(tmp_path / "in" / "other.png", 8)
    predict(
        [(other, truth(other))], one, out, loaded
    )  # the first call's masks, known through the second's table
    (out / "other_mask.png").write_bytes(b"corrected")
    with pytest.raises(DataError, match="was changed"):
        predict([support], two, out, loaded)


def test_a_table_of_an_older_lerenet_is_known(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    out = tmp_path / "out"
    predict([support], [query], out, loaded)
    table = read_json(out / "predictions.json")
    for name in ("digest", "earlier", "table_sha256"):
        table.pop(name)
    for row in table["predictions"]:
        row.pop("error")
        row.pop("query_sha256")
    write_json(out / "predictions.json", table)
    predict([support], [query], out, loaded)


def test_what_a_crash_left_empty_is_no_correction(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    out = tmp_path / "out"
    predict([support], [query], out, loaded)
    (out / "query_mask.png").write_bytes(b"")
    assert predict([support], [query], out, loaded).predictions[0].sha256
    assert (out / "query_mask.png").stat().st_size


def test_an_output_folder_that_is_a_file_is_told(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    from lerenet.errors import LerenetError

    (tmp_path / "out").write_text("a file")
    with pytest.raises(LerenetError, match="out: can't be written"):
        predict([support], [query], tmp_path / "out", loaded)
