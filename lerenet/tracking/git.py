"""What git says of the project."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(*words: str, folder: Path | None = None) -> str | None:
    """What ``git WORDS`` prints in ``folder`` (the current one); None when it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit_text(folder: Path | None = None) -> str:
    """The commit, ``unknown`` without git, and whether something is not committed."""
    state = git_state(folder)
    return state["git_commit"] + " with uncommitted changes" * (state["git_dirty"] == "true")


def git_state(folder: Path | None = None) -> dict[str, str]:
    """``{"git_commit": <sha or "unknown">, "git_dirty": "true" | "false" | "unknown"}``."""
    commit = git("rev-parse", "HEAD", folder=folder)
    status = git("status", "--porcelain", "--untracked-files=no", folder=folder)
    dirty = "unknown" if status is None else str(bool(status)).lower()
    return {"git_commit": commit or "unknown", "git_dirty": dirty}
