"""What a network trained on the known classes adds: ``python -m benchmarks.known``.

The folds are those of the enrolment (`lerenet.data.groups`): a network is trained on the other folds' images of all
classes and asked about this fold's, with five supports of other folds where it takes any. Rows: the paper's LERENet and
its Baseline, trained with episodes on cached features, and one plain head with an output for every class, that takes
no support. Trainings resume; a fold that is done is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from torch import nn
from torch.nn import functional as F

from benchmarks.readers import scored
from benchmarks.results import machine
from lerenet import layout
from lerenet.data.cataloguing import build_catalog
from lerenet.data.groups import folds_of, in_turn
from lerenet.data.sampler import EpisodeSampler
from lerenet.enrolment.fitted import GROUPS, HIDDEN, LR
from lerenet.enrolment.heads import BATCH, WEIGHT_DECAY
from lerenet.enrolment.material import Material
from lerenet.enrolment.stored import material_of
from lerenet.evaluation.metrics import COUNTS
from lerenet.evaluation.score import confusion, score
from lerenet.features.store import FeatureStore
from lerenet.files import atomic_path, write_json
from lerenet.models import backbone_for, configure, create_model
from lerenet.models.config import NetworkConfig
from lerenet.models.losses import bce, dice
from lerenet.models.serialization import matching_network
from lerenet.params import Params, TrainSettings, load_params
from lerenet.progress import progress
from lerenet.seeds import generator
from lerenet.training.trainer import Trainer

SHOTS = 5
NETWORKS = {"LERENet, paper": configure("lerenet", preset="paper"), "Baseline": configure("baseline")}
ONE_HEAD = "one head for all classes"
CPU = torch.device("cpu")


def episodes_of(catalog: pd.DataFrame, asked: pd.DataFrame, seed: int) -> pd.DataFrame:
    """An episode for each defect image asked about, its supports from ``catalog``, one of each group first."""
    rows = []
    for number, query in enumerate(asked[asked["kind"] == "defect"].to_dict("records")):
        pool = catalog[(catalog["cls"] == query["cls"]) & (catalog["kind"] == "defect")]
        if pool.empty:
            continue
        order = in_turn(pool["group"].tolist(), generator(seed, "known", query["image"]))
        names = pool["image"].to_numpy()[order]
        rows.append({
            "split": "known", "protocol": "groups", "kind": "defect", "shots": SHOTS, "episode": number,
            "cls": query["cls"], "query": query["image"], "query_group": query["group"],
            "support": [str(names[i % len(names)]) for i in range(SHOTS)],
        })  # fmt: skip
    return pd.DataFrame(rows)


def trained(
    config: NetworkConfig,
    params: Params,
    catalog: pd.DataFrame,
    epochs: int,
    seed: int,
    fold: int,
    folder: Path,
) -> pd.DataFrame:
    """Counts on a fold's images of a network trained with episodes of the other folds."""
    apart = folds_of(catalog["group"].tolist(), params.enrolment.folds) == fold
    known, asked = catalog[~apart].reset_index(drop=True), catalog[apart]
    backbone = backbone_for(config, "efficientnet_lite0", params.init, params.levels)
    store = FeatureStore(backbone.eval(), catalog, params, layout.DATA)
    classes = sorted(catalog["cls"].unique())
    store.ensure(classes)
    torch.manual_seed(seed)
    channels = dict(zip(backbone.levels, backbone.channels, strict=True))
    head = create_model(config, channels, params.image_size)
    settings = TrainSettings(
        epochs=epochs, batch=BATCH, lr=5e-4, loss="bce_dice", clean_share=0.0, episodes_per_query=0
    )
    sampler = EpisodeSampler(known, classes, 1, 0, BATCH, 0.0, seed)
    with progress(f"fold {fold}", epochs * sampler.steps) as tick:
        Trainer(head, store, sampler, settings, None, None, folder, CPU, seed, epochs, tick=tick).run()
    return score(head, store, episodes_of(known, asked, seed), CPU)


