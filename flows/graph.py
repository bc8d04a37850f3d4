"""The order of the stages: written in ``dvc.yaml`` alone, read from ``dvc dag --dot``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flows.dvc import run_dvc
from lerenet.pipeline import STAGES, groups

Graph = dict[str, frozenset[str]]  # stage -> the stages it reads from
GROUPS = groups()
GPU_STAGES = tuple(stage.name for stage in STAGES if stage.gpu)


_NODE, _EDGE = re.compile(r'^"([^"]+)";$'), re.compile(r'^"([^"]+)" -> "([^"]+)";$')


def parse_dot(text: str) -> Graph:
    """Stages and what each reads from, of the output of ``dvc dag --dot``."""
    reads: dict[str, set[str]] = {}
    for line in map(str.strip, text.splitlines()):
        if node := _NODE.match(line):
            reads.setdefault(node[1], set())
        elif edge := _EDGE.match(line):
            reads.setdefault(edge[1], set())
            reads.setdefault(edge[2], set()).add(edge[1])
    return {stage: frozenset(above) for stage, above in reads.items()}


def select(graph: Graph, groups: Sequence[str] = (), folds: Sequence[str] = ()) -> Graph:
    """The stages of the named groups and folds, with everything that they need.

    Args:
        graph: All stages.
        groups: Names of `GROUPS`; empty: all stages.
        folds: Only stages whose key begins with one of these; empty: any.
    """
    wanted = {name for group in groups for name in GROUPS[group]}
    waiting = [
        stage
        for stage in graph
        if (not groups or stage.partition("@")[0] in wanted)
        and (not folds or stage.partition("@")[2].partition("-")[0] in folds)
    ]
    kept: set[str] = set()
    while waiting:
        stage = waiting.pop()
        if stage not in kept:
            kept.add(stage)
            waiting.extend(graph[stage])
    return {stage: above for stage, above in graph.items() if stage in kept}


def read_graph() -> Graph:
    """The project's stages and what each reads from, as DVC sees them now."""
    return parse_dot(run_dvc("dag", "--dot"))


def below(graph: Graph, changed: Sequence[str]) -> list[str]:
    """``changed`` and every stage that reads from one of them, directly or not, in the graph's order."""
    affected = set(changed)
    while more := {stage for stage, above in graph.items() if above & affected} - affected:
        affected |= more
    return [stage for stage in graph if stage in affected]


def has_gpu_stage(graph: Graph) -> bool:
    """Whether a stage of ``graph`` trains or predicts."""
    return any(stage.partition("@")[0] in GPU_STAGES for stage in graph)
