"""The peers as good as they can be: ``python -m benchmarks.tuning``, the same search for each of them.

Six trials a peer, one after the other: what the release does, then one thing changed at a time, kept where the mean
over the folds gains. A trial is trained on a fold's base classes and scored on its held-out ones (`validation`); no
novel class is read. On the backbone's initial weights, whose features all folds share. Trials that the file of results
holds for these data and settings are not run again, one that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
import yaml

from benchmarks.project import DEVICE, Project
from benchmarks.results import machine
from lerenet import layout
from lerenet.cli.terminal import run_app
from lerenet.data.sampler import EpisodeSampler
from lerenet.files import read_json, write_json
from lerenet.models.config import network_config
from lerenet.params import TrainSettings
from lerenet.progress import progress

PEERS = ("asgnet", "bam", "canet", "dcp", "hdmnet", "pfenet", "tgrnet")
WITH_PRIOR = ("bam", "dcp", "hdmnet", "pfenet")
FOLDS = ("fold0", "fold1", "fold2")
BACKBONE, WIDTH, EPOCHS, STEPS, BATCH = "efficientnet_lite0", 64, 10, 100, 2
ROWS = Path("artifacts/benchmarks/tuning.json")
Chosen = dict[str, Any]
RELEASED: Chosen = {"loss": "bce", "scaled": False, "prior": "highest", "lr": 3e-4}
CHANGES: tuple[Chosen, ...] = (
    {"loss": "bce_dice"}, {"scaled": True}, {"prior": "centred"}, {"lr": 1e-3}, {"lr": 1e-4},
)  # fmt: skip
INSTEAD: Chosen = {"lr": 3e-3}  # a trial as well, of a peer that has no prior to choose


def changes(peer: str) -> list[Chosen]:
    """What is tried after the first trial, in this order."""
    found = [change for change in CHANGES if peer in WITH_PRIOR or "prior" not in change]
    return found if peer in WITH_PRIOR else [*found, INSTEAD]


def recipe(peer: str, chosen: Chosen, epochs: int = EPOCHS, steps: int = STEPS) -> dict[str, Any]:
    """The recipe of a trial, as ``params.yaml`` would hold it."""
    model: Chosen = {"name": peer, "width": WIDTH, "scaled": chosen["scaled"]}
    if peer in WITH_PRIOR:
        model["prior"] = chosen["prior"]
    train = {
        "epochs": epochs, "episodes_per_epoch": steps * BATCH, "batch": BATCH, "lr": chosen["lr"],
        "loss": chosen["loss"], "clean_share": 0.0, "episodes_per_query": 0,
    }  # fmt: skip
    return {"model": model, "train": train}


def run_trial(project: Project, settings: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Train one recipe on a fold: mIoU (points) on its held-out base classes, the best epoch, seconds."""
    from lerenet.training import checkpoint
    from lerenet.training.trainer import Trainer

    model, train = network_config(settings["model"]), TrainSettings.model_validate(settings["train"])
    backbone = project.new_backbone(model)
    head = project.new_head(model, backbone)
    store = project.store(backbone, project.split["base"], views=True, masked="masked" in head.reads)
    store.ensure(project.split["validation"], masked="masked" in head.reads)
    sampler = EpisodeSampler(
        project.catalog, project.split["base"], 1, project.params.views.count, train.batch, train.clean_share,
        project.params.seed, train.episodes_per_epoch, train.episodes_per_query,
    )  # fmt: skip
    began = time.monotonic()
    trainer = Trainer(
        head, store, sampler, train, project.chosen("validation", 1), None, folder, DEVICE,
        project.params.seed, train.epochs, model=model.model_dump(mode="json"),
    )  # fmt: skip
    with progress(f"{model.name} {project.fold}", train.epochs * trainer.steps) as trainer.tick:
        trainer.run()
    checkpoint.clear(folder)
    seconds = time.monotonic() - began
    return {"miou": trainer.best["miou"], "epoch": trainer.best["epoch"], "seconds": round(seconds, 1)}


