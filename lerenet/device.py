"""Where the arithmetic runs: CUDA when there is one, else the CPU; and in which precision."""

from __future__ import annotations

import ctypes
import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo
LARGEST, KEPT = 32 * 2**20, 256 * 2**20  # bytes; glibc before 2.35 takes no larger LARGEST


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision in bfloat16 where the device has it; ``fp32`` turns it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16(device, precision))


def in_bf16(device: torch.device, precision: str) -> bool:
    """Whether what asks for ``precision`` is computed in bfloat16 on this device."""
    return precision == "bf16" and has_bf16(device.type)


@cache
def has_bf16(kind: str) -> bool:
    """Whether ``cuda`` or ``cpu`` multiplies in bfloat16 itself; emulated on a CPU it takes seven times fp32's time."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_cpu_flags() & BF16_FLAGS)


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    flags = [line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))]
    return set(flags[0].split()) if flags else set()


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
