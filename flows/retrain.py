"""Retraining, in order: data, validation, drift, training, registration, gate, alias, push.

Every step is safe to repeat. The alias moves last: a crash before it changes nothing that a user
of ``models:/lerenet@champion`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

import typer
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed

from flows import naming, notices
from flows.data import changed_stages, is_clean, pull_data, push
from flows.dvc import StageError, logger, refuse_inside_dvc
from flows.graph import below, read_graph, select
from flows.mirror import RETRY_SECONDS, locked, mirror
from flows.parent import close_left, note, retraining_run
from flows.runners import LOCAL
from flows.tabulate import publish
from flows.turns import one_at_a_time
from lerenet import layout
from lerenet.cli.retrain import AcceptDrift, Dry, Folds, Force, Jobs, Pull, Runner, Wait
from lerenet.params import Fold, Params, load_params
from lerenet.registry import registering
from lerenet.registry import versions as registry
from lerenet.registry.candidate import collect, lock_hash, require_ship
from lerenet.registry.gate import Verdict
from lerenet.stages.common import check_settings
from lerenet.tracking import store
from lerenet.tracking.machine import user
from lerenet.tracking.runs import StageRun


def step(work: Any, name: str) -> Any:
    """``work`` as a task of its own, never cached, tried again while DVC is at work elsewhere."""
    return task(
        work, name=name, cache_policy=NO_CACHE, persist_result=False, retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=locked,
    )  # fmt: skip


@flow(
    name="retrain", flow_run_name=naming.retraining, persist_result=False,
    on_failure=[notices.failed], on_crashed=[notices.crashed],
)  # fmt: skip
def retrain(
    jobs: int = 1,
    force: bool = False,
    pull: bool = True,
    operator: str = "",
    wait: bool = False,
    dry: bool = False,
    folds: Sequence[Fold] = (),
    runner: str = LOCAL,
    accept_drift: bool = False,
) -> Any:
    """Bring the champion up to date with data and code, if the gate agrees.

    One retraining runs at a time in a project, whoever started it.

    Args:
        jobs: How many stages run at once.
        force: Go on when nothing changed; the stages themselves still run only when stale.
        pull: Fetch the data from the DVC remote first.
        operator: Who or what asked, for the ledger; the user whose process this is when empty.
        wait: When another retraining runs, wait for its end; otherwise this one is cancelled.
        dry: Say what would run and be decided, and change nothing.
        folds: Run only the stages of these folds; nothing is registered or promoted.
        runner: Where the stages run: ``local``, ``dask``, or the address of a Dask scheduler.
        accept_drift: Go on with images that shifted, though ``drift.action`` is ``block``.
    """
    refuse_inside_dvc()
    if dry:
        return Completed(message=step(forecast, name="forecast")(load_params(layout.PARAMS), force, folds))
    with one_at_a_time(wait) as free:
        if not free:
            return Cancelled(message="Another retraining runs")
        return _retrain(jobs, force, pull, operator or user(), folds, runner, accept_drift)


def _retrain(
    jobs: int,
    force: bool,
    pull: bool,
    operator: str,
    folds: Sequence[Fold],
    runner: str,
    accept_drift: bool,
) -> Any:
    if pull:
        step(pull_data, name="pull data")()
    params = load_params(layout.PARAMS)
    check_settings(params)
    if not folds:
        require_ship(params)
    unchanged = step(nothing_changed, name="what changed")

    def nothing_left() -> bool:
        return not folds and not force and unchanged(params)

    if nothing_left():
        close_left(params)
    else:
        with retraining_run(params, operator, folds) as run:
            mirror(["folds", "profile"], jobs, runner=runner)  # the validation gate: bad data end here
            if not nothing_left():  # else the code was changed, and what it makes was not
                return _stages_and_verdict(jobs, params, operator, folds, runner, accept_drift, run)
    step(push, name="push data")()  # if the last one did not get so far
    return Completed(message="Nothing changed since the last decision")


def _stages_and_verdict(
    jobs: int,
    params: Params,
    operator: str,
    folds: Sequence[Fold],
    runner: str,
    accept_drift: bool,
    run: StageRun,
) -> Any:
    step(report_drift, name="drift report")(params, accept_drift)
    if folds:
        done = mirror([], jobs, folds=folds, runner=runner)
        return Completed(message=f"{len(done)} stages of {', '.join(folds)}; nothing registered")
    mirror([], jobs, runner=runner)
    step(require_unchanged, name="unchanged meanwhile")()
    version = step(register, name="register")(params)
    verdict = step(decide, name="gate and promotion")(version, params, operator)
    note(run, version, verdict)
    step(push, name="push data")()
    return Completed(message=f"Version {version}: {verdict.outcome}")


def require_unchanged() -> None:
    """Refuse to register what was trained partly on other data, settings or code.

    Raises:
        StageError: ``dvc status`` finds changes made while the stages ran.
    """
    if changed := changed_stages():
        raise StageError(
            f"changed while the retraining ran: {', '.join(changed[:5])}; nothing was registered, "
            "the next retraining takes the changes"
        )


def forecast(params: Params, force: bool, folds: Sequence[Fold]) -> str:
    """What a retraining would run and what would be decided now, read without changing anything."""
    graph = read_graph()
    stale = [stage for stage in below(graph, changed_stages()) if stage in select(graph, (), folds)]
    runs = f"Would run at most {len(stale)} of {len(graph)} stages: {', '.join(stale)}" if stale else ""
    said = runs or f"Nothing is stale in {len(graph)} stages"
    if folds:
        return f"{said}. Nothing would be registered: only {', '.join(folds)}"
    return f"{said}. {_outlook(params, bool(stale), force)}"


def _outlook(params: Params, stale: bool, force: bool) -> str:
    champion = registry.champion() if store_exists() else None
    against = f"against version {champion.number}" if champion else "as the first champion"
    if stale:
        return f"The gate would judge the new version {against}"
    registered = registry.find_by_lock(lock_hash(params)) if store_exists() else None
    from lerenet.registry.promote import judge, settled

    if registered and settled(registered) and not force:
        return f"Version {registered.number} is decided: {registered.tags['verdict']}. Nothing would be done"
    if not registered:
        return f"The outputs would be registered and judged {against}"
    if champion and champion.number == registered.number:
        return f"Version {registered.number} is the champion and would stay it"
    return f"Version {registered.number} would be judged {against}: {judge(registered, champion, params).outcome}"


def store_exists() -> bool:
    """Whether there is a store to read; reading a missing sqlite file would make it."""
    path = store.sqlite_path(store.tracking_uri())
    return path is None or path.exists()


def report_drift(params: Params, accept: bool = False) -> None:
    """Compare the images with those of the champion; publish what changed, and say what shifted.

    Raises:
        Shifted: a class shifted, ``drift.action`` is ``block`` and nobody accepted it.
    """
    from lerenet.drift.compare import drift_summary, load_profiled
    from lerenet.drift.markdown import drift_markdown, shifted

    champion = registry.champion()
    old = registry.resolve(champion.number) / "catalog.parquet" if champion else None
    if old is None or not old.exists() or not layout.CATALOG.exists():
        return
    summary = drift_summary(load_profiled(old), load_profiled(layout.CATALOG), params.drift)
    create_markdown_artifact(
        drift_markdown(summary), key="drift", description="Images now and at the last promotion"
    )
    if not summary["shifts"]:
        return
    what = f"the new images are unlike those of the champion: {shifted(summary)}"
    if params.drift.action == "block" and not accept:
        raise notices.Shifted(
            f"{what}; drift.action is block, so nothing was trained",
            "see the Prefect artifact `drift`; mend the images, or, if they are what the line looks like now, "
            "run the flow with accept_drift=True",
        )
    logger().warning("%s (see the artifact `drift`)", what)


def nothing_changed(params: Params) -> bool:
    """Whether ``dvc status`` is clean and the version of this ``dvc.lock`` was decided, to the last step."""
    from lerenet.registry.promote import settled

    if not is_clean():
        return False
    registered = registry.find_by_lock(lock_hash(params))
    return registered is not None and settled(registered)


def register(params: Params) -> str:
    """Register the candidate of the last run; the same ``dvc.lock`` gives the same version again."""
    return registering.register(collect(params), params)


def decide(version: str, params: Params, operator: str) -> Verdict:
    """Judge ``version``; promote it if the gate agrees. The verdict is published before the alias moves."""
    from lerenet.registry.promote import promote

    return promote(version, params, operator=operator, reason="retraining", before_alias=publish_verdict)


def publish_verdict(version: str, verdict: Verdict) -> None:
    """Publish the verdict, the classes' gains and the model card."""
    lines = "\n".join(f"- {reason}" for reason in verdict.reasons)
    card = (registry.resolve(version) / "README.md").read_text(encoding="utf-8")
    text = f"# Version {version}: {verdict.outcome}\n\n{lines}\n\n{card}"
    create_markdown_artifact(text, key="verdict", description=f"Version {version}: {verdict.outcome}")
    if verdict.gain is not None:
        rows = [{"class": cls, "gain": round(gain, 2)} for cls, gain in verdict.gain.class_gain.items()]
        publish("class-gains", rows, f"Points of IoU that version {version} gains over the champion")
    _attach_page(version, verdict)


