"""How often the promotion gate is right: ``python -m benchmarks.gate`` simulates its decisions.

Counts of two models are made up for three folds of four classes. What makes an image hard, and a support
poor, counts for both models; what is left differs. Under no difference the two are drawn alike; a gain
makes the challenger find more of each defect. Theory is a normal test with the standard error of the gain,
which comes from other simulated data sets without any resampling: P(promoted) = Φ((gain - min_gain) / σ - z).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from lerenet.params import GateSettings
from lerenet.registry.gate import Guards, decide

QUERIES = (19, 50, 61, 50, 18, 50, 50, 37, 21, 57, 26, 33)  # images a class, four classes a fold
REPEATS = 2  # episodes a query image
PIXELS = 40_000.0  # of an image
HARD, POOR, OWN = 0.8, 0.5, 0.6  # spread of an image, an episode, a model at an episode; log odds of a pixel
GAIN = 0.22  # log odds by which a better challenger finds more
GUARDS = Guards(validated=True, latency_ms=1.0, export_agrees=True)
CASES = (  # name, gain, with guard rails, a class that collapses
    ("no difference, guard rails off", 0.0, False, None),
    ("no difference", 0.0, True, None),
    ("a known gain, guard rails off", GAIN, False, None),
    ("a known gain", GAIN, True, None),
    ("three times that gain, one class collapses", 3 * GAIN, True, 1),
)
REFERENCES = 2000  # data sets without a decision, for σ


def simulate(
    rng: np.random.Generator, gain: float, collapsed: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts of champion and challenger on the same episodes, as the gate reads them.

    Args:
        rng: of everything.
        gain: log odds by which the challenger finds more of each defect.
        collapsed: number of the class of which the challenger finds next to nothing.
    """
    tables: list[list[pd.DataFrame]] = [[], []]
    for number, queries in enumerate(QUERIES):
        size = (queries, REPEATS)
        area = np.exp(rng.normal(6.5, 1.0, (queries, 1))).clip(50, PIXELS / 2) * np.ones(size)
        ease = rng.normal(0, HARD, (queries, 1)) + rng.normal(0, POOR, size)
        for which, table in enumerate(tables):
            shift = gain * which - (6.0 if which and number == collapsed else 0.0)
            own = rng.normal(0, OWN, size)
            found = area / (1 + np.exp(-(ease + own + shift)))
            false = area * np.exp(rng.normal(-0.7, 0.7, size) - 0.3 * (ease + own))
            rows = {"tp": found, "fp": false, "fn": area - found, "tn": PIXELS - area - false}
            frame = pd.DataFrame({name: value.round().ravel() for name, value in rows.items()})
            image = np.repeat(np.arange(queries), REPEATS)
            names = [f"class{number}/{i}" for i in image]
            about = {"split": f"fold{number // 4}", "cls": f"class{number}", "kind": "defect", "query": names}
            table.append(frame.assign(**about))
    champion, challenger = (pd.concat(parts, ignore_index=True) for parts in tables)
    numbers = range(len(champion))
    return champion.assign(episode=numbers), challenger.assign(episode=numbers)


def gain_of(champion: pd.DataFrame, challenger: pd.DataFrame) -> float:
    """Difference in mIoU, points: mean over classes of a fold, then over folds; written by itself."""
    scores = []
    for table in (champion, challenger):
        sums = table.groupby(["split", "cls"])[["tp", "fp", "fn"]].sum()
        iou = 100 * sums["tp"] / sums.sum(axis=1)
        scores.append(iou.groupby("split").mean().mean())
    return float(scores[1] - scores[0])


@cache
def reference(gain: float, seed: int) -> tuple[float, float]:
    """True gain and its standard error, points of mIoU, from data sets of their own."""
    rng = np.random.default_rng([seed, 0])
    gains = np.array([gain_of(*simulate(rng, gain)) for _ in range(REFERENCES)])
    return float(gains.mean()), float(gains.std(ddof=1))


def theory(gain: float, settings: GateSettings, seed: int) -> tuple[float, float, float]:
    """True gain and its standard error (points of mIoU), and the chance of a promotion by a normal test."""
    from scipy.stats import norm

    mean, sigma = reference(gain, seed)
    z = float(norm.ppf(0.5 + settings.confidence / 2))
    return mean, sigma, float(norm.cdf((mean - settings.min_gain) / sigma - z))


def promoted(
    decisions: int, gain: float, settings: GateSettings, seed: int, collapsed: int | None = None
) -> int:
    """How many of so many decisions promote."""
    rng = np.random.default_rng([seed, 1])
    count = 0
    for i in range(decisions):
        champion, challenger = simulate(rng, gain, collapsed)
        count += decide(champion, challenger, settings, GUARDS, seed=i).promotes
    return count


def rows(decisions: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """Each case with its rate, exact 95 % interval, and theory."""
    from scipy.stats import binomtest

    bare, whole = GateSettings(draws=draws, max_class_drop=100, max_drop={}), GateSettings(draws=draws)
    found = []
    for name, gain, guarded, collapsed in CASES:
        settings = whole if guarded else bare
        count = promoted(decisions, gain, settings, seed, collapsed)
        bounds = binomtest(count, decisions).proportion_ci()
        true, sigma, power = (None, None, 0.0) if collapsed is not None else theory(gain, settings, seed)
        found.append(
            {
                "case": name,
                "decisions": decisions,
                "promoted": count,
                "low": bounds.low,
                "high": bounds.high,
                "gain": true,
                "sigma": sigma,
                "theory": power,
            }
        )
        typer.echo(_line(found[-1]))
    return found


def _line(row: dict[str, Any]) -> str:
    rate = f"{row['promoted'] / row['decisions']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
    gain = "" if row["gain"] is None else f"{row['gain']:+.2f} ± {row['sigma']:.2f}"
    return f"| {row['case']} | {gain} | {rate} | {row['theory']:.1%} |"


def main(
    decisions: Annotated[int, typer.Option(min=1, help="Of each case.")] = 1000,
    draws: Annotated[
        int, typer.Option(min=100, help="Resamples of a decision; the gate's own are 10,000.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation.")] = 0,
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/gate.json"
    ),
) -> None:
    """Simulate decisions of the promotion gate and put their rates beside theory."""
    from benchmarks.results import machine
    from lerenet.files import write_json

    typer.echo("| case | true gain ± σ | promoted (95 % interval) | theory |\n|---|---|---|---|")
    facts = {"machine": machine(), "decisions": decisions, "draws": draws, "seed": seed}
    write_json(out, {**facts, "rows": rows(decisions, draws, seed)})


if __name__ == "__main__":
    typer.run(main)
