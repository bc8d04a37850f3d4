"""What the benchmarks of the live model found, as a page: ``python -m benchmarks.page FOLDER --out docs/…``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.beside import exported
from benchmarks.large import line, resolution, scales
from benchmarks.tables import Value, cell, facts, signed, table
from lerenet.files import read_json, write_text


def enrolment(found: Mapping[str, Any]) -> str:
    """Readers in rows, by the number of examples."""
    names = list(found["curve"]["enrolled all"])
    rows = [
        (label, *(cell(values[name]) if name in values else "" for name in names))
        for label, values in _ordered(found)
    ]
    classes = list(found["classes"])
    gains = [
        (title.removeprefix("gain over "), *(signed(found[title][cls]) for cls in ("all", *classes)))
        for title in found
        if title.startswith("gain")
    ]
    each = [
        (cls, *(f"{values[label]['mIoU']:.1f}" if label in values else "-" for label in LABELS))
        for cls, values in found["classes"].items()
    ]
    return "\n\n".join([
        f"## What examples and good parts buy, {found['good parts']} good parts at most",
        "Every image is read by what was learnt from other folds' groups; reader and thresholds are chosen there too. "
        "`enrolled` is the reader that was chosen. A count that a fold's others don't reach leaves its images out.",
        facts(found), table(("reader, examples", *names), rows),
        "Gains with all examples on the same images, in points of IoU:",
        table(("over", "all classes", *classes), gains),
        "IoU of each class:", table(("class", *LABELS), each),
    ])  # fmt: skip


LABELS = [f"enrolled {count}" for count in ("1", "5", "20", "all")]


def _ordered(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Value]]]:
    counts = ["1", "5", "20", "all"]
    return sorted(found["curve"].items(), key=lambda item: (counts.index(item[0].split()[1]), item[0]))


def year(found: Mapping[str, Any]) -> str:
    """A row for each delivery."""
    rows = []
    for row in found["rows"]:
        words = (row.get("outcome", "start"), *(row.get(name, {}).get("outcome", "") for name in SPOILT))
        scores = (f"{row[name]['miou']:.1f}" for name in MODELS)
        calls = (f"{row[name]['called']:.0f}" for name in MODELS[2:])
        rows.append((str(row["delivery"]), ", ".join(row.get("classes", [])), *words, *scores, *calls))
    head = ("delivery", "classes", "verdict", *SPOILT, *(f"mIoU, {name}" for name in MODELS),
            *(f"called %, {name}" for name in MODELS[2:]))  # fmt: skip
    return "\n\n".join(
        [f"## A year of deliveries, order {found['seed']}", facts(found), summary(found), table(head, rows)]
    )


SPOILT = ("swapped", "shifted")
MODELS = ("live", "never retrained", "live to come", "never retrained to come")


def summary(found: Mapping[str, Any]) -> str:
    """Promotions, how they did on the images to come, and what became of spoilt deliveries."""
    decided = found["rows"][1:]
    promoted = [row for row in decided if row["outcome"] == "promoted"]
    worse = [row for row in promoted if row["challenger to come"]["miou"] < row["champion to come"]["miou"]]
    stopped = sum(row[name]["outcome"] != "promoted" for row in decided for name in SPOILT)
    return (
        f"{len(promoted)} of {len(decided)} deliveries were promoted; {len(worse)} of these marks the images to come "
        f"worse than the champion before it. {stopped} of {2 * len(decided)} spoilt deliveries were stopped."
    )


def by_class(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The classes, and rows of a name's mIoU and of its IoU in each class, where it has one."""
    classes = list(next(iter(found["rows"].values()))["classes"])
    rows = []
    for name, row in found["rows"].items():
        each = (f"{row['classes'][cls]:.1f}" if cls in row["classes"] else "-" for cls in classes)
        rows.append((name, cell(row["mIoU"]), *each))
    return classes, rows


