"""Where the arithmetic runs: CUDA when there is one, else the CPU; and in which precision."""

from __future__ import annotations

import ctypes
import platform
from contextlib import AbstractContextManager

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 256 * 2**20  # bytes


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision in bfloat16 on either device; ``fp32`` turns it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def keep_memory() -> None:
    """Let the C library keep up to 256 MB that this process frees, where it is glibc.

    It would give them back to the system after each layer; fetching them again takes a fifth of a query's time.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for setting in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(setting, KEPT)


def seed_step(*key: int) -> None:
    """Seed torch's generators from ``key`` alone, so that a step needs no earlier state."""
    value = 0
    for part in key:
        value = (value * 1_000_003 + part + 1) % (2**63)
    torch.manual_seed(value)
