"""Weights from the Hugging Face hub or a mirror of it: fetched once, held against their digest, then kept.

`huggingface_hub` does the work and reads the environment: ``HF_ENDPOINT`` names a mirror, ``HF_HOME`` the folder of
what is kept, ``HF_TOKEN`` a login; with ``HF_HUB_OFFLINE=1`` nobody is asked. A connection that breaks is taken up
again where it broke, and only a whole file enters the folder; whether its bytes are right, the client does not look.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lerenet.errors import ModelError
from lerenet.files import sha256_file

FILE = "model.safetensors"  # of a repository
LONG = 64  # hexadecimal digits of a SHA-256
NETWORK = "run once with a network (the variable HF_ENDPOINT names a mirror)"


def fetch(repository: str) -> Path:
    """The weights file of a repository, from the folder of what is kept or else from the hub.

    Raises:
        ModelError: it can't be had, or is not what the hub announced; then it is removed.
    """
    from huggingface_hub import hf_hub_download

    source = f"{repository}/{FILE}"
    try:
        path = Path(hf_hub_download(repository, FILE))
    except Exception as error:  # of the hub's client, of its HTTP client, of the disk
        what, remedy = _reason(error)
        raise ModelError(f"{source}: {what}", remedy) from error
    _check(path, source)
    return path


def _check(path: Path, source: str) -> None:
    """Hold a kept file against its digest: the client keeps it in a file of that name, to which ``path`` is a link.

    That file may be a link, too, into a store with names of its own.
    """
    announced = path.readlink().name if path.is_symlink() else ""
    if len(announced) != LONG:
        return  # no SHA-256
    found = sha256_file(path)
    if found != announced:
        for place in (path.resolve(), path.parent / path.readlink(), path):
            place.unlink(missing_ok=True)
        raise ModelError(
            f"{source}: sha256 is {found[:12]}…, the server announced {announced[:12]}…; the file was removed",
            "run again, and check HF_ENDPOINT if it comes back",
        )


def _reason(error: BaseException) -> tuple[str, str]:
    """What went wrong, and the remedy."""
    chain = list(_causes(error))
    answers = (getattr(getattr(one, "response", None), "status_code", None) for one in chain)
    status = next((answer for answer in answers if answer), None)
    if status in (401, 403):
        return f"the server asks for a login ({status})", "set HF_TOKEN to a token that may read it"
    if status == 404:
        return "the server does not have it (404)", "check HF_ENDPOINT"
    if status is not None:
        return f"the server answers {status}", "try again later"
    return f"could not be downloaded ({brief(chain[-1])})", NETWORK


def brief(error: BaseException) -> str:
    """Kind and first line of an error that others raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
