"""A drawing tried at once: one marked photo is an example, and others are read by it before the brush is put away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lerenet.data.images import Pixels
from lerenet.data.scaling import Mask
from lerenet.enrolment.enrol import remembered
from lerenet.enrolment.material import Material, gathered
from lerenet.enrolment.readers import READERS, Known
from lerenet.enrolment.variants import logits
from lerenet.inference import prepare
from lerenet.models.serialization import LoadedNetwork
from lerenet.params import EnrolmentSettings

MOST = 200  # photos whose descriptors are kept, about 1 MB a square


class Trial:
    """Photos, each described once; a drawing on one costs only a comparison.

    Args:
        loaded: the network, as it comes from disk.
    """

    def __init__(self, loaded: LoadedNetwork) -> None:
        self.loaded = prepare(loaded)
        self._described: OrderedDict[tuple[str, int], Material] = OrderedDict()
        self._lock = threading.Lock()

    def described(self, key: str, side: int, read: Callable[[], Pixels]) -> Material:
        """A photo's material, kept.

        Args:
            key: of the photo.
            side: of the squares that it is cut into (`lerenet.data.tiles`).
            read: gives its picture (H, W, 3), where it is not kept.
        """
        with self._lock:
            kept = self._described.get((key, side))
        if kept is None:
            kept = gathered(self.loaded, [], [read()], [key], side)
        with self._lock:
            self._described[key, side] = kept
            self._described.move_to_end((key, side))
            while len(self._described) > MOST:
                self._described.popitem(last=False)
        return kept

    def marks(self, drawn: Material, mask: Mask, others: Sequence[Material]) -> list[NDArray[np.bool_]]:
        """What is marked on each of the others, (h, w) as they are worked on, by matching with one example.

        Args:
            drawn: the material of the photo that is drawn on.
            mask: of what is drawn on it, (H, W); something is.
        """
        how = drawn.tilings[0]
        fitted = torch.from_numpy(how.fitted_mask(mask).astype(np.int8)).to(drawn.marks[0].device)
        example = Material(
            drawn.descriptors, drawn.pictures, [fitted], drawn.tilings, drawn.groups, np.array([True])
        )
        known = Known(remembered(example, EnrolmentSettings()))
        return [(logits(one, 0, known, READERS[0]) > 0).cpu().numpy() for one in others]