def one_head(
    materials: dict[str, Material], params: Params, epochs: int, seed: int, fold: int, folder: Path
) -> pd.DataFrame:
    """Counts on a fold's images of one head with an output for every class, fitted to the other folds' images."""
    folds = {cls: folds_of(one.groups.tolist(), params.enrolment.folds) for cls, one in materials.items()}
    places = [(cls, int(i)) for cls, one in materials.items() for i in np.flatnonzero(folds[cls] != fold)]
    torch.manual_seed(seed)
    channels = next(iter(materials.values())).descriptors.shape[1]
    head = nn.Sequential(
        nn.Dropout2d(0.1), nn.Conv2d(channels, 2 * HIDDEN, 1), nn.GroupNorm(GROUPS, 2 * HIDDEN), nn.GELU(),
        nn.Conv2d(2 * HIDDEN, HIDDEN, 3, padding=1), nn.GroupNorm(GROUPS, HIDDEN), nn.GELU(),
        nn.Conv2d(HIDDEN, len(materials), 1),
    )  # fmt: skip
    used = torch.cat([one.descriptors for one in materials.values()])[::7].float()
    mean, spread = used.mean((0, 2))[:, None, None], used.std((0, 2))[:, None, None]
    steps = epochs * -(-len(places) // BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    rng = generator(seed, "one head", fold)
    order: list[int] = []
    classes = list(materials)

    def logits(chosen: Sequence[tuple[str, int]]) -> torch.Tensor:
        grid = (
            torch.stack([materials[cls].descriptors[i] for cls, i in chosen]).float().unflatten(2, (25, 25))
        )
        found: torch.Tensor = head((grid - mean) / spread)
        own = torch.tensor([classes.index(cls) for cls, _ in chosen])
        return found[torch.arange(len(chosen)), own]  # a class is asked about its own surface

    with progress(f"fold {fold}", steps) as tick:
        for _ in range(steps):
            if len(order) < BATCH:
                order = rng.permutation(len(places)).tolist()
            chosen = [places[order.pop()] for _ in range(BATCH)]
            truth = torch.cat([materials[cls].targets([i]) for cls, i in chosen])
            wide = F.interpolate(logits(chosen)[:, None], size=truth.shape[1:], mode="bilinear")[:, 0]
            loss = bce(wide, truth) + dice(wide, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            tick(1)
    rows = []
    head.eval()
    with torch.inference_mode():
        for cls, one in materials.items():
            for i in np.flatnonzero((folds[cls] == fold) & one.defect):
                wide = F.interpolate(
                    logits([(cls, int(i))])[:, None], size=one.marks[int(i)].shape, mode="bilinear"
                )[:, 0]
                counts = confusion(wide > 0, one.marks[int(i)][None])[0].tolist()
                rows.append(
                    {
                        "cls": cls,
                        "place": int(i),
                        "query_group": one.groups[i],
                        **dict(zip(COUNTS, counts, strict=True)),
                    }
                )
    return pd.DataFrame(rows)


def main(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the known images.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and episodes.")] = 0,
    folds: Annotated[
        int, typer.Option(min=0, help="Folds that are asked about, the first so many; 0: all.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder: a table for each fold, and a JSON.")] = Path(
        "artifacts/benchmarks/known"
    ),
) -> None:
    """Train on the known classes of ``data/``, ask about the images left out, and print a table."""
    params = load_params(layout.PARAMS)
    out.mkdir(parents=True, exist_ok=True)
    catalog = build_catalog(layout.DATA, out / "catalog.parquet")
    matching = FeatureStore(
        matching_network(params.image_size, init=params.init).network.backbone, catalog, params, layout.DATA
    )
    classes = sorted(catalog["cls"].unique())
    matching.ensure(classes)
    materials = {
        cls: material_of(matching, catalog[catalog["cls"] == cls].sort_values("image"), (2, 3, 4))
        for cls in classes
    }
    readers = {ONE_HEAD: partial(one_head, materials, params, epochs, seed)}
    readers |= {
        name: partial(trained, config, params, catalog, epochs, seed) for name, config in NETWORKS.items()
    }
    found = {}
    asked = list(range(folds or params.enrolment.folds))
    for name, reader in readers.items():
        tables = []
        for fold in asked:
            path = out / f"{name}-{epochs}-{seed}-{fold}.parquet"
            if not path.exists():
                rows = reader(fold, out / "checkpoints" / f"{name}-{epochs}-{seed}-{fold}")
                with atomic_path(path) as temporary:
                    rows.to_parquet(temporary, index=False)
            tables.append(pd.read_parquet(path).assign(fold=fold))
        rows = pd.concat(tables, ignore_index=True)
        named = rows.assign(
            split="known", kind="defect", query=rows["query_group"], episode=rows.index.astype(str)
        )
        found[name] = scored(named, seed)
        typer.echo("{}: {:.1f} ({:.1f} to {:.1f})".format(name, *found[name]["mIoU"]))
    write_json(out / f"{epochs}-{seed}.json", {
        "machine": machine(), "data": layout.data_md5(), "seed": seed, "epochs": epochs, "folds": asked,
        "shots": SHOTS, "rows": found,
    })  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
