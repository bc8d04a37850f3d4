"""One class as a file that runs without torch and without this project: ONNX, or OpenVINO made of it.

The file takes squares of the working size and does the rest: normalisation, backbone, the class's reader, edges, and
where the class calls a picture. What scale the squares are at stands in its metadata; cutting a large photo into them,
and blending, is the caller's (`lerenet.data.tiles`).
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lerenet.enrolment.enrolled import WHOLE, Enrolled
from lerenet.enrolment.inspect import MARKED
from lerenet.enrolment.material import described_by, places_of
from lerenet.enrolment.readers import read
from lerenet.errors import DataError, ModelError
from lerenet.files import atomic_path, shown
from lerenet.models.serialization import LoadedNetwork

FORMATS = ("onnx", "openvino")
VERDICTS = ("OK", "REVIEW", "NG", "not calibrated", "other surface")  # by the number that the file gives
OUTPUTS = ("mask", "probability", "verdict", "score", "alike")
MOST = 4096  # squares at once
INSTALL = "pip install 'lerenet[onnx]'"


class Standing(nn.Module):
    """A network and a class as one module: squares (B, S, S, 3) of uint8 to `OUTPUTS`.

    ``mask`` (B, S, S) of uint8 marks where ``probability`` (B, S, S) is above a half; ``verdict`` (B,) is a number in
    `VERDICTS`, by ``score`` (B,) and ``alike`` (B,). Of a class whose pictures are one square each, squares that are OK
    or of another surface mark nothing. Of one that is cut, quiet squares don't: its verdict is the photo's, by the
    highest score and the mean of ``alike``.
    """

    def __init__(self, loaded: LoadedNetwork, one: Enrolled) -> None:
        super().__init__()
        self.backbone, self.levels = loaded.network.backbone, list(loaded.network.head.levels)
        self.known, self.reader = one.known(torch.device("cpu")), one.reader
        self.point, self.surface, self.side = one.point, one.surface, one.side
        self.quiet = one.quiet.get(WHOLE, -math.inf)

    def forward(self, squares: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        pictures = squares.permute(0, 3, 1, 2).float() / 255
        described = places_of(self.backbone.features(pictures, self.levels))
        answer = read.__wrapped__(self.known, described, (self.reader,))[self.reader]  # type: ignore[attr-defined]
        score, alike, chance = answer.scores(), answer.alike.mean(1), answer.marks(pictures).sigmoid()
        if self.point is None:
            verdict = torch.full_like(score, 3)
        else:
            verdict = (score > self.point.review).float() + (score > self.point.bad).float()
        if self.surface is not None:
            verdict = torch.where(alike < self.surface, torch.full_like(verdict, 4), verdict)
        heard = score > self.quiet if self.side else (verdict > 0) & (verdict < 4)
        mask = ((chance > MARKED) & heard[:, None, None]).to(torch.uint8)
        return mask, chance, verdict.to(torch.int64), score, alike


def export(loaded: LoadedNetwork, one: Enrolled, out: Path, kind: str = "onnx") -> None:
    """Write a class as a file, whole or not at all.

    Args:
        loaded: the network, as it comes from disk.
        out: ``.onnx``, or ``.xml`` for OpenVINO, which gets a ``.bin`` beside it.
        kind: of `FORMATS`.

    Raises:
        DataError: a format that is not written, a file name that does not fit it, a class of another network.
        ModelError: the format's libraries are not installed, or the network can't be exported; the message names it.
    """
    ending = {"onnx": ".onnx", "openvino": ".xml"}.get(kind)
    if ending is None:
        raise DataError(f"--format {kind!r}: not written", f"one of {', '.join(FORMATS)}")
    if out.suffix != ending:
        raise DataError(f"{shown(out)}: no name for {kind}", f"let it end in {ending}")
    if (one.network, one.image_size) != (described_by(loaded), loaded.image_size):
        raise DataError(f"{one.name}: was enrolled with another network", "enrol it again with this one")
    program = _program(loaded, one)
    if kind == "onnx":
        with atomic_path(out) as temporary:
            temporary.write_bytes(program.SerializeToString())
    else:
        _openvino(program, out)


def facts(loaded: LoadedNetwork, one: Enrolled) -> dict[str, str]:
    """What stands in the file beside the graph."""
    about = {
        "class": one.name, "network": one.network, "reader": one.reader, "size": loaded.image_size, "side": one.side,
        "quiet": one.quiet.get(WHOLE), "verdicts": VERDICTS, "model": f"{loaded.source} {loaded.version}".strip(),
        "review": None if one.point is None else one.point.review, "bad": None if one.point is None else one.point.bad,
        "surface": one.surface,
    }  # fmt: skip
    return {f"lerenet.{name}": json.dumps(value) for name, value in about.items()}


def _program(loaded: LoadedNetwork, one: Enrolled) -> Any:
    """The graph, as ONNX's protocol buffer."""
    try:
        import onnxscript  # noqa: F401  (torch asks for it late, and says less)
    except ImportError as error:
        raise ModelError("ONNX is not installed", INSTALL) from error
    size = loaded.image_size
    squares = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = {"squares": {0: torch.export.Dim("batch", min=2, max=MOST)}}
    try:
        with _quietly(), torch.no_grad():
            made = torch.onnx.export(
                Standing(loaded, one).eval(), (squares,), dynamo=True, verbose=False, input_names=["squares"],
                output_names=list(OUTPUTS), dynamic_shapes=batch,
            )  # fmt: skip
    except Exception as error:  # torch's exporter raises many kinds, of what it can't follow
        name = loaded.network.backbone.name
        raise ModelError(
            f"{one.name}: {name} with {one.reader} can't be exported: {str(error).splitlines()[0]}",
            "inspect with lerenet, or enrol the class with another backbone",
        ) from error
    assert made is not None
    program = made.model_proto
    if not program.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ModelError(f"{one.name}: {one.reader} can't be exported for any number of squares", "report it")
    for key, value in facts(loaded, one).items():
        program.metadata_props.add(key=key, value=value)
    return program


