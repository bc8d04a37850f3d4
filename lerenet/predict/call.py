"""One call: checks before any work, the work, the tables at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lerenet.annotations.writing import file_names
from lerenet.data.reading import PLAIN, Reading
from lerenet.files import shown
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict.earlier import Earlier
from lerenet.predict.ending import collect, finish
from lerenet.predict.guard import check_overwrite
from lerenet.predict.journal import opened, writing
from lerenet.predict.names import MASK, output_names
from lerenet.predict.opening import digest_of, open_model
from lerenet.predict.queries import find_queries
from lerenet.predict.results import Prediction, Predictions
from lerenet.predict.supports import Pair, read_examples
from lerenet.predict.work import Job, Segmentation
from lerenet.progress import progress, silent


def predict(
    supports: Sequence[Pair],
    queries: Sequence[Path],
    out: Path,
    model: str | LoadedNetwork = "champion",
    *,
    image_size: int = 200,
    reading: Reading = PLAIN,
    formats: Sequence[str] = (),
    show: bool = False,
) -> Predictions:
    """Segment ``queries`` by the example of ``supports``; write masks, overlays and tables to ``out``.

    Supports are read, and the folder is checked, before any work. Mask and overlay of a query appear in ``out`` as
    they are made: ``<name>_mask.png`` (0 / 255, in the query's own size) and ``<name>_overlay.png``; at the end
    predictions.csv and predictions.json. An interrupted call leaves a journal, and the same call goes on from it. A
    query that can't be read becomes a row with its ``error``. Nothing is overwritten but what an earlier call wrote.

    Args:
        supports: Pairs (image, mask) of one kind of defect, of 1 to 5 images; masks of the same image are joined.
        queries: Images to segment, of any size; a folder stands for all images in it.
        out: Folder; created when missing.
        model: Anything `open_model` takes, or a loaded network.
        image_size: For ``matching`` only: side to which images are resized.
        reading: What a person says of the files.
        formats: Other tools' formats to write, too (`lerenet.annotations.writing.WRITTEN`).
        show: Whether to show the progress on standard error.

    Raises:
        DataError: a support that can't be used, a query that doesn't exist, a file in the way, a format that is not
            written; the message names it.
        ModelError: see `open_model`.
        LerenetError: ``out`` can't be written, or another call writes there.
        Stopped: Ctrl-C.
    """
    out, chosen = Path(out), find_queries(queries, Path(out))
    names, examples = output_names(chosen), read_examples(supports, reading)
    masks = [Path(mask) for _, mask in supports]
    with opened(out) as journal:
        earlier = Earlier.read(out)
        beside = file_names(formats, names)
        standing = check_overwrite(names, out, [*examples.images, *masks, *chosen], earlier, beside)
        loaded = open_model(model, image_size) if isinstance(model, str) else model
        examples = examples.seen_at(loaded.image_size)
        digest = digest_of(loaded, examples, reading)
        rows = earlier.rows.get(digest, {})
        jobs = [_job(query, name, rows, standing, out) for query, name in zip(chosen, names, strict=True)]
        with writing(out):
            journal.begin(digest)
        work = Segmentation(loaded, journal, reading.bits)
        with (progress if show else silent)("predict", len(jobs)) as tick:
            predictions = collect(loaded, examples, digest, work.run(examples.supports, jobs, tick))
        return finish(predictions, earlier, journal, formats)


def _job(
    query: Path, name: str, rows: Mapping[str, Prediction], standing: Mapping[str, str], out: Path
) -> Job:
    row = rows.get(shown(query))
    whole = (
        row is not None
        and row.mask == name + MASK
        and standing.get(row.mask) == row.sha256
        and (out / row.overlay).is_file()
    )
    return Job(query, name, row if whole else None)
