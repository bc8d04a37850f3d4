"""The model registry: versions of ``lerenet`` with their lineage, found again, verified, never lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lerenet.errors import TrackingError
from lerenet.registry.copies import local, verified
from lerenet.registry.registered import CHAMPION, NAME, PACKAGE, Version
from lerenet.tracking import store

log = logging.getLogger(__name__)


def _version(entry: Any) -> Version:
    aliases = tuple(entry.aliases or ())
    return Version(str(entry.version), dict(entry.tags), aliases, entry.run_id or "", entry.source)


def client() -> Any:
    """An `MlflowClient` of a registry that answers.

    Raises:
        TrackingError: when the store can't be used or a server is down.
    """
    uri = store.tracking_uri()
    store.check_uri(uri)
    if not store.reachable(uri):
        raise TrackingError(f"{store.VARIABLE}={store.redacted(uri)}: nothing answers there", store.REMEDY)
    store.load()
    with store.store_lock(uri):
        return store.client_of(uri)


# -- reading ------------------------------------------------------------------------------------


@store.scrubbing()
def versions(lock: str = "") -> list[Version]:
    """All versions, newest first; or those registered from a state of ``dvc.lock`` (see `lock_hash`)."""
    wanted = f"name='{NAME}'" + (f" and tags.lock='{lock}'" if lock else "")
    entries: list[Any] = []
    page: str | None = None
    while page != "":
        some = client().search_model_versions(wanted, max_results=1000, page_token=page)
        entries, page = [*entries, *some], some.token or ""
    # A search leaves the aliases out; the model itself knows them.
    aliases: dict[str, list[str]] = {}
    for alias, number in (_aliases() if entries else {}).items():
        aliases.setdefault(number, []).append(alias)
    all_ = [_version(item) for item in entries]
    whole = [Version(**{**item.__dict__, "aliases": tuple(aliases.get(item.number, ()))}) for item in all_]
    return sorted(whole, key=lambda item: -int(item.number))


def _aliases() -> dict[str, str]:
    return {alias: str(number) for alias, number in client().get_registered_model(NAME).aliases.items()}


def by_number(number: str) -> Version:
    """One version.

    Raises:
        TrackingError: when there is none of that number, or the registry can't be used.
    """
    if not number.isdigit():
        raise TrackingError(f"{number!r} is no version", "give a number, or 'champion'; see `lerenet models`")
    version = _one("get_model_version", number)
    if version is None:
        raise TrackingError(f"version {number} of {NAME} does not exist", "see `lerenet models`")
    return version


def champion() -> Version | None:
    """The version behind the alias ``champion``, or None.

    Raises:
        TrackingError: the registry can't be used.
    """
    return _one("get_model_version_by_alias", CHAMPION)


def _one(call: str, which: str) -> Version | None:
    """What a call of the client finds; None only where the store says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(getattr(client(), call)(NAME, which))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        reason = store.scrubbed(str(error.message), store.tracking_uri())
        raise TrackingError(f"{NAME} {which} can't be read: {reason}", store.REMEDY) from None


def find_by_lock(lock: str) -> Version | None:
    """The newest version registered from this state of ``dvc.lock``."""
    return next(iter(versions(lock)), None)


def find(model: str) -> Version:
    """The version of a number, or the ``champion``.

    Raises:
        TrackingError: no such version, or no champion yet.
    """
    version = champion() if model == CHAMPION else by_number(model)
    if version is None:
        raise TrackingError("there is no champion yet", "run the retraining, or `lerenet promote VERSION`")
    return version


def resolve(model: str) -> Path:
    """Package of a version (``champion`` or a number), every file of it checked against the digests in its tags.

    Raises:
        TrackingError: no such version, no champion yet, or a file that is not the registered one.
    """
    return verified(find(model))


# -- writing ------------------------------------------------------------------------------------


@store.scrubbing()
def set_tags(number: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version; setting them again changes nothing."""
    service = client()
    with store.store_lock(store.tracking_uri()):
        for name, value in tags.items():
            service.set_model_version_tag(NAME, number, name, value)


@store.scrubbing()
def model_tags() -> dict[str, str]:
    """The tags of the registered model itself; none where there is no model yet.

    Raises:
        TrackingError: the registry can't be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        return dict(client().get_registered_model(NAME).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def model_tag(name: str) -> str:
    """One of `model_tags`; empty where there is none."""
    return str(model_tags().get(name, ""))


@store.scrubbing()
def set_model_tag(name: str, value: str) -> None:
    """Set a tag of the registered model itself."""
    with store.store_lock(store.tracking_uri()):
        client().set_registered_model_tag(NAME, name, value)


@store.scrubbing()
def describe(number: str, verdict: str) -> None:
    """Show ``verdict`` above the model card in the version's description."""
    text = (local(by_number(number)) / PACKAGE / "README.md").read_text(encoding="utf-8")
    with store.store_lock(store.tracking_uri()):
        client().update_model_version(NAME, number, description=f"**{verdict}**\n\n{text}"[:4900])


@store.scrubbing()
def attach(number: str, name: str, text: str) -> None:
    """Keep a page with the run that registered a version."""
    with store.store_lock(store.tracking_uri()):
        client().log_text(by_number(number).run_id, text, name)


@store.scrubbing()
def set_champion(number: str) -> None:
    """Move the alias ``champion`` in one call: a reader sees the old version or the new one."""
    with store.store_lock(store.tracking_uri()):
        client().set_registered_model_alias(NAME, CHAMPION, number)
