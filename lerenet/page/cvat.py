"""An auto-annotation function for CVAT: `cvat-cli task auto-annotate ID --function-module lerenet.page.cvat`.

It runs where the classes are; ``-p model=str:VERSION`` and ``-p enrolled=str:FOLDER`` say which they are.
CVAT's SDK comes with `pip install 'lerenet[cvat]' cvat-cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from lerenet.annotations.outlines import outlines
from lerenet.enrolment.inspect import Inspector
from lerenet.errors import ModelError
from lerenet.page.desk import Desk


class Function:
    """CVAT's interface: ``spec`` names the labels, ``detect`` answers for an image."""

    def __init__(self, inspector: Inspector) -> None:
        try:
            import cvat_sdk.auto_annotation as interface
            from cvat_sdk.masks import encode_mask
        except ImportError as error:
            raise ModelError("CVAT's SDK is not installed", "pip install 'lerenet[cvat]' cvat-cli") from error
        self._interface, self._encode, self.inspector = interface, encode_mask, inspector
        labels = [
            interface.label_spec(one.name, number, type="any")
            for number, one in enumerate(inspector.classes, 1)
        ]
        self.spec: Any = interface.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image) -> list[Any]:
        """A mask for each class that marks something, or its outlines where CVAT asks for polygons."""
        found = self.inspector(np.asarray(image.convert("RGB")))
        shapes = []
        for number in range(1, len(self.inspector.classes) + 1):
            mask = found.marks == number
            if not mask.any():
                continue
            if context.conv_mask_to_poly:
                rings = outlines(mask)
                shapes += [
                    self._interface.polygon(number, np.asarray(ring).ravel().tolist()) for ring in rings
                ]
            else:
                shapes.append(self._interface.mask(number, self._encode(mask)))
        return shapes


def create(model: str = "champion", enrolled: str = "enrolments") -> Function:
    """What `cvat-cli` calls."""
    return Function(Desk(Path(), model, Path(enrolled)).inspector())
