"""The README's picture, of the embedded sample: ``python -m benchmarks.picture`` writes docs/sample.png.

Three defects of the sample, each marked on one image and looked for on another, by matching: no training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from lerenet import layout
from lerenet.data.encoding import encode_png
from lerenet.data.images import read_image
from lerenet.data.masks import read_mask
from lerenet.drawing import draw_panel
from lerenet.inference import enrol, prepare, segment
from lerenet.models.serialization import matching_network

SHOWN = ("Cast_Pit", "Brushed_Scratch", "Hotstrip_Inclusion")


def main(out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/sample.png")) -> None:
    """Draw support, query and mask of each class, one row each."""
    loaded, rows = prepare(matching_network()), []
    for cls in SHOWN:
        first, second = sorted((layout.DATA / cls / "Images").iterdir())[:8:7]
        masks = [layout.DATA / cls / "GT" / f"{path.stem}.png" for path in (first, second)]
        support, query = read_image(first), read_image(second)
        given, truth = map(read_mask, masks)
        ((mask, _),) = segment(loaded, enrol(loaded, [(support, given)]), [query])
        rows.append(draw_panel(support, given, query, truth, {"lerenet": mask}))
    out.write_bytes(
        encode_png(np.asarray(Image.fromarray(np.concatenate(rows)).quantize(128).convert("RGB")))
    )
    typer.echo(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
