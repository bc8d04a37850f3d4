"""Where bfloat16 is used: only where the device has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lerenet import device
from lerenet.cli.doctor import check_torch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    device.has_bf16.cache_clear()
    yield
    device.has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("flags", "precision", "kept"),
    [
        ({"avx2", "avx512_bf16"}, "bf16", torch.bfloat16),
        ({"avx2"}, "bf16", torch.float32),
        (set(), "bf16", torch.float32),
        ({"avx2", "avx512_bf16"}, "fp32", torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], precision: str, kept: torch.dtype
) -> None:
    monkeypatch.setattr(device, "_cpu_flags", lambda: flags)
    with device.autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kept


@pytest.mark.parametrize("native", [True, False])
def test_cuda_is_asked_for_bfloat16_that_it_does_not_emulate(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation
    )
    assert device.has_bf16("cuda") is native


@pytest.mark.parametrize(("has", "said"), [(True, "yes"), (False, "no, all is computed in fp32")])
def test_the_doctor_says_in_which_precision_is_computed(
    monkeypatch: pytest.MonkeyPatch, has: bool, said: str
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda kind: has)
    assert f"bf16 in hardware: {said}, " in check_torch().found
