"""Where the arithmetic runs: CUDA when there is one, else the CPU; and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision in bfloat16 on either device; ``fp32`` turns it off."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def seed_step(*key: int) -> None:
    """Seed torch's generators from ``key`` alone, so that a step needs no earlier state."""
    value = 0
    for part in key:
        value = (value * 1_000_003 + part + 1) % (2**63)
    torch.manual_seed(value)
