"""Folders as queries, names of any kind, terminals of any encoding, and folders that are no project."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from lerenet.cli import main as cli
from lerenet.cli.registry import COMMANDS
from lerenet.errors import DataError, ModelError, TrackingError
from lerenet.files import read_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict import Pair, open_model, output_names, predict
from lerenet.predict.queries import find_queries
from lerenet.tracking import store
from tests.helpers.prediction import draw, names, picture, pixels

pytestmark = pytest.mark.usefixtures("prepared_once")

# Folders


def empty(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_stands_for_its_images(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    shown = ["B.JPG", "a.png", "deep/er/c.tiff", "photo.heic", "raw.dng", "z.gif"]
    empty(*(parts / name for name in shown))
    empty(parts / ".hidden.png", parts / ".cache" / "x.png", parts / "list.csv", parts / "a.json")
    assert find_queries([parts], tmp_path / "out") == [parts / name for name in shown]
    assert find_queries([parts / "a.png", parts], tmp_path / "out")[0] == parts / "a.png"
    assert len(find_queries([parts / "a.png", parts, parts / "deep" / ".."], tmp_path / "out")) == len(shown)


def test_links_are_followed_without_loops_and_dangling_ones_named(tmp_path: Path) -> None:
    parts, other = tmp_path / "parts", tmp_path / "other"
    empty(parts / "a.png", other / "b.png")
    (parts / "linked").symlink_to(other)
    (parts / "loop").symlink_to(parts)
    (other / "back").symlink_to(parts)
    (parts / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (parts / "self.png").symlink_to(parts / "self.png")
    found = [path.relative_to(parts).as_posix() for path in find_queries([parts], tmp_path / "out")]
    assert found == ["a.png", "gone.png", "linked/b.png", "self.png"]


def test_what_earlier_calls_wrote_is_no_query(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    parts = query.parent
    predict([support], [parts], parts / "found", loaded)
    before = find_queries([parts], parts / "found")
    assert before == find_queries([parts], tmp_path / "elsewhere")
    predict([support], [query], parts, loaded)  # masks among the photos
    assert find_queries([parts], parts) == before
    assert len(predict([support], [parts], parts / "found", loaded).predictions) == len(before)


def test_a_folder_without_images_or_access_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(tmp_path / "parts" / "readme.txt")
    with pytest.raises(DataError, match="parts: no image in it"):
        find_queries([tmp_path / "parts"], tmp_path / "out")

    def closed(self: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(DataError, match="parts: can't be read: Permission denied"):
        find_queries([tmp_path / "parts"], tmp_path / "out")


def test_images_of_other_formats_are_rows(support: Pair, tmp_path: Path, loaded: LoadedNetwork) -> None:
    parts = tmp_path / "parts"
    draw(parts / "a.png", 3, (80, 60), mask=False)
    Image.new("RGB", (40, 40)).save(parts / "b.gif")
    (parts / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(30))
    (parts / "d.jpg").symlink_to(tmp_path / "gone.jpg")
    found = predict([support], [parts], tmp_path / "out", loaded)
    assert [Path(row.query).name for row in found.predictions] == ["a.png", "b.gif", "c.heic", "d.jpg"]
    assert [Path(row.query).name for row in found.failed] == ["b.gif", "c.heic", "d.jpg"]
    for row, word in zip(found.failed, ("GIF is not read", "HEIC is not read", "No such file"), strict=True):
        assert word in row.error


# Names


def test_same_stems_do_not_overwrite(support: Pair, tmp_path: Path, loaded: LoadedNetwork) -> None:
    queries = [picture(tmp_path / folder / "part.png", n) for n, folder in enumerate("abc")]
    found = predict([support], queries, tmp_path / "out", loaded)
    masks = ["a_part_mask.png", "b_part_mask.png", "c_part_mask.png"]
    assert [row.mask for row in found.predictions] == masks


NFC, NFD = "\u00e9", "e\u0301"
FOLDERS = st.sampled_from(["a", "b", "x/a"])
STEMS = st.sampled_from(
    ["p", "P", "a_p", "p_png", NFC, NFD, "ﬁ", "fi", "n" * 250, "n" * 251, "\udcff", "%FF"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FOLDERS, STEMS, st.sampled_from(["png", "jpg"])), unique=True))
def test_output_names_are_unique_on_any_file_system(parts: list[tuple[str, str, str]]) -> None:
    found = output_names([Path(folder) / f"{stem}.{suffix}" for folder, stem, suffix in parts])
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in found}) == len(parts)
    for name in found:
        assert "/" not in name
        assert len(f"{name}_overlay.png".encode()) <= 255


def test_thousands_of_one_name_take_no_time() -> None:
    found = output_names([Path(f"{n}/cam/image.png") for n in range(3000)])
    assert len(set(found)) == 3000


def test_names_that_are_no_utf8_or_fill_their_255_bytes(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    parts = tmp_path / "parts"
    draw(parts / "a.png", 3, (80, 60), mask=False)
    bad, long = Path(os.fsdecode(os.fsencode(parts) + b"/Ri\xdf.png")), parts / f"{'ü' * 125}.png"
    for path in (bad, long):
        path.write_bytes((parts / "a.png").read_bytes())
    other = [parts / f"caf{NFC}.png", parts / f"caf{NFD}.png"]
    for path in other:
        path.write_bytes((parts / "a.png").read_bytes())
    found = predict([support], [bad, long, *other], tmp_path / "out", loaded)
    assert not found.failed
    first, second = found.predictions[:2]
    assert first.query.endswith("/Ri\\xdf.png")
    assert first.mask == "Ri%DF_mask.png"
    assert second.mask.startswith("ü" * 100)
    assert len({unicodedata.normalize("NFC", row.mask) for row in found.predictions}) == 4
    for row in found.predictions:
        assert pixels(tmp_path / "out" / row.mask).shape == (60, 80)
    assert read_json(tmp_path / "out" / "predictions.json")["predictions"][0]["query"] == first.query
    assert "Ri\\xdf.png" in (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")
    again = predict([support], [bad, long, *other], tmp_path / "out", loaded)
    assert again.predictions == found.predictions


# Supports


def test_masks_of_one_image_are_joined(
    support: Pair, query: Path, tmp_path: Path, loaded: LoadedNetwork
) -> None:
    image, mask = support
    marked = pixels(mask) > 0
    left, right = marked.copy(), marked.copy()
    middle = int(marked.any(axis=0).nonzero()[0].mean())
    left[:, middle:], right[:, :middle] = False, False
    pairs = []
    for name, part in (("left", left), ("right", right)):
        path = mask.with_name(f"{name}.png")
        Image.fromarray(part).save(path)
        pairs.append((image, path))
    whole = predict([support], [query], tmp_path / "whole", loaded)
    joined = predict(pairs, [query], tmp_path / "joined", loaded)
    assert joined.supports == [str(image)]
    assert len(joined.support_sha256[0]) == 3
    assert any("its 2 masks are joined" in note for note in joined.warnings)
    assert joined.predictions[0].sha256 == whole.predictions[0].sha256


# Terminals


def test_a_terminal_without_the_letters_gets_them_escaped(
    support: Pair, tmp_path: Path, loaded: LoadedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "parts" / "裂纹.png", 3, (80, 60), mask=False)
    monkeypatch.setattr("lerenet.predict.call.open_model", lambda *_: loaded)
    words = ["-s", *support, "-q", tmp_path / "parts", "-o", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["lerenet", "predict", *map(str, words)])
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1", write_through=True))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert b"\\u88c2\\u7eb9" in written.getvalue()


# Outside a project


def test_outside_a_project_the_registry_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(store.VARIABLE, raising=False)
    with pytest.raises(ModelError) as error:
        open_model("champion")
    for word in ("not a project's folder (no params.yaml)", "cd to the project", "--model matching"):
        assert word in str(error.value)
    app = Typer()
    for command in COMMANDS:
        app.command(command.__name__)(command)
    for words in (["models"], ["ledger"], ["lineage"], ["rollback"], ["promote", "1"]):
        assert CliRunner().invoke(app, words).exception is not None, words
    assert names(tmp_path) == set()


def test_a_store_that_is_named_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(store.VARIABLE, "http://127.0.0.1:9")
    assert store.tracking_uri() == "http://127.0.0.1:9"
    monkeypatch.setenv(store.VARIABLE, " ")
    with pytest.raises(TrackingError, match="not a project's folder"):
        store.tracking_uri()
