"""The work of a call: each query read, segmented and written by a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lerenet.data.encoding import encode_png
from lerenet.drawing import overlay_png
from lerenet.errors import DataError
from lerenet.files import sha256_file, shown
from lerenet.inference import Example, Pixels, enrol, prepare, read_query, segment
from lerenet.models.segmenter import State
from lerenet.models.serialization import LoadedNetwork
from lerenet.predict.journal import Journal, writing
from lerenet.predict.names import MASK, OVERLAY
from lerenet.predict.results import Prediction, sha256

MOST = 16  # pictures at a time: one of 12 megapixels takes about 250 MB


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with what to say of it: how many queries are done, and where."""

    def __init__(self, done: int, total: int, out: Path) -> None:
        super().__init__(f"{done} of {total} are in {shown(out)}; the same command goes on")


@dataclass(frozen=True)
class Job:
    """A query, its output name, and the row that an earlier call may have left of it."""

    query: Path
    name: str
    kept: Prediction | None = None


@dataclass
class Segmentation:
    """What the threads share; each query is segmented alone, so no result depends on the others."""

    loaded: LoadedNetwork
    journal: Journal
    bits: int = 0
    state: State = field(default_factory=dict)

    def run(
        self, supports: Sequence[Example], jobs: Sequence[Job], tick: Callable[..., None]
    ) -> list[Prediction]:
        """Rows in the order of ``jobs``.

        Raises:
            Stopped: Ctrl-C.
            LerenetError: the folder can't be written.
        """
        self.loaded = prepare(self.loaded)
        rows: list[Future[Prediction]] = []
        with one_thread_each() as pool:
            try:
                self.state = pool.submit(enrol, self.loaded, supports).result()
                for job in jobs:
                    rows.append(pool.submit(self.row, job))
                for row in as_completed(rows):
                    row.result()
                    tick()
                return [row.result() for row in rows]
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise Stopped(sum(map(_whole, rows)), len(jobs), self.journal.out) from None

    def row(self, job: Job) -> Prediction:
        """Keep a query's earlier result, or segment it and write mask and overlay; why it can't be read, else."""
        digest = ""
        try:
            digest = _digest(job.query)
            if job.kept is not None and job.kept.query_sha256 == digest:
                return job.kept
            image = read_query(job.query, self.bits)
        except DataError as error:
            return self._failed(job, digest, error)
        return self._made(job, digest, image)

    def _made(self, job: Job, digest: str, image: Pixels) -> Prediction:
        began = time.perf_counter()
        ((mask, probability),) = segment(self.loaded, self.state, [image])
        spent = (time.perf_counter() - began) * 1000
        content = encode_png(mask.astype(np.uint8) * 255)
        row = Prediction(
            query=shown(job.query),
            mask=job.name + MASK,
            overlay=job.name + OVERLAY,
            foreground=round(np.count_nonzero(mask) / mask.size, 6),
            confidence=round(float(np.maximum(probability, 1 - probability).mean()), 4),
            milliseconds=round(spent, 1),
            sha256=sha256(content),
            query_sha256=digest,
        )
        overlay = overlay_png(image, mask)
        with writing(self.journal.out):
            self.journal.write(row, content, overlay)
        return row

    def _failed(self, job: Job, digest: str, error: DataError) -> Prediction:
        reason = shown("; ".join(filter(None, (error.what, error.remedy))))
        row = Prediction(shown(job.query), "", "", 0.0, 0.0, 0.0, "", digest, reason)
        with writing(self.journal.out):
            self.journal.failed(row)
        return row


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch has, each of which computes alone: none waits for another within a layer.

    That is as fast as torch's own threads on an idle machine, and several times as fast on a busy one.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(threads, MOST), "predict", torch.set_num_threads, (1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _whole(row: Future[Prediction]) -> bool:
    return row.done() and not row.cancelled() and row.exception() is None


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(
            f"{shown(path)}: can't be read: {error.strerror}", "mend it or leave it out"
        ) from error
