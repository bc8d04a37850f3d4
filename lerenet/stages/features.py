"""Stage ``features@<split>-<backbone>``: fill the cache of frozen features before anything trains."""

from __future__ import annotations

import time

from lerenet import layout, tracking
from lerenet.cells import parse_base
from lerenet.device import pick_device
from lerenet.features.store import FeatureStore
from lerenet.files import write_json
from lerenet.models import backbone_for
from lerenet.models.config import recipe_network
from lerenet.progress import progress
from lerenet.stages.common import Inputs
from lerenet.stages.recipes import start_weights


def run(key: str) -> None:
    """Compute the features of every image, and of the base classes' views; write the manifest.

    With turns and stride of the shipped recipe; a recipe with others adds its own when it is trained.
    """
    inputs = Inputs.load()
    params = inputs.params
    split, name = parse_base(key)
    out = layout.FEATURES / key
    settings = {"views": params.views.model_dump(), "levels": params.levels, "image_size": params.image_size}
    with tracking.stage_run("features", key, out, params, settings=settings) as run:
        started = time.monotonic()
        network = recipe_network(params, params.ship.recipe)
        start = start_weights(params, key, True)
        backbone = backbone_for(network, name, start, params.levels).to(pick_device()).eval()
        store = FeatureStore(backbone, inputs.catalog, params, layout.DATA)
        seen = [*inputs.split(split)["base"], *inputs.split(split)["validation"]]
        novel = inputs.split(split)["novel"]
        total = store.size(seen, augmented=True) + store.size(novel)
        with progress(f"features {key}", total) as tick:
            store.tick = tick
            store.ensure(seen, augmented=True)
            store.ensure(novel)
        run.log_metrics({"pairs": total, "seconds": time.monotonic() - started})
        units = {cls: store.unit(cls, False).name for cls in [*seen, *novel]}
        views = {cls: store.unit(cls, True).name for cls in seen}
        manifest = {"weights": store.weights, "levels": params.levels, "units": units, "views": views}
        write_json(out / "manifest.json", manifest)
