"""Promotion and rollback as flows, for people who work from Prefect's page."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.dvc import refuse_inside_dvc
from lerenet import layout
from lerenet.params import load_params


@flow(name="promote", flow_run_name="promote version {version}", persist_result=False)
def promote(version: str, operator: str, reason: str, force: bool = False) -> str:
    """Judge a registered version and promote it if the gate, or force, says so; return the verdict."""
    from lerenet.registry.promote import promote as change

    refuse_inside_dvc()
    verdict = change(version, load_params(layout.PARAMS), operator=operator, reason=reason, force=force)
    lines = "\n".join(f"- {line}" for line in verdict.reasons)
    create_markdown_artifact(f"# Version {version}: {verdict.outcome}\n\n{lines}", key="verdict")
    return verdict.outcome


@flow(name="rollback", flow_run_name="rollback by {operator}", persist_result=False)
def rollback(operator: str, reason: str, leave: str = "") -> str:
    """Make the predecessor of the champion (or of ``leave``, which must be it) champion again; return its number."""
    from lerenet.registry.promote import rollback as change

    refuse_inside_dvc()
    done = change(operator=operator, reason=reason, leave=leave)
    text = f"Version {done.before} -> version {done.after}: {'done before' if done.again else reason}"
    create_markdown_artifact(f"# Rollback\n\n{text}", key="rollback")
    return done.after
