"""The model card of a registered version. Pages show each line of it as one: a paragraph is one line."""

from __future__ import annotations

from collections.abc import Mapping

from lerenet.evaluation.metrics import METRICS, Metric
from lerenet.registry.candidate import Candidate

USE = """\
## Intended use

Calls a photo OK, REVIEW or NG and marks the defects of the classes that it knows (below); finds defects of any other \
class from one to five example images with masks. It answers for the kind of picture it was trained on: one metal or \
tile surface filling the frame, scaled to a square. It supports an inspector's decision; it does not \
replace one. It is not meant for measuring defects, for other kinds of scene, or for a safety \
decision without a person.
"""

LIMITS = """\
## Limits

- The scores on classes not seen are those of the recipe, cross-validated on classes held out of each fold. The \
weights here were trained on every class, so no held-out score of these very weights exists.
- The answer depends on the support: another example image can change the mask a great deal.
- Thin scratches and breaks of a few pixels at the working size are often missed.
- On a clean picture a defect support can still mark pixels; see the clean-query rates in the report.
- The intervals cover the choice of query images, not another plant, camera or light.
"""


def render(candidate: Candidate, tags: Mapping[str, str]) -> str:
    """Markdown: use, data and licence, metrics with intervals, floors, classes, limits, lineage."""
    scores, seen = candidate.scores, candidate.counts["cls"].nunique()
    parts = [
        f"# lerenet {candidate.cell}\n",
        USE,
        "## Data\n",
        f"Data set: {candidate.dataset['name']} ({seen} classes tested in {len(candidate.folds)} folds). "
        f"Licence of the data: {candidate.dataset['licence']}. DVC md5: `{tags.get('data_md5', '')}`.\n",
        "## Metrics\n",
        "IoU in points (0 to 100) on classes not seen in training, frozen episodes, support and query "
        "never of one group; intervals from resampled query images (`evaluation.confidence`, 95 % by default).\n",
        "| score | value | low | high |\n|---|---|---|---|",
        *(_score(metric, scores) for metric in METRICS),
        "",
        _table("model without training (floor)", "mIoU", candidate.floors),
        _table("class", "IoU", candidate.classes),
        _known(candidate),
        f"One episode took {candidate.latency_ms:.0f} ms in the evaluation.\n",
        LIMITS,
        _lineage(tags),
    ]
    return "\n".join(part for part in parts if part)


KNOWN = """\
## Classes that it knows

Every image read by what was learnt without its group, reader and thresholds chosen without its fold. Called: NG, of \
defects and of good parts; a class with few good parts is not calibrated and calls none.

| class | examples | good parts | reader | IoU | defects called % | good parts called % |
|---|---|---|---|---|---|---|"""


def _known(candidate: Candidate) -> str:
    lines = []
    for cls, row in sorted(candidate.live.items()):
        values = (
            "-" if row[name] is None else f"{row[name]:.1f}" for name in ("iou", "called", "false_calls")
        )
        given = (str(row["examples"]), str(row["good"]), row["reader"])
        lines.append(f"| {' | '.join((cls, *given, *values))} |")
    return "\n".join([KNOWN, *lines, ""]) if lines else ""


def _score(metric: Metric, scores: Mapping[str, float]) -> str:
    return (
        "| "
        + " | ".join([metric.title, *(f"{scores[name]:.1f}" for name in (metric.name, *metric.bounds))])
        + " |"
    )


def _table(name: str, value: str, rows: Mapping[str, float]) -> str:
    if not rows:
        return ""
    lines = [f"| {key} | {number:.1f} |" for key, number in sorted(rows.items())]
    return "\n".join([f"| {name} | {value} |", "|---|---|", *lines, ""])


def _lineage(tags: Mapping[str, str]) -> str:
    lines = [f"| {key} | `{value}` |" for key, value in sorted(tags.items()) if len(value) <= 100]
    return "\n".join(["## Lineage\n", "| what | value |", "|---|---|", *lines, ""])
