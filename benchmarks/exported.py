"""A class as a file beside the inspector: ``python -m benchmarks.exported``.

The classes are those of the inspection model in ``artifacts/enrol`` that see a picture as a whole; the pictures are
their own of ``data/``, marked ones and good parts, read and brought to the working size beforehand. Each way gives
mask, verdict and score: the inspector in torch picture by picture, as ``lerenet inspect`` asks it, and the exported
class in onnxruntime and in OpenVINO, once in the precision of torch and once as OpenVINO itself chooses for the CPU.
They take turns. Parity is of every picture of each class.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.project import photos_of
from benchmarks.results import machine
from lerenet import layout
from lerenet.cost.latency import repeat
from lerenet.data.images import read_image
from lerenet.data.scaling import resize_image
from lerenet.enrolment.enrolled import Enrolled, read_inspection
from lerenet.enrolment.exporting import VERDICTS, export
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import DataError
from lerenet.files import write_json
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import load_params
from lerenet.progress import progress

TORCH, ONNX, OPENVINO, CHOSEN = "torch", "onnxruntime", "OpenVINO, f32", "OpenVINO, as it chooses"
BATCHES = (1, 8)
AT_ONCE = 8  # pictures of which parity is taken together
Answer = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # masks, verdicts, scores
Way = Callable[[NDArray[np.uint8]], Answer]


def ways(loaded: LoadedNetwork, one: Enrolled, folder: Path, threads: int) -> dict[str, Way]:
    """The inspector, and the class's files in what runs them, by name."""
    import onnxruntime
    import openvino

    inspector = Inspector(loaded, [one])

    def in_torch(squares: NDArray[np.uint8]) -> Answer:
        answers = [inspector(square) for square in squares]
        said = [answer.classes[0] for answer in answers]
        verdicts = np.array([VERDICTS.index(each.verdict) for each in said])
        return (
            np.stack([answer.marks for answer in answers]),
            verdicts,
            np.array([each.score for each in said]),
        )

    export(loaded, one, folder / "class.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(folder / "class.onnx", options, providers=["CPUExecutionProvider"])
    export(loaded, one, folder / "class.xml", "openvino")
    core = openvino.Core()
    precise: Mapping[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}

    def in_openvino(settings: Mapping[str, Any]) -> Way:
        compiled = core.compile_model(
            folder / "class.xml", "CPU", {"INFERENCE_NUM_THREADS": threads, **settings}
        )

        def run(squares: NDArray[np.uint8]) -> Answer:
            answer = compiled({"squares": squares})
            return answer["mask"], answer["verdict"], answer["score"]

        return run

    return {
        TORCH: in_torch,
        ONNX: lambda squares: tuple(session.run(["mask", "verdict", "score"], {"squares": squares})),
        OPENVINO: in_openvino(precise),
        CHOSEN: in_openvino({}),
    }


def pictures(cls: str, size: int) -> NDArray[np.uint8]:
    """A class's own, at the working size, (N, S, S, 3)."""
    return np.stack([resize_image(read_image(path), size) for path in photos_of(cls)])


def parity(found: Answer, own: Answer) -> dict[str, Any]:
    """Of the pictures: how their masks overlap, the lowest and the median of those that either marks; what differs."""
    overlaps = [
        float((mask & served).sum() / (mask | served).sum())
        for mask, served in zip(found[0] > 0, own[0] > 0, strict=True)
        if (mask | served).any()
    ]
    return {
        "marked": len(overlaps), "lowest IoU": min(overlaps, default=None),
        "median IoU": float(np.median(overlaps)) if overlaps else None,
        "other verdicts": int((found[1] != own[1]).sum()), "score": float(np.abs(found[2] - own[2]).max()),
    }  # fmt: skip


def joined(way: Way, squares: NDArray[np.uint8]) -> Answer:
    """What a way says of many pictures, some at a time."""
    parts = [way(squares[start : start + AT_ONCE]) for start in range(0, len(squares), AT_ONCE)]
    masks, verdicts, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    return masks, verdicts, scores


def latencies(
    contenders: Mapping[str, Way], squares: NDArray[np.uint8], repeats: int
) -> Iterator[dict[str, Any]]:
    """A row for each way and batch; milliseconds of whole calls, in turns, each after one that is not counted."""
    for batch in BATCHES:
        some = squares[:batch]
        spent: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(repeats):
            for name, way in contenders.items():
                spent[name] += repeat(partial(way, some), repeats=1, warm_up=1).milliseconds
        for name, times in spent.items():
            yield {"way": name, "pictures": batch, "milliseconds": times, "median": float(np.median(times))}


def main(
    classes: Annotated[list[str] | None, typer.Argument(help="Classes; all seen as a whole if none.")] = None,
    model: Annotated[Path, typer.Option(help="The inspection model.")] = layout.ENROL,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each way.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Calls that are timed, of the first class.")] = 20,
    out: Annotated[Path, typer.Option(help="JSON with every value.")] = Path(
        "artifacts/benchmarks/exported.json"
    ),
) -> None:
    """Time one class's ways, and compare what they say of every class; print and keep a row each."""
    torch.set_num_threads(threads)
    loaded, known = read_inspection(model)
    whole = [one for one in known if not one.side and (not classes or one.name in classes)]
    if not whole:
        raise DataError(
            f"{model}: no class is seen as a whole", f"there are {', '.join(one.name for one in known)}"
        )
    table: dict[str, Any] = {
        "machine": machine(), "data": layout.data_md5(), "seed": load_params(layout.PARAMS).seed,
        "size": loaded.image_size, "repeats": repeats,
        "timed": whole[0].name, "reader": whole[0].reader, "latency": [], "parity": [],
    }  # fmt: skip
    with progress("exported", len(whole)) as tick, tempfile.TemporaryDirectory() as folder:
        for one in whole:
            contenders, squares = (
                ways(loaded, one, Path(folder), threads),
                pictures(one.name, loaded.image_size),
            )
            if one is whole[0]:
                table["latency"] = list(latencies(contenders, squares, repeats))
            own = joined(contenders[TORCH], squares)
            for name in (ONNX, OPENVINO, CHOSEN):
                row = {"class": one.name, "reader": one.reader, "way": name, "pictures": len(squares)}
                table["parity"].append(row | parity(joined(contenders[name], squares), own))
                typer.echo(json.dumps(table["parity"][-1]))
            tick(1, one.name)
            write_json(out, table)
    for row in table["latency"]:
        typer.echo(f"{row['way']}, {row['pictures']}: {row['median']:.1f} ms")
    typer.echo(f"written: {out}; `python -m benchmarks.page` makes a page of it")


if __name__ == "__main__":
    typer.run(main)
