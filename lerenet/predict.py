"""For the inspector on the line: one to five marked examples of a defect, then masks of new images."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lerenet.data.images import image_facts, read_image
from lerenet.errors import DataError, LerenetError, ModelError, TrackingError
from lerenet.files import scratch_dir, sha256_file, write_json
from lerenet.inference import Pixels, Support, check_shots, enrol, prepare, read_support, segment
from lerenet.loading import CONFIG, LoadedNetwork, load_network, matching_network
from lerenet.overlay import draw_overlay

BATCH = 8  # queries decoded at once
WITHOUT_TRAINING = "--model matching segments at once, without any training"

logger = logging.getLogger(__name__)
Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Prediction:
    """One query's result; files are names inside the output folder.

    ``foreground``: share of the image that is marked, 0..1. ``confidence``: mean over the pixels of
    the probability of the class chosen, 0.5..1 (low by nature for ``matching``). ``milliseconds``:
    from the decoded picture to its mask. ``sha256``: of the mask's file.
    """

    query: str
    mask: str
    overlay: str
    foreground: float
    confidence: float
    milliseconds: float
    sha256: str


@dataclass(frozen=True)
class Predictions:
    """All results of a call, with what was used and what the reader should know.

    ``version`` (of the registry, else empty) and ``weights_sha256`` (empty for ``matching``) tell which model it
    was, ``support_sha256`` which examples: `lerenet lineage --mask` goes back from there.
    """

    model: str
    version: str
    weights_sha256: str
    supports: list[str]
    support_sha256: list[tuple[str, str]]
    warnings: list[str]
    predictions: list[Prediction]


def open_model(model: str, image_size: int = 200) -> LoadedNetwork:
    """Load ``champion``, a version number, ``matching`` or a model folder.

    Raises:
        ModelError: nothing of that name; no champion yet; weights that don't fit.
        TrackingError: the registry can't be used.
    """
    if model == "matching":
        return matching_network(image_size)
    if model == "champion" or model.isdigit():
        from lerenet.tracking import registry

        try:
            version = registry.find(model)
            return replace(load_network(registry.verified(version)), version=version.number)
        except TrackingError as error:
            remedy = f"{error.remedy}; `dvc repro` makes a model to promote; {WITHOUT_TRAINING}"
            raise ModelError(error.what, remedy) from error
    for folder in (Path(model), Path(model) / "model"):
        if (folder / CONFIG).is_file():
            return load_network(folder)
    raise ModelError(
        f"no model {model!r}",
        "say champion, a version number, matching, or a model folder such as artifacts/train/<cell>/model",
    )


def predict(
    supports: Sequence[Pair],
    queries: Sequence[Path],
    out: Path,
    model: str | LoadedNetwork = "champion",
    *,
    image_size: int = 200,
) -> Predictions:
    """Segment ``queries`` by the example of ``supports``; write masks, overlays and tables to ``out``.

    Supports are read whole, and every query's header, before the model is loaded. Files appear in
    ``out`` all together at the end: ``<name>_mask.png`` (0 / 255, in the query's own size),
    ``<name>_overlay.png``, ``predictions.csv`` and ``predictions.json``. Older files of other names stay.

    Args:
        supports: 1 to 5 pairs (image, mask) of one kind of defect.
        queries: Images to segment, of any size.
        out: Folder; created when missing.
        model: Anything `open_model` takes, or a loaded network.
        image_size: For ``matching`` only: side to which images are resized.

    Raises:
        DataError: a support or query that can't be used; the message names the file.
        ModelError: see `open_model`.
        LerenetError: ``out`` can't be written.
    """
    supports, queries, out = list(supports), _once(queries), Path(out)
    _check_supports(supports)
    _check_queries(queries)
    names = output_names(queries)
    _check_overwrite(names, out, [*itertools.chain(*supports), *queries])
    notes = _notes(supports, queries)
    read = [read_support(image, mask) for image, mask in supports]
    for query in queries:
        image_facts(query)
    loaded = open_model(model, image_size) if isinstance(model, str) else model
    with _staging(out) as staging:
        rows = list(_segment(loaded, read, queries, names, staging))
        found = Predictions(
            model=loaded.source,
            version=loaded.version,
            weights_sha256=str(loaded.config.get("weights_sha256", "")),
            supports=[str(image) for image, _ in supports],
            support_sha256=[(sha256_file(image), sha256_file(mask)) for image, mask in supports],
            warnings=notes,
            predictions=rows,
        )
        _write_tables(found, staging)
    return found


def output_names(queries: Sequence[Path]) -> list[str]:
    """One name a query, all different: its stem, with folder and suffix where stems repeat."""
    repeated = Counter(query.stem.casefold() for query in queries)
    names: list[str] = []
    for query in queries:
        folder, suffix = query.resolve().parent.name, query.suffix.lstrip(".")
        options = [query.stem] if repeated[query.stem.casefold()] == 1 else []
        options += [f"{folder}_{query.stem}", f"{folder}_{query.stem}_{suffix}"]
        numbered = (f"{query.stem}_{number}" for number in itertools.count(2))
        taken = {name.casefold() for name in names}
        names.append(
            next(name for name in itertools.chain(options, numbered) if name.casefold() not in taken)
        )
    return names


def _segment(
    loaded: LoadedNetwork,
    supports: Sequence[Support],
    queries: Sequence[Path],
    names: Sequence[str],
    folder: Path,
) -> Iterator[Prediction]:
    loaded = prepare(loaded)
    state = enrol(loaded, supports)
    for start in range(0, len(queries), BATCH):
        images = [read_image(query) for query in queries[start : start + BATCH]]
        began = time.perf_counter()
        found = segment(loaded, state, images)
        spent = (time.perf_counter() - began) * 1000 / len(images)
        for place, (image, (mask, probability)) in enumerate(zip(images, found, strict=True), start):
            yield _write(folder, queries[place], names[place], image, mask, probability, spent)


def _write(
    folder: Path,
    query: Path,
    name: str,
    image: Pixels,
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    spent: float,
) -> Prediction:
    """Write a query's mask (H, W) and overlay."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}_mask.png")
    Image.fromarray(draw_overlay(image, mask)).save(folder / f"{name}_overlay.png")
    return Prediction(
        query=str(query),
        mask=f"{name}_mask.png",
        overlay=f"{name}_overlay.png",
        foreground=round(float(mask.mean()), 6),
        confidence=round(float(np.maximum(probability, 1 - probability).mean()), 4),
        milliseconds=round(spent, 1),
        sha256=sha256_file(folder / f"{name}_mask.png"),
    )


def _write_tables(found: Predictions, folder: Path) -> None:
    import csv

    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, list(Prediction.__dataclass_fields__))
        table.writeheader()
        table.writerows(asdict(row) for row in found.predictions)
    write_json(folder / "predictions.json", asdict(found))


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder inside ``out``; its files move into ``out`` when the block succeeds, tables last."""
    fresh = not out.exists()
    try:
        with scratch_dir(out / "predict") as staging:
            yield staging
            for path in sorted(staging.iterdir(), key=lambda path: (path.stem == "predictions", path.name)):
                os.replace(path, out / path.name)
    except OSError as error:
        raise LerenetError(
            f"{out}: can't be written: {error.strerror or error}", "free disk space or choose another --out"
        ) from error
    finally:
        if fresh and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _once(queries: Sequence[Path]) -> list[Path]:
    return list({Path(query).resolve(): Path(query) for query in queries}.values())


def _check_supports(supports: Sequence[Pair]) -> None:
    check_shots(len(supports))
    for what, paths in zip(("image", "mask"), zip(*supports, strict=True), strict=True):
        seen = Counter(Path(path).resolve() for path in paths)
        for path, times in seen.items():
            if times > 1:
                raise DataError(f"{path}: given as support {what} {times} times", "give each support once")
    _check_files([path for pair in supports for path in pair])


def _check_queries(queries: Sequence[Path]) -> None:
    if not queries:
        raise DataError("no query given", "name the images to segment: --query IMG [IMG …]")
    _check_files(queries)


def _check_files(paths: Sequence[Path]) -> None:
    for path in paths:
        if not Path(path).is_file():
            what = "is a folder" if Path(path).is_dir() else "not found"
            raise DataError(f"{path}: {what}", "name image files; a shell glob such as parts/*.jpg will do")


def _check_overwrite(names: Sequence[str], out: Path, inputs: Sequence[Path]) -> None:
    given = {Path(path).resolve() for path in inputs}
    for name in names:
        for path in (out / f"{name}_mask.png", out / f"{name}_overlay.png"):
            if path.resolve() in given:
                raise DataError(f"{path}: would be overwritten, and it is an input", "choose another --out")


def _notes(supports: Sequence[Pair], queries: Sequence[Path]) -> list[str]:
    """Warnings on supports that are among the queries (by content)."""
    known = {sha256_file(image): image for image, _ in supports}
    notes = []
    for query in queries:
        image = known.get(sha256_file(query))
        if image is not None:
            notes.append(f"{query} is the support {image} itself: its result flatters the model")
    for note in notes:
        logger.warning(note)
    return notes
