"""No message shows a password: whatever an address looks like, and whoever's error holds it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from lerenet.errors import TrackingError
from lerenet.registry import versions as registry
from lerenet.tracking import runs, store

SECRET = "hunter2"
NASTY = [
    f"http://me:{SECRET}@host:5000",
    f"http://me:{SECRET}@{SECRET}@host:5000",  # an @ in the password
    f"https://{SECRET}@host/path",  # a token alone
    f"https://:{SECRET}@host",
    f"https://me:a/{SECRET}@host",  # a / in the password, not quoted
    f"https://me:a?{SECRET}@host",
    f"https://me:a#{SECRET}@host",
    f"https://me:a?b#{SECRET}@host",
    f"https://host/api?password={SECRET}",
    f"https://host/api?mail=me@here&token={SECRET}",
    f"https://host/api#token={SECRET}",
    f"postgresql+psycopg2://me:{SECRET}@host/db?sslpassword={SECRET}",
    f"postgresql://host/db?user=me&password={SECRET}",
    f"me:{SECRET}@host:5000",  # no scheme
    f"//me:{SECRET}@host",
    f"http:/me:{SECRET}@host",
    f"file://me:{SECRET}@host/runs",
    f"ftp://me:{SECRET}@host",
    f"sqlite:///mlflow.db?key={SECRET}",
    f"http://me:{SECRET}@[::1",  # no address at all
]


@pytest.mark.parametrize("uri", NASTY)
def test_a_redacted_address_holds_no_secret(uri: str) -> None:
    assert SECRET not in store.redacted(uri)


def test_what_is_no_secret_is_shown() -> None:
    assert store.redacted("http://me:x@host:5000/path") == "http://host:5000/path"
    assert store.redacted("sqlite:////data/a@b.db") == "sqlite:////data/a@b.db"
    assert store.redacted("./mlruns") == "./mlruns"


@pytest.mark.parametrize("uri", NASTY)
def test_a_refusal_holds_no_secret(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = ""
    try:
        store.check_uri(uri)
    except TrackingError as error:
        told = f"{error} {error.__cause__}"
    assert SECRET not in told


def test_an_error_of_the_registry_is_told_without_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    uri = f"http://me:{SECRET}@127.0.0.1:9"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def fails() -> None:
        raise MlflowException(f"API request to {uri}/api/2.0 failed")

    monkeypatch.setattr(registry, "client", fails)
    for call in (registry.versions, registry.champion, lambda: registry.set_champion("1")):
        with pytest.raises(TrackingError, match="failed") as caught:
            call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("uri", [f"http://me:{SECRET}@127.0.0.1:9", f"http://127.0.0.1:9/?token={SECRET}"])
def test_an_error_of_the_tracker_is_told_without_the_secret(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    def fails() -> None:
        raise ConnectionError(f"API request to {uri}/api/2.0 failed")

    run = runs.StageRun("train", "k", {}, {})
    run._uri, run.tracked = uri, True
    run._guard(fails)
    assert "failed" in caplog.text
    assert SECRET not in caplog.text
    assert not run.tracked