class Search:
    """The trials of all peers in one file, by peer and settings.

    Args:
        about: what a row has to agree with to be taken: data, seed, backbone, length.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, dict(about)
        self.rows: list[dict[str, Any]] = read_json(path) if path.exists() else []

    def score(self, peer: str, chosen: Chosen) -> float | None:
        """Mean over the folds, where all of them are there."""
        folds = self._folds(peer, chosen)
        return fmean(row["miou"] for row in folds.values()) if set(folds) == set(FOLDS) else None

    def trials(self, peer: str) -> list[tuple[Chosen, dict[str, dict[str, Any]]]]:
        """What was tried, in its order, with the rows by fold."""
        found: list[tuple[Chosen, dict[str, dict[str, Any]]]] = []
        for row in self._of(peer):
            folds = next((folds for chosen, folds in found if chosen == row["chosen"]), None)
            if folds is None:
                found.append((row["chosen"], folds := {}))
            folds[row["fold"]] = row
        return found

    def missing(self, peer: str) -> Iterator[tuple[str, Chosen]]:
        """Fold and settings of what has to run next, one after the other; the caller adds each row before the next."""
        best, top = dict(RELEASED), None
        for change in [{}, *changes(peer)]:
            chosen = {**best, **change}
            yield from ((fold, chosen) for fold in FOLDS if fold not in self._folds(peer, chosen))
            score = self.score(peer, chosen)
            if score is None:
                return
            if top is None or score > top:
                best, top = chosen, score

    def best(self, peer: str) -> Chosen | None:
        """The settings with the highest mean, once every trial ran."""
        if next(self.missing(peer), None) is not None:
            return None
        return max(
            (chosen for chosen, _ in self.trials(peer)), key=lambda chosen: self.score(peer, chosen) or 0.0
        )

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; the file is written whole. Rows that another process added meanwhile stay."""
        self.rows = read_json(self.path) if self.path.exists() else []
        self.rows.append({**self.about, **row})
        write_json(self.path, self.rows)

    def _folds(self, peer: str, chosen: Chosen) -> dict[str, dict[str, Any]]:
        return next((folds for tried, folds in self.trials(peer) if tried == chosen), {})

    def _of(self, peer: str) -> list[dict[str, Any]]:
        about = self.about.items()
        return [row for row in self.rows if row["peer"] == peer and about <= row.items()]


def table(search: Search, peers: Sequence[str] = PEERS) -> str:
    """Markdown: a line a trial with each fold's mIoU, the kept one in bold once all are there."""
    heads = ["network", "loss", "scaled", "prior", "lr", *FOLDS, "mean", "best epochs"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for peer in peers:
        best = search.best(peer)
        for chosen, folds in search.trials(peer):
            score = search.score(peer, chosen)
            cells = [
                f"**{peer}**" if chosen == best else peer,
                chosen["loss"],
                "yes" if chosen["scaled"] else "no",
                chosen["prior"] if peer in WITH_PRIOR else "none",
                f"{chosen['lr']:g}",
                *(f"{folds[fold]['miou']:.1f}" if fold in folds else "-" for fold in FOLDS),
                "-" if score is None else f"{score:.1f}",
                ", ".join(str(folds[fold]["epoch"]) if fold in folds else "-" for fold in FOLDS),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    peers: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PEERS)}; all.")] = None,
    rows: Annotated[Path, typer.Option(help="JSON with every trial: read, and added to.")] = ROWS,
    epochs: Annotated[int, typer.Option(min=1, help="Of a trial.")] = EPOCHS,
    steps: Annotated[int, typer.Option(min=1, help="Of an epoch, two episodes each.")] = STEPS,
    status: Annotated[bool, typer.Option("--status", help="Say what was found; run nothing.")] = False,
) -> None:
    """Search the settings of the peers on held-out base classes; print the trials and the recipes found."""
    for peer in peers or PEERS:
        if peer not in PEERS:
            raise typer.BadParameter(f"no peer {peer!r}; known: {', '.join(PEERS)}")
    projects = {fold: Project.load(fold, "lerenet", BACKBONE, "") for fold in FOLDS}
    seed = projects[FOLDS[0]].params.seed
    length = {"epochs": epochs, "steps": steps}
    search = Search(rows, {"data": layout.data_md5()[:36], "seed": seed, "backbone": BACKBONE, **length})
    for peer in () if status else peers or PEERS:
        for fold, chosen in search.missing(peer):
            folder = layout.CHECKPOINTS / "tuning" / peer / fold
            found = run_trial(projects[fold], recipe(peer, chosen, **length), folder)
            search.add({"peer": peer, "chosen": chosen, "fold": fold, **found, "machine": machine()})
            typer.echo(f"{peer} {fold} {chosen}: {found['miou']:.1f}, {found['seconds']:.0f} s")
    typer.echo(table(search, peers or PEERS))
    for peer in peers or PEERS:
        if best := search.best(peer):
            settings = {f"{peer}_tuned": recipe(peer, best, **length)}
            typer.echo(yaml.safe_dump(settings, default_flow_style=None, sort_keys=False, width=200))


if __name__ == "__main__":
    run_app(app)
