"""Archives are unpacked inside their folder or refused with the member's name."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from lerenet.data.importing.archive import Limits, class_of, extract, is_archive
from lerenet.errors import DataError


def make_zip(path: Path, *members: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def make_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 0 if link else 3
        archive.addfile(info, None if link else io.BytesIO(b"abc"))
    return path


def refused(archive: Path, tmp_path: Path, match: str, limits: Limits | None = None) -> None:
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=match):
        extract(archive, into, limits)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and into not in p.parents and p.suffix == ".txt"]
    assert not outside


def test_plain_members_are_unpacked(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "a.zip", ("C/Images/x.jpg", b"1", stat.S_IFREG | 0o644), ("C/GT/x.png", b"2", 0)
    )
    assert is_archive(archive)
    (tmp_path / "into").mkdir()
    assert extract(archive, tmp_path / "into") == 2
    assert (tmp_path / "into" / "C" / "Images" / "x.jpg").read_bytes() == b"1"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/evil.txt",
        "C:\\evil.txt",
        "..\\evil.txt",
        "\\evil.txt",
        "\\\\host\\evil.txt",
        "a\\..\\..\\evil.txt",
        "a\\../../evil.txt",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    refused(make_zip(tmp_path / "z.zip", (name, b"x", 0)), tmp_path, "evil")
    refused(make_tar(tmp_path / "t.tar.gz", name), tmp_path, "evil")


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "../x"),
        (tarfile.CHRTYPE, "x"),
        (tarfile.FIFOTYPE, "x"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, link: str) -> None:
    refused(make_tar(tmp_path / "t.tar.gz", "member", kind, link), tmp_path, "member.*(link|device)")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    refused(
        make_zip(tmp_path / "z.zip", ("member", b"/etc/passwd", stat.S_IFLNK | 0o777)),
        tmp_path,
        "member.*link",
    )


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "b.zip", ("zeros", b"\0" * 20_000_000, 0))
    refused(bomb, tmp_path, "zeros", Limits(small=1_000_000))
    many = make_zip(tmp_path / "m.zip", *((f"f{i}", b"", 0) for i in range(20)))
    refused(many, tmp_path, "files", Limits(files=10))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "w.zip", ("a", b"x" * 1000, 0)).read_bytes()
    damaged = tmp_path / "d.zip"
    damaged.write_bytes(whole[:40] + b"\0" * 5 + whole[45:])
    refused(damaged, tmp_path, r"d\.zip")


def test_a_disk_that_fills_up_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = make_zip(tmp_path / "w.zip", ("a", b"x", 0))
    monkeypatch.setattr("lerenet.data.importing.archive.shutil.copyfileobj", full)
    refused(archive, tmp_path, r"w\.zip.*No space left")


def test_a_backslash_parts_folders_in_a_zip_and_is_refused_in_a_tar(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "w.zip", ("C\\GT\\", b"", 0), ("C\\GT\\x.png", b"2", 0))
    (tmp_path / "into").mkdir()
    assert extract(archive, tmp_path / "into") == 1
    assert (tmp_path / "into" / "C" / "GT" / "x.png").read_bytes() == b"2"
    twice = make_zip(tmp_path / "t.zip", ("C\\x.png", b"1", 0), ("C/x.png", b"2", 0))
    refused(twice, tmp_path, "'C/x.png' is there twice")
    refused(make_tar(tmp_path / "t.tar.gz", "C\\x"), tmp_path, "leaves its folder")


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("Rust.zip", "Rust"),
        ("rust.tar.gz", "rust"),
        ("Rust.TXZ", "Rust"),
        ("v1.2.tbz2", "v1.2"),
        ("a.zip.zip", "a"),
    ],
)
def test_an_archive_s_name_without_its_endings(name: str, cls: str) -> None:
    assert class_of(Path(name)) == cls


def test_a_member_s_name_that_is_too_long_is_no_lack_of_space(tmp_path: Path) -> None:
    long = make_zip(tmp_path / "l.zip", (f"C/{'n' * 300}.png", b"1", 0))
    with pytest.raises(DataError, match=r"File name too long: .*nnn") as caught:
        extract(long, tmp_path)
    assert "disk space" not in str(caught.value)
