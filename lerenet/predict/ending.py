"""The end of a call: what it found, and the tables that hold it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace

from lerenet.files import atomic_path, shown, write_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict.annotating import write_annotations
from lerenet.predict.earlier import Earlier
from lerenet.predict.journal import Journal, writing
from lerenet.predict.results import CSV, JOURNAL, JSON, Prediction, Predictions, as_csv, sha256
from lerenet.predict.supports import Examples

logger = logging.getLogger(__name__)


def collect(loaded: LoadedNetwork, examples: Examples, digest: str, rows: list[Prediction]) -> Predictions:
    """The results of a call, with a note on each support that is among the queries (by content)."""
    own = {digests[0]: image for image, digests in zip(examples.images, examples.sha256, strict=True)}
    flattered = [
        f"{row.query} is the support {shown(own[row.query_sha256])} itself: its result flatters the model"
        for row in rows
        if row.query_sha256 in own
    ]
    for note in flattered:
        logger.warning(note)
    return Predictions(
        model=loaded.source,
        version=loaded.version,
        weights_sha256=str(loaded.config.get("weights_sha256", "")),
        supports=[shown(image) for image in examples.images],
        support_sha256=examples.sha256,
        warnings=[*examples.notes, *flattered],
        predictions=rows,
        digest=digest,
    )


def finish(
    predictions: Predictions, earlier: Earlier, journal: Journal, formats: Sequence[str] = ()
) -> Predictions:
    """Write annotations and tables, with the masks on the disk before them, and remove the journal."""
    out, table = journal.out, as_csv(predictions.predictions)
    with writing(out):
        journal.announce(CSV, table)
        os.sync()
        annotations = write_annotations(predictions, journal, formats)
        mine = {name for row in predictions.predictions for name in (row.mask, row.overlay)}
        others = {
            name: sorted(digests)
            for name, digests in sorted(earlier.files.items())
            if name not in {*mine, *annotations, CSV, JSON, JOURNAL} and (out / name).exists()
        }
        predictions = replace(
            predictions, table_sha256=sha256(table), annotations=annotations, earlier=others
        )
        with atomic_path(out / CSV) as temporary:
            temporary.write_bytes(table)
        write_json(out / JSON, asdict(predictions))
        journal.end()
    return predictions
