"""Retraining, in order: data, validation, drift, training, registration, gate, alias, push.

Every step is safe to repeat. The alias moves last: a crash before it changes nothing that a user
of ``models:/lerenet@champion`` reads.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows.stages import is_clean, mirror, publish, pull_data, push, refuse_inside_dvc
from lerenet import layout
from lerenet.params import Params, load_params
from lerenet.promotion.gate import Verdict
from lerenet.tracking import registry
from lerenet.tracking.candidate import collect, lock_hash


def step(work: Any, name: str) -> Any:
    """``work`` as a task of its own, never cached."""
    return task(work, name=name, cache_policy=NO_CACHE, persist_result=False)


@flow(name="retrain", persist_result=False)
def retrain(jobs: int = 1, force: bool = False, pull: bool = True, operator: str = "schedule") -> Any:
    """Bring the champion up to date with data and code, if the gate agrees.

    Args:
        jobs: How many stages run at once.
        force: Go on when nothing changed; the stages themselves still run only when stale.
        pull: Fetch the data from the DVC remote first.
        operator: Who or what asked, for the ledger.
    """
    refuse_inside_dvc()
    if pull:
        step(pull_data, name="pull data")()
    params = load_params(layout.PARAMS)
    mirror(["folds"], jobs)  # the validation gate: bad data end the flow here
    step(report_drift, name="drift report")()
    if not force and step(nothing_changed, name="what changed")(params):
        return Completed(message="Nothing changed since the last decision")
    mirror([], jobs)
    version = step(register, name="register")(params)
    verdict = step(decide, name="gate and promotion")(version, params, operator)
    step(push, name="push data")()
    return Completed(message=f"Version {version}: {verdict.outcome}")


def report_drift() -> None:
    """Compare the images with those of the champion; publish what changed."""
    import pandas as pd

    from lerenet.data.drift import drift_markdown, drift_summary

    champion = registry.champion()
    old = registry.resolve(champion.number) / "catalog.parquet" if champion else None
    if old is None or not old.exists() or not layout.CATALOG.exists():
        return
    summary = drift_summary(pd.read_parquet(old), pd.read_parquet(layout.CATALOG))
    create_markdown_artifact(
        drift_markdown(summary), key="drift", description="Images now and at the last promotion"
    )


def nothing_changed(params: Params) -> bool:
    """Whether ``dvc status`` is clean and the version of this ``dvc.lock`` has its verdict."""
    if not is_clean():
        return False
    known = registry.find_by_lock(lock_hash(params))
    return known is not None and known.tags.get("verdict", "candidate") != "candidate"


def register(params: Params) -> str:
    """Register the candidate of the last run; the same ``dvc.lock`` gives the same version again."""
    return registry.register(collect(params), params)


def decide(version: str, params: Params, operator: str) -> Verdict:
    """Judge ``version``; promote it if the gate agrees. The verdict is published before the alias moves."""
    from lerenet.promotion.promote import promote

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


if __name__ == "__main__":
    retrain()
