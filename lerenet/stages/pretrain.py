"""Stage ``pretrain@<split>-<backbone>``: the backbone on the base classes only."""

from __future__ import annotations

from lerenet import layout, tracking
from lerenet.cells import parse_base
from lerenet.stages.common import Inputs
from lerenet.training.pretrain import pretrain


def run(key: str) -> None:
    """Write ``artifacts/pretrain/<key>/``."""
    inputs = Inputs.load()
    params = inputs.params
    split, backbone = parse_base(key)
    out = layout.PRETRAIN / key
    settings = {
        "pretrain": params.pretrain.model_dump(),
        "init": params.init,
        "image_size": params.image_size,
    }
    with tracking.stage_run("pretrain", key, out, params, settings=settings) as run:
        for name, digest in inputs.datasets().items():
            run.set_dataset(name, digest)
        shots = min(params.episodes.shots)
        episodes = inputs.chosen(split, "validation", shots=shots, kind="defect")
        metrics = pretrain(inputs.catalog, inputs.split(split), episodes, backbone, layout.DATA, params, out)
        run.log_metrics({name: value for name, value in metrics.items() if value is not None})
        run.log_artifact(out / "curve.csv")
