"""The peers as good as they can be: ``python -m benchmarks.tuning``, the same search for each of them.

Six trials a peer, one after the other: its recipe as the release has it, then one thing changed at a time, kept where
the mean over the folds gains. A trial is trained on a fold's base classes and scored on its held-out ones
(`validation`): its fold's novel classes are not read. They are held-out ones of other folds, though, so one choice for
all folds has seen every class, as LERENet's own design has. On the backbone's initial weights, whose features all folds
share; the recipe that is printed is the trial's, length and backbone included. Trials that the file of results holds
for these data and settings are not run again, one that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
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
from lerenet.data.folds import digest_of
from lerenet.data.sampler import EpisodeSampler
from lerenet.errors import ParamsError
from lerenet.files import alone, read_json, write_json
from lerenet.models.config import network_config, recipe_network
from lerenet.params import Params, Recipe
from lerenet.progress import progress

PEERS = ("asgnet", "bam", "canet", "dcp", "hdmnet", "pfenet", "tgrnet")
WITH_PRIOR = ("bam", "dcp", "hdmnet", "pfenet")
FOLDS = ("fold0", "fold1", "fold2")
BACKBONE, EPOCHS, STEPS = "efficientnet_lite0", 10, 100
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


def recipe(params: Params, peer: str, chosen: Chosen, epochs: int = EPOCHS, steps: int = STEPS) -> Recipe:
    """The peer's recipe with what is chosen, shortened, on the backbone's initial weights."""
    own = params.recipes[peer]
    similar = {"prior": chosen["prior"]} if peer in WITH_PRIOR else {}
    model = {**own.model, "scaled": chosen["scaled"], **similar}
    length = {"epochs": epochs, "episodes_per_epoch": steps * params.train_settings(peer).batch}
    train = {**own.train, **length, "lr": chosen["lr"], "loss": chosen["loss"]}
    return Recipe(model=model, train=train, pretrained=False)


def run_trial(project: Project, made: Recipe, folder: Path) -> dict[str, float]:
    """Train one recipe on a fold: mIoU (points) on its held-out base classes, the best epoch, seconds.

    Raises:
        ParamsError: no 1-shot episodes of held-out classes.
    """
    from lerenet.training import checkpoint
    from lerenet.training.trainer import Trainer

    model = network_config(made.model)
    train = project.params.model_copy(update={"recipes": {"trial": made}}).train_settings("trial")
    validation = project.chosen("validation", 1)
    if validation.empty:
        raise ParamsError(
            f"{project.fold}: no 1-shot episodes of held-out classes to choose by",
            "add 1 to `episodes.shots` in params.yaml, or more classes to the data",
        )
    backbone = project.new_backbone(model)
    head = project.new_head(model, backbone)
    store = project.store(backbone, project.split["base"], views=True, masked="masked" in head.reads)
    store.ensure(project.split["validation"], masked="masked" in head.reads)
    sampler = EpisodeSampler(
        project.catalog, project.split["base"], 1, project.params.views.count, train.batch, train.clean_share,
        project.params.seed, train.episodes_per_epoch, train.episodes_per_query,
    )  # fmt: skip
    trainer = Trainer(
        head, store, sampler, train, validation, None, folder, DEVICE, project.params.seed, train.epochs,
        model=model.model_dump(mode="json"),
    )  # fmt: skip
    with progress(f"{model.name} {project.fold}", train.epochs * trainer.steps) as trainer.tick:
        curve = trainer.run()
    checkpoint.clear(folder)
    seconds = sum(float(row["seconds"] or 0) for row in curve)
    return {"miou": trainer.best["miou"], "epoch": trainer.best["epoch"], "seconds": round(seconds, 1)}


class Search:
    """The trials of all peers in one file, by peer and settings.

    Args:
        about: what a row has to agree with to be taken: seed, backbone, length.
        settings: peer to the digest of data, episodes and settings that its rows have to agree with.
    """

    def __init__(
        self, path: Path, about: Mapping[str, Any], settings: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.about, self.settings = path, dict(about), dict(settings or {})
        self.rows: list[dict[str, Any]] = []
        self.read()

    def read(self) -> None:
        """What the file holds by now."""
        self.rows = read_json(self.path) if self.path.exists() else []

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
        """Keep a row; the file is written whole, rows that another process added meanwhile stay."""
        with alone(self.path.absolute().parent):
            self.read()
            self.rows.append({**self.about, "settings": self.settings.get(row["peer"]), **row})
            write_json(self.path, self.rows)

    def _folds(self, peer: str, chosen: Chosen) -> dict[str, dict[str, Any]]:
        return next((folds for tried, folds in self.trials(peer) if tried == chosen), {})

    def _of(self, peer: str) -> list[dict[str, Any]]:
        about = {**self.about, "peer": peer, "settings": self.settings.get(peer)}.items()
        return [row for row in self.rows if about <= {name: row[name] for name, _ in about}.items()]


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
    params, length = projects[FOLDS[0]].params, {"epochs": epochs, "steps": steps}
    digests = {peer: depends_on(projects, peer) for peer in peers or PEERS}
    search = Search(rows, {"seed": params.seed, "backbone": BACKBONE, **length}, digests)
    for peer in () if status else peers or PEERS:
        folder = layout.CHECKPOINTS / "tuning" / peer
        with alone(folder):  # another search of the same peer does the work, then nothing is missing
            search.read()
            for fold, chosen in search.missing(peer):
                found = run_trial(projects[fold], recipe(params, peer, chosen, **length), folder / fold)
                search.add({"peer": peer, "chosen": chosen, "fold": fold, **found, "machine": machine()})
                typer.echo(f"{peer} {fold} {chosen}: {found['miou']:.1f}, {found['seconds']:.0f} s")
    search.read()
    typer.echo(table(search, peers or PEERS))
    for peer in peers or PEERS:
        if best := search.best(peer):
            made = recipe(params, peer, best, **length).model_dump(mode="json")
            text = yaml.safe_dump(
                {f"{peer}_tuned": made}, default_flow_style=None, sort_keys=False, width=200
            )
            typer.echo(text)


def depends_on(projects: Mapping[str, Project], peer: str) -> str:
    """Digest of data, episodes and settings that a peer's trials depend on.

    Raises:
        ParamsError: params.yaml has no recipe of that name.
    """
    params = next(iter(projects.values())).params
    recipe_network(params, peer)
    kept = {"seed", "image_size", "init", "levels", "precision", "views", "episodes", "train"}
    said = {
        "data": layout.data_md5(),
        "episodes": [digest_of(project.episodes, project.catalog) for project in projects.values()],
        "settings": params.model_dump(mode="json", include=kept),
        "recipe": params.recipes[peer].model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


if __name__ == "__main__":
    run_app(app)
