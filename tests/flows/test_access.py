"""The word that opens Prefect's API: made once, its owner's alone, the caller's where he names one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flows.services import access, standing
from flows.services.processes import ServiceError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (access.SERVER, access.CLIENT):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_once_for_its_owner_alone() -> None:
    first = access.auth_string()
    assert access.auth_string() == first
    user, word = first.split(":")
    assert user == access.USER
    assert len(word) >= 32
    assert mode(access.WORD) == 0o600
    assert mode(access.WORD.parent) == 0o700


def test_an_open_file_is_closed_again(here: Path) -> None:
    access.auth_string()
    access.WORD.chmod(0o644)
    access.WORD.parent.chmod(0o755)
    access.auth_string()
    assert (mode(access.WORD), mode(access.WORD.parent)) == (0o600, 0o700)


def test_server_and_clients_share_it() -> None:
    found = standing.environment()
    assert found[access.SERVER] == found[access.CLIENT] == access.auth_string()
    assert found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"


def test_the_callers_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(access.SERVER, "me:mine")
    assert access.auth_string() == "me:mine"
    assert not access.WORD.exists()


def test_a_file_that_holds_none_is_named() -> None:
    access.private(access.WORD.parent)
    access.WORD.write_text("")
    with pytest.raises(ServiceError, match=r"\.services/auth(.|\n)*make down up"):
        access.auth_string()
