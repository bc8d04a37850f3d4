"""Promotion and rollback as flows, for people who work from Prefect's page."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.stages import refuse_inside_dvc
from lerenet import layout
from lerenet.params import load_params


@flow(name="promote", persist_result=False)
def promote(version: str, operator: str, reason: str, force: bool = False) -> str:
    """Judge a registered version and promote it if the gate, or force, says so; return the verdict."""
    from lerenet.promotion.promote import promote as change

    refuse_inside_dvc()
    verdict = change(version, load_params(layout.PARAMS), operator=operator, reason=reason, force=force)
    lines = "\n".join(f"- {line}" for line in verdict.reasons)
    create_markdown_artifact(f"# Version {version}: {verdict.outcome}\n\n{lines}", key="verdict")
    return verdict.outcome


@flow(name="rollback", persist_result=False)
def rollback(operator: str, reason: str) -> str:
    """Make the champion's predecessor champion again; return its number."""
    from lerenet.promotion.promote import rollback as change

    refuse_inside_dvc()
    before, now = change(operator=operator, reason=reason)
    create_markdown_artifact(f"# Rollback\n\nVersion {before} -> version {now}: {reason}", key="rollback")
    return now
