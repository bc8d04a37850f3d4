"""The registry by hand: `lerenet promote`, `verdict`, `rollback`, `renew`, `ledger`, `models`, `lineage`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli.terminal import Json, console, print_json
from lerenet.tracking.machine import user

Operator = Annotated[str, typer.Option(help="Who does it; your user name when empty.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; kept in the ledger.")]


def promote(
    version: Annotated[str, typer.Argument(help="Number of the version; see `lerenet models`.")],
    operator: Operator = "",
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
) -> None:
    """Judge a version against the champion and promote it if the gate lets it through (else status 1)."""
    from lerenet import layout
    from lerenet.params import load_params
    from lerenet.registry.promote import promote as change

    params = load_params(layout.PARAMS)
    verdict = change(version, params, operator=operator or user(), reason=reason, force=force)
    typer.echo(f"version {version}: {verdict.outcome}")
    for line in verdict.reasons:
        typer.echo(f"  {line}")
    if not verdict.promotes:
        raise typer.Exit(1)


def rollback(
    operator: Operator = "",
    reason: Reason = "",
    leave: Annotated[
        str, typer.Option("--from", help="The champion to leave; needed to go back a second step.")
    ] = "",
) -> None:
    """Make the champion's predecessor champion again; repeated, it changes nothing."""
    from lerenet.registry.promote import rollback as change

    done = change(operator=operator or user(), reason=reason, leave=leave)
    if done.again:
        typer.echo(f"already rolled back from version {done.before} to {done.after}: nothing changed")
        typer.echo(f"  to go back further: lerenet rollback --from {done.after}")
    else:
        typer.echo(f"champion: version {done.before} -> version {done.after}")
    if not done.carries_code:
        typer.echo(f"  version {done.after} carries no code of its own, MLflow can't serve it: lerenet renew")


def renew(
    version: Annotated[str, typer.Argument(help="A number, or champion.")] = "champion",
    operator: Operator = "",
    reason: Reason = "",
) -> None:
    """Register a version that carries no code of its own anew; if it is the champion, the new one takes its place."""
    from lerenet import layout
    from lerenet.params import load_params
    from lerenet.registry.renew import renew as make_anew

    number = make_anew(version, load_params(layout.PARAMS), operator=operator or user(), reason=reason)
    typer.echo(f"version {number}: the same model, with code of its own")


def verdict(
    version: Annotated[str, typer.Argument(help="Number of the version; see `lerenet models`.")],
    against: Annotated[str, typer.Option(help="Number of the champion that it was judged against.")] = "",
    out: Annotated[Path, typer.Option(help="The page, HTML.")] = Path("verdict.html"),
) -> None:
    """Write the page of a version's verdict: classes before and after, learning curves, images that changed."""
    from lerenet import layout
    from lerenet.files import write_text
    from lerenet.params import load_params
    from lerenet.report.verdict import page_of

    write_text(out, page_of(version, load_params(layout.PARAMS), against))
    typer.echo(f"written: {out}")


def ledger(
    seal: Annotated[
        bool, typer.Option("--seal", help="Go on with a ledger that was changed, as it is; needs --reason.")
    ] = False,
    operator: Operator = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show every decision, promotion, rollback and renewal."""
    from lerenet.registry import truth
    from lerenet.registry.ledger import COLUMNS, read, table
    from lerenet.tracking.store import require_project

    require_project()
    if seal:
        done = truth.seal(operator or user(), reason)
        typer.echo("sealed" if done else "the ledger is whole: there is nothing to accept", err=True)
    truth.require_whole()
    if as_json:
        return print_json(read())
    _show(COLUMNS, table(read()), "the ledger is empty: nothing was decided yet")
    _say_interrupted()


def _say_interrupted() -> None:
    from lerenet.registry import truth
    from lerenet.registry.versions import champion

    if change := truth.interrupted(champion()):
        typer.echo("{}\n  -> {}".format(*truth.shown(change)), err=True)


def models(as_json: Json = False) -> None:
    """Show the registered versions, newest first."""
    from lerenet.evaluation.metrics import MIOU
    from lerenet.registry import versions as registry

    if as_json:
        return print_json([asdict(item) for item in registry.versions()])
    columns = ("version", "aliases", "verdict", "mIoU", "low", "high", "cell", "commit")
    rows = []
    for item in registry.versions():
        tags = item.tags
        scores = [f"{float(tags[name]):.1f}" if name in tags else "" for name in (MIOU.name, *MIOU.bounds)]
        commit = tags.get("git_commit", "")[:8] + ("+" if tags.get("git_dirty") == "true" else "")
        verdict, cell = tags.get("verdict", ""), tags.get("cell", "")
        rows.append((item.number, " ".join(item.aliases), verdict, *scores, cell, commit))
    _show(columns, rows, "no version is registered yet: run the retraining")
    _say_interrupted()


def lineage(
    version: Annotated[str, typer.Argument(help="A number, or champion.")] = "champion",
    mask: Annotated[
        Path | None, typer.Option(help="A mask of `lerenet predict` or `inspect` instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where a version, or a mask, came from, and verify every link (else status 1)."""
    from rich.tree import Tree

    from lerenet.registry import versions as registry
    from lerenet.registry.lineage import trace
    from lerenet.registry.lineage_mask import of_mask

    item, links = of_mask(mask) if mask is not None else (registry.find(version), [])
    title = "classes beside a model that is no version of a registry"
    if item is not None:
        links += trace(item)
        aliases = f" ({', '.join(item.aliases)})" if item.aliases else ""
        title = f"version {item.number}{aliases}, {item.tags.get('verdict', '')}, {item.tags.get('cell', '')}"
    failed = any(link.state == "differs" for link in links)
    if as_json:
        print_json(
            {"version": None if item is None else item.number, "links": [asdict(link) for link in links]}
        )
        raise typer.Exit(int(failed))
    tree = Tree(title)
    colours = {"ok": "green", "differs": "bold red", "not here": "yellow"}
    for link in links:
        state = f"[{colours[link.state]}]{link.state:<8}[/]"
        tree.add(f"{state} {link.what} [bold]{link.value[:40]}[/] [dim]{link.note}[/]")
    console().print(tree)
    raise typer.Exit(int(failed))


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]], empty: str) -> None:
    from rich.table import Table

    if not rows:
        typer.echo(empty)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console().print(table)


COMMANDS: list[Callable[..., None]] = [promote, verdict, rollback, renew, ledger, models, lineage]
