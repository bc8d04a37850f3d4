"""Who may speak to the services: those who hold the word that the first start makes, and who may read their files.

Prefect runs what it is told, so whoever reaches its API runs commands on this machine: any program of any user, any
page in a browser. Server, worker, watcher and flows share the word by their environment; a person asks for it
(``python -m flows.services environment``), and Prefect's page asks him.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from flows.services.processes import FOLDER, ServiceError

WORD = FOLDER / "auth"
SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
USER = "lerenet"
OWNER, FOLDERS = 0o600, 0o700


def auth_string() -> str:
    """``user:word`` as Prefect has it: the caller's, if the environment names one; else the project's, made once.

    Raises:
        ServiceError: the file is there and holds no such word.
    """
    if given := os.environ.get(SERVER) or os.environ.get(CLIENT):
        return given
    private(FOLDER)
    try:
        file = os.open(WORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER)
    except FileExistsError:
        WORD.chmod(OWNER)
        said = WORD.read_text(encoding="utf-8").strip()
        if ":" not in said:
            raise ServiceError(f"{WORD}: holds no user:word", "delete it and run `make down up`") from None
        return said
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        said = f"{USER}:{secrets.token_urlsafe(32)}"
        stream.write(said)
    return said


def header(word: str) -> dict[str, str]:
    """What a request carries to be let in, ``word`` being ``user:word``."""
    return {"Authorization": f"Basic {base64.b64encode(word.encode()).decode()}"}


def private(folder: Path) -> None:
    """Make a folder that nobody but its owner enters; one that is there is closed."""
    folder.mkdir(mode=FOLDERS, parents=True, exist_ok=True)
    folder.chmod(FOLDERS)