def _attach_page(version: str, verdict: Verdict) -> None:
    """Keep the verdict's page with the version's run in MLflow; a page that can't be made stops no promotion."""
    from lerenet.report.verdict import verdict_page

    champion = registry.champion()
    before = registry.resolve(champion.number) if champion and champion.number != version else None
    title = f"Version {version}: {verdict.outcome}"
    try:
        package = registry.resolve(version)
        page = verdict_page(title, verdict.reasons, package, before, load_params(layout.PARAMS))
        registry.attach(version, "verdict.html", page)
    except Exception as error:
        logger().warning("no page of the verdict: %s (`lerenet verdict %s` tries again)", error, version)


def command(
    jobs: Jobs = 1,
    force: Force = False,
    pull: Pull = True,
    operator: Annotated[str, typer.Option(help="Who asks, for the ledger; your user name when empty.")] = "",
    wait: Wait = False,
    dry: Dry = False,
    folds: Folds = None,
    runner: Runner = LOCAL,
    accept_drift: AcceptDrift = False,
) -> None:
    """Bring the champion up to date with data and code, if the gate agrees."""
    known, asked = get_args(Fold), set(folds or ())
    if strange := sorted(asked - set(known)):
        raise typer.BadParameter(f"no fold {', '.join(strange)}; known: {', '.join(known)}")
    chosen = [name for name in known if name in asked]
    retrain(jobs, force, pull, operator, wait, dry, chosen, runner, accept_drift)


if __name__ == "__main__":
    typer.run(command)
