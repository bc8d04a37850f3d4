"""A checkpoint survives being cut short, foreign settings and a malicious pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from lerenet.training import checkpoint


def state(step: int, fingerprint: str = "f") -> dict[str, object]:
    return {"fingerprint": fingerprint, "step": step, "weights": torch.full((3,), float(step))}


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step), step)
    assert len(list(tmp_path.glob("*"))) == 2
    found = checkpoint.load_latest(tmp_path, "f")
    assert found is not None
    assert torch.equal(found["weights"], torch.full((3,), 3.0))


def test_a_truncated_newest_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), 1)
    newest = checkpoint.save(tmp_path, state(2), 2)
    newest.write_bytes(newest.read_bytes()[:100])
    found = checkpoint.load_latest(tmp_path, "f")
    assert found is not None
    assert found["step"] == 1


def test_other_settings_start_anew(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1, "old"), 1)
    assert checkpoint.load_latest(tmp_path, "new") is None
    assert checkpoint.load_latest(tmp_path / "none", "new") is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("evil-ran"),))  # type: ignore[return-value]


def test_a_malicious_pickle_does_nothing(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "step000000009.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"fingerprint": "f", "x": Evil()}, tmp_path / "step000000008.pt")
    assert checkpoint.load_latest(tmp_path, "f") is None
    assert not (tmp_path / "evil-ran").exists()
