"""``lerenet export``: a class as a file that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lerenet.cli.enrolment import FOLDER, From
from lerenet.cli.predict import Model


def export_command(
    name: Annotated[str, typer.Argument(metavar="CLASS", help="An enrolled class.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file: .onnx, or .xml for OpenVINO.")],
    kind: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    enrolled: From = FOLDER,
    model: Model = "champion",
) -> None:
    """Write a class, its backbone and reader, as a file that runs without torch and without lerenet.

    lerenet export Scratch --out scratch.onnx
    """
    from lerenet.enrolment.exporting import export
    from lerenet.predict.inspecting import only, open_inspection, with_drafts

    loaded, classes = open_inspection(model)
    [one] = only(with_drafts(classes, enrolled), [name])
    export(loaded, one, out, kind)
    typer.echo(f"written: {out}")