def readers(found: Mapping[str, Any]) -> str:
    """Readers in rows, classes in columns, with all examples."""
    classes, rows = by_class(found)
    gain = (
        "gain by the shared head",
        signed(found["gain"]),
        *(f"{found['class gain'][cls]:+.1f}" for cls in classes),
    )
    return "\n\n".join([
        "## Readers, all examples",
        "As stages `enrol` and `inspect` have it: every image is read by what was made without its fold, with all good "
        "parts; `served` is the reader that the other folds' images chose. A reader's own row leaves out classes that "
        "are too small for it.",
        facts(found), table(("", "mIoU", *classes), [*rows, gain]),
        "As it serves, marks and decisions, groups drawn anew in each class for the intervals:",
        table(list(found["decisions"]), [[cell(value) for value in found["decisions"].values()]]),
    ])  # fmt: skip


def known(found: Mapping[str, Any]) -> str:
    """Networks trained on all known classes in rows, classes in columns."""
    classes, rows = by_class(found)
    return "\n\n".join([
        "## Networks trained on the known classes",
        f"{found['epochs']} epochs on the other folds' images of all classes; asked with {found['shots']} supports "
        f"where it takes any; images of folds {', '.join(map(str, found['folds']))}.",
        facts(found), table(("", "mIoU", *classes), rows),
    ])  # fmt: skip


def confusion(found: Mapping[str, Any]) -> str:
    """True classes in rows, answers in columns."""
    answers = list(next(iter(found["table"].values())))
    rows = [(name, *(str(row[answer]) for answer in answers)) for name, row in found["table"].items()]
    return "\n\n".join(["## Which class is answered", facts(found), table(("true, answer", *answers), rows)])


def size(found: Mapping[str, Any]) -> str:
    """Parts in rows, sizes in columns."""
    from benchmarks.scale import table as sized

    fitting = [f"{found[name]} {what}" for name, what in FITTING.items() if found[name] is not None]
    said = [f"Not with the settings' own lengths: {', '.join(fitting)}."] if fitting else []
    return "\n\n".join(["## Size", facts(found), *said, sized(found["rows"])])


FITTING = {"steps": "steps of fitting", "epochs": "epochs of the shared heads"}
SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "enrolment/*.json": enrolment,
    "readers.json": readers,
    "known/*.json": known,
    "year/*.json": year,
    "confusion/*.json": confusion,
    "scales.json": scales,
    "resolution/*/resolution.json": resolution,
    "line/line.json": line,
    "scale.json": size,
    "exported.json": exported,
}


def headed(text: str) -> dict[str, str]:
    """Sections of a page by their headings, in its order; what stands before the first is under none."""
    parts = text.strip().split("\n\n## ")
    found = {"": parts[0]}
    for part in parts[1:]:
        head = part.partition("\n")[0]
        found[head] = f"{found[head]}\n\n## {part}" if head in found else f"## {part}"
    return found


def main(
    folder: Annotated[Path, typer.Argument(help="artifacts/benchmarks of a project.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("inspection-results.md"),
    note: Annotated[
        str, typer.Option(help="What a reader should know: of what code the numbers are, …")
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the page's sections that are not made anew.")
    ] = False,
) -> None:
    """Write what lies in the folder."""
    top = [
        "# The live model, measured",
        "Written by `python -m benchmarks.page` from what `benchmarks.enrolment`, `readers`, `known`, `year`, "
        "`confusion`, `scales`, `resolution`, `line`, `scale`, `exported` left. Don't edit: run it again. Scores are "
        "points or percent, with 95 % intervals.",
        *([note] if note else []),
    ]
    made = [
        render(read_json(path)) for name, render in SECTIONS.items() for path in sorted(folder.glob(name))
    ]
    page = "\n\n".join([*top, *made])
    if keep:
        page = "\n\n".join((headed(out.read_text(encoding="utf-8")) | headed(page)).values())
    write_text(out, page + "\n")
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
