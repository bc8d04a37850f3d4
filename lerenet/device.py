"""Where the arithmetic runs: CUDA when there is one, else the CPU; and in which precision."""

from __future__ import annotations

import ctypes
import platform
from contextlib import AbstractContextManager

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST, KEPT = 32 * 2**20, 256 * 2**20  # bytes; glibc before 2.35 takes no larger LARGEST


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision in bfloat16 on either device; ``fp32`` turns it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def keep_memory() -> None:
    """Let the C library keep up to 256 MB an arena of what this process frees, where it is glibc.

    It would give blocks of some MB, a layer's output, back to the system each time, and fetching them again takes
    about a fifth of a query's time (benchmarks/README.md).
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        if library.mallopt(M_MMAP_THRESHOLD, LARGEST):
            library.mallopt(M_TRIM_THRESHOLD, KEPT)


def seed_step(*key: int) -> None:
    """Seed torch's generators from ``key`` alone, so that a step needs no earlier state."""
    value = 0
    for part in key:
        value = (value * 1_000_003 + part + 1) % (2**63)
    torch.manual_seed(value)
