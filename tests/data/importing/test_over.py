"""An import or the sample takes the place of what one of them wrote, and of nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lerenet.cli.data import app
from lerenet.data.importing import importer
from lerenet.data.importing.importer import import_dataset
from lerenet.data.importing.tree import look
from lerenet.errors import DataError
from lerenet.files import TEMPORARY
from tests.helpers.import_sources import mask, names, pair, picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pair(tmp_path / "in", "Rust", "a")
    pair(tmp_path / "in", "Dent", "b", seed=1)
    picture(tmp_path / "in" / "Dent" / "Nd" / "c.jpg", 2)
    import_dataset(tmp_path / "in", tmp_path / "data")
    return tmp_path / "data"


def by_hand(data: Path) -> Path:
    pair(data, "Rust", "mine", seed=3)
    return data / "Rust" / "Images" / "mine.jpg"


def text(data: Path) -> Path:
    (data / "notes.txt").write_text("mine")
    return data / "notes.txt"


def hidden(data: Path) -> Path:
    (data / "Rust" / ".mine").write_text("mine")
    return data / "Rust" / ".mine"


def linked(data: Path) -> Path:
    (data / "Chip").symlink_to("../in/Rust")
    return data / "Chip"


@pytest.mark.parametrize("leave", [by_hand, text, hidden, linked])
def test_what_no_import_wrote_is_named_and_stays(
    tmp_path: Path, data: Path, leave: Callable[[Path], Path]
) -> None:
    mine = leave(data)
    with pytest.raises(DataError, match=rf"{mine}[\s\S]*--add"):
        import_dataset(tmp_path / "in", data)
    sample = CliRunner().invoke(app, ["sample", "--data", str(data)])
    assert isinstance(sample.exception, DataError)
    assert str(mine) in str(sample.exception)
    assert mine.exists()


def test_what_an_import_wrote_is_replaced_with_the_litter_of_systems(tmp_path: Path, data: Path) -> None:
    (data / "Rust" / "Images" / "Thumbs.db").write_bytes(b"x")
    (data / ".DS_Store").write_bytes(b"x")
    pair(tmp_path / "other", "Pit", "p")
    import_dataset(tmp_path / "other", data)
    assert names(data) == ["Pit/GT/p.png", "Pit/Images/p.jpg"]
    assert not (data / ".DS_Store").exists()


def test_adding_keeps_what_a_person_put_there_except_in_the_class_that_is_replaced(
    tmp_path: Path, data: Path
) -> None:
    for leave in (by_hand, text):
        leave(data)
    pair(tmp_path / "more", "Pit", "p", seed=4)
    import_dataset(tmp_path / "more", data, add=True)
    assert (data / "notes.txt").read_text() == "mine"
    assert "Rust/Images/mine.jpg" in names(data)
    pair(tmp_path / "again", "Rust", "new", seed=5)
    with pytest.raises(DataError, match=r"2 files[\s\S]*GT/mine.png[\s\S]*Images/mine.jpg"):
        import_dataset(tmp_path / "again", data, add=True)
    for name in ("Images/mine.jpg", "GT/mine.png"):
        (data / "Rust" / name).unlink()
    import_dataset(tmp_path / "again", data, add=True)
    assert [name for name in names(data, ["Images"]) if "Rust" in name] == ["Rust/Images/new.jpg"]


def test_the_data_folder_is_never_its_own_source(tmp_path: Path, data: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    for source in (data, data / "Rust", tmp_path / "link"):
        with pytest.raises(DataError, match="replaced while it is read"):
            import_dataset(source, data, add=True)
    with pytest.raises(DataError, match="holds the data folder"):
        import_dataset(tmp_path, data)
    assert len(names(data)) == 5


def test_a_link_to_the_data_folder_stays_a_link(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    link = tmp_path / "project" / "data"
    link.symlink_to("../disk/data")
    for _ in range(2):
        import_dataset(tmp_path / "in", link)
        assert link.is_symlink()
        assert len(names(tmp_path / "disk" / "data")) == 2
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["Rust", "data", "data"]


def test_an_archive_is_unpacked_on_the_disk_that_the_link_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(tmp_path / "in", "Rust", "a")
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "in")
    (tmp_path / "disk").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").symlink_to("../disk/data")
    seen: list[Path] = []
    monkeypatch.setattr(importer, "look", lambda folder, called: seen.append(folder) or look(folder, called))
    import_dataset(Path(archive), tmp_path / "project" / "data")
    assert [folder.parent for folder in seen] == [tmp_path / "disk"]
    assert len(names(tmp_path / "disk" / "data")) == 2


def test_a_folder_that_a_killed_import_moved_away_is_looked_at_before_it_is_replaced(
    tmp_path: Path, data: Path
) -> None:
    text(data)
    data.rename(data.with_name(f"{TEMPORARY}999999999-old-data"))
    with pytest.raises(DataError, match=r"notes\.txt"):
        import_dataset(tmp_path / "in", data)
    assert (data / "notes.txt").exists()


def test_data_that_are_a_file_are_refused(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    mask(tmp_path / "data.png").rename(tmp_path / "data")
    with pytest.raises(DataError, match="is a file, not a folder"):
        import_dataset(tmp_path / "in", tmp_path / "data")
