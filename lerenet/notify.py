"""Tell people what happened, at the addresses in ``LERENET_NOTIFY``; a receiver that is down stops nothing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lerenet.files import write_text
from lerenet.layout import CHECKPOINTS

VARIABLE = "LERENET_NOTIFY"  # environment: addresses with white space between; they are secrets
SECONDS = 10.0  # that a receiver has
LINES = 4  # of what happened, in a message
log = logging.getLogger(__name__)


def notify(what: str, lines: Sequence[str], command: str) -> bool:
    """Send a short message to each address: http(s) gets a JSON ``{"title", "text"}``, any other is Apprise's.

    Args:
        what: What happened, in a few words; the project's name goes before it.
        lines: More of it; the first few are sent.
        command: What shows the rest.

    Returns:
        Whether somebody took it. A receiver that did not is a warning, which names no secret.
    """
    title = f"{Path.cwd().name}: {what}"
    text = "\n".join([*lines[:LINES], f"see: {command}"])
    taken = [_sent(address, title, text) for address in os.environ.get(VARIABLE, "").split()]
    return any(taken)


def once(name: str, what: str, lines: Sequence[str], command: str) -> None:
    """`notify`, unless the same was told under ``name`` already. No lines: all is well, and the next is news."""
    kept, text = CHECKPOINTS / f"{name}.told", "\n".join(lines)
    if not text:
        kept.unlink(missing_ok=True)
    elif not (kept.exists() and kept.read_text(encoding="utf-8") == text) and notify(what, lines, command):
        kept.parent.mkdir(exist_ok=True)
        write_text(kept, text)


def tell_champion(state: str, found: str, remedy: str) -> None:
    """Say once of a champion that `lerenet doctor` calls a problem what is wrong with it and what mends it."""
    lines = [*found.splitlines(), remedy] if state == "problem" else []
    once("champion", "the champion is broken", lines, "lerenet doctor")


def _sent(address: str, title: str, text: str) -> bool:
    scheme, known, _ = address.partition("://")
    shown = f"{scheme}://…" if known else "not an address"
    try:
        reason = (
            _post(address, title, text) if scheme in ("http", "https") else _apprise(address, title, text)
        )
    except HTTPError as error:
        reason = f"status {error.code}"
    except Exception as error:
        reason = type(error).__name__  # its text may hold the address
    if reason:
        log.warning("not told: %s; the receiver in %s (%s) failed: %s", title, VARIABLE, shown, reason)
    return not reason


def _post(address: str, title: str, text: str) -> str:
    body = json.dumps({"title": title, "text": text}).encode()
    with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=SECONDS):
        return ""


def _apprise(address: str, title: str, text: str) -> str:
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # what it logs holds the address
    box = Apprise()
    if not box.add(address):
        return "no address that Apprise knows"
    return "" if box.notify(body=text, title=title) else "Apprise could not deliver it"