def _openvino(program: Any, out: Path) -> None:
    try:
        import openvino
    except ImportError as error:
        raise ModelError("OpenVINO is not installed", INSTALL) from error
    with tempfile.TemporaryDirectory(prefix="lerenet-") as scratch:
        made = Path(scratch) / "model.xml"
        made.with_suffix(".onnx").write_bytes(_reduced_apart(program).SerializeToString())
        model = openvino.convert_model(made.with_suffix(".onnx"))
        for prop in program.metadata_props:
            model.set_rt_info(prop.value, ["lerenet", prop.key.removeprefix("lerenet.")])
        openvino.save_model(model, made, compress_to_fp16=False)
        with atomic_path(out) as graph, atomic_path(out.with_suffix(".bin")) as weights:
            shutil.copyfile(made, graph)
            shutil.copyfile(made.with_suffix(".bin"), weights)


def _reduced_apart(program: Any) -> Any:
    """The same graph, with sums that keep their axis, which is squeezed out after.

    OpenVINO's CPU plugin adds a constant wrongly to all pictures but the first where it follows a sum that doesn't
    (2026.4; https://github.com/openvinotoolkit/openvino/issues/23616).
    """
    from onnx import helper

    kept = type(program)()
    kept.CopyFrom(program)
    del kept.graph.node[:]
    for made in program.graph.node:
        node = kept.graph.node.add()
        node.CopyFrom(made)
        keepdims = [one for one in node.attribute if one.name == "keepdims"]
        if node.op_type.startswith("Reduce") and len(node.input) == 2 and [one.i for one in keepdims] == [0]:
            keepdims[0].i, node.output[0] = 1, f"{made.output[0]}_kept"
            kept.graph.node.append(helper.make_node("Squeeze", [node.output[0], made.input[1]], made.output))
    return kept


@contextmanager
def _quietly() -> Iterator[None]:
    """What the exporter says of itself is nobody's concern."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
