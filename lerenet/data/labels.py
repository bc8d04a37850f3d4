"""Which labels the pixels of a mask hold, and the defect among them; nothing is merged or dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lerenet.data.reading import ANY, Reading
from lerenet.errors import DataError

Mask = NDArray[np.bool_]  # (H, W)
Numbers = NDArray[np.int64]  # (H, W)
Colours = NDArray[np.uint8]  # (H, W, 3 or 4)

FEW = 16  # different values: more are soft edges, noise, or a photo
NOISE = 8  # JPEG leaves flat areas so near to black and to white
TELLING = 4  # up to so many, each is a label unless it lies on edges alone
DARK, LIGHT = 0.25, 0.75  # of the brightest value: background below, defect from here on, between unclear
LOW, HIGH = 0.1, 0.9  # of the brightest value: between them a soft edge or the noise of JPEG, never an area
EXTREME = 0.9  # of a mask's pixels are about black or about white; a photo's are not
SHOWN = 8  # labels that a message lists
CHOOSE = (
    "choose the defect with --label N (in --spec: label), or --label any for all of them; a value that means "
    "'ignore' is named with --ignore; or save the mask with 0 for background and 255 for the defect"
)


def from_numbers(
    values: Numbers, reading: Reading, lossy: bool, ground: int | None = None, names: Mapping[int, str] = {}
) -> Mask:
    """The defect among numbers (H, W).

    Args:
        values: grey values or palette numbers.
        reading: a label that was chosen, one to ignore.
        lossy: noise is to be expected.
        ground: the background's number where it is known; else it is black, 0.
        names: colours of the numbers.

    Raises:
        DataError: several labels and none chosen, no background, grey areas.
    """
    wanted, ignored = _number(reading.label, names), _number(reading.ignore, names)
    if lossy and (wanted is not None or ignored is not None):
        raise DataError("labels can't be told in a lossy file", "save the mask as PNG")
    if ignored is not None:
        values = np.where(values == ignored, ground or 0, values)
    if wanted is not None:
        return np.asarray(values == wanted)
    if reading.label == ANY:
        return np.asarray(values > DARK * values.max() if lossy else values != (ground or 0))
    present = present_in(values)
    if len(present) == 1:
        return np.full(values.shape, present[0] != (ground or 0))
    if ground is not None:
        if len(present) > 2:
            raise _several(present, names)
        return np.asarray(values != ground)
    if not lossy and len(present) == 2:
        return _two(values, int(present[0]), int(present[1]))
    return _soft(values, present, lossy)


def present_in(values: Numbers) -> Numbers:
    """Which numbers there are, in order; those of a grey file are counted, not sorted."""
    if values.size and values.min() >= 0 and values.max() < 65536:
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


def _number(text: str, names: Mapping[int, str]) -> int | None:
    """The number of a label as written; a colour is looked up in ``names``, or stands for its grey."""
    if text.startswith("#"):
        numbers = [number for number, name in names.items() if name == text]
        grey = int(text[1:3], 16) if text[1:3] == text[3:5] == text[5:7] and not names else -1
        return numbers[0] if numbers else grey
    return int(text) if text.isdigit() else None


def _two(values: Numbers, low: int, high: int) -> Mask:
    white = 255 if high < 256 else 65535
    if low and not (low < DARK * white and high >= LIGHT * white):
        raise DataError(f"values {low} and {high}, no black", CHOOSE)
    return np.asarray(values == high)


def _several(present: NDArray[Any], names: Mapping[int, str]) -> DataError:
    numbers = [int(number) for number in present[:SHOWN]]
    listed = ", ".join(_told(number, names) for number in numbers)
    more = f" and {len(present) - SHOWN} more" if len(present) > SHOWN else ""
    return DataError(f"several labels: {listed}{more}", CHOOSE)


def _told(number: int, names: Mapping[int, str]) -> str:
    if number not in names:
        return str(number)
    return names[number] if int(names[number][1:], 16) == number else f"{number} ({names[number]})"


def _soft(values: Numbers, present: NDArray[Any], lossy: bool) -> Mask:
    """A mask whose edges are soft or noisy, cut at half of its brightest value."""
    top = int(present[-1])
    if lossy and top < 128:
        raise DataError(f"values up to {top} in a lossy file, no white", "save the mask as PNG")
    if present[0] > DARK * top:
        raise DataError(f"values from {present[0]} to {top}, no black", CHOOSE)
    if not lossy and _labelled(values, present):
        raise _several(present, {})
    _refuse_grey(values, top)
    return np.asarray(values >= 128 if top < 256 and top >= 128 else 2 * values >= top)


def _labelled(values: Numbers, present: NDArray[Any]) -> bool:
    """Whether values between the lowest and the highest fill areas or lines of their own: labels, not soft edges."""
    from scipy.ndimage import maximum_filter, minimum_filter

    least, most = minimum_filter(values, 3), maximum_filter(values, 3)
    between = (values > present[0]) & (values < present[-1])
    flat = between & (least == most)
    if len(present) > FEW:
        clear = between & (values > present[0] + NOISE) & (values < present[-1] - NOISE)
        return bool((flat & clear).sum() > 0.3 * clear.sum())
    edge = between & (least < values) & (values < most)
    inner = present[1:-1]
    if len(present) > TELLING:  # a soft edge may overshoot: only what is clearly grey must lie on an edge
        inner = inner[(inner > DARK * present[-1]) & (inner < LIGHT * present[-1])]
    return bool(flat.any() or any(edge[values == value].mean() < EXTREME for value in inner))


def _refuse_grey(values: Numbers, top: int) -> None:
    from scipy.ndimage import minimum_filter

    grey = (values > LOW * top) & (values < HIGH * top)
    if 1 - grey.mean() < EXTREME or minimum_filter(grey, 5).any():
        raise DataError(
            f"grey areas ({grey.mean():.0%} of it is neither black nor white): a photo, or several labels",
            CHOOSE,
        )
    ground = np.bincount(values[values <= LOW * top].ravel(), minlength=1)
    if ground.max() < 0.5 * ground.sum():
        raise DataError("a dark ground full of noise: a photo, not a mask", CHOOSE)
    dark, light = int((grey & (2 * values < top)).sum()), int((values >= HIGH * top).sum())
    if dark > max(light, 8) and dark > 0.02 * values.size:
        raise DataError(f"{dark} pixels are dark grey, only {light} are white: a photo?", CHOOSE)


def from_colours(colours: Colours, reading: Reading, lossy: bool) -> Mask:
    """The defect among colours (H, W, 3), on black.

    Raises:
        DataError: as `from_numbers`.
    """
    least, most = colours.min(axis=2), colours.max(axis=2)
    if (most - least).max() <= (24 if lossy else 0):
        return from_numbers(most.astype(np.int64), reading, lossy)
    packed = (colours.astype(np.int64) << np.array([16, 8, 0])).sum(axis=2)
    present = np.unique(packed)
    names = {int(colour): f"#{colour:06x}" for colour in present} if len(present) <= 65536 else {}
    if not lossy and (len(present) <= FEW or reading.label.startswith("#") or reading.ignore):
        if (ignored := of_colour(colours, reading.ignore)).any():
            rest = np.where(ignored[..., None], 0, colours).astype(np.uint8)
            return from_colours(rest, Reading(label=reading.label), lossy)
        if reading.label or len(present) <= 2 or _off_ray(colours).any():
            if present[0] and not reading.label:
                raise DataError(f"colours {', '.join(names.values())}, no black background", CHOOSE)
            return _coloured(packed, reading, names)
    if reading.label.startswith("#") or reading.label.isdigit():
        raise DataError("labels can't be told in a lossy file", "save the mask as PNG")
    from scipy.ndimage import minimum_filter

    if reading.label != ANY and minimum_filter(_off_ray(colours), 3).any():
        raise DataError("several colours: several labels, or a photo", CHOOSE)
    return from_numbers(most.astype(np.int64), reading, True)


def of_colour(colours: NDArray[np.integer[Any]], label: str) -> Mask:
    """Where colours (H, W, 3 or 4) are of a label: a colour ``#rrggbb``, or a grey value; nowhere for an empty one."""
    if not label:
        return np.zeros(colours.shape[:2], dtype=bool)
    wanted = [int(label[i : i + 2], 16) for i in (1, 3, 5)] if label.startswith("#") else [int(label)] * 3
    return np.asarray((colours[..., :3] == wanted).all(axis=2))


def of_number(values: Numbers, label: str) -> Mask:
    """Where grey values (H, W) are of a label: a number, or a grey written as a colour; nowhere for an empty one."""
    wanted = _number(label, {})
    return np.zeros(values.shape, dtype=bool) if wanted is None else np.asarray(values == wanted)


def _coloured(packed: Numbers, reading: Reading, names: Mapping[int, str]) -> Mask:
    if reading.label.isdigit():
        raise DataError(
            f"label {reading.label}: the mask holds colours", "write the colour, e.g. --label #ff0000"
        )
    if reading.label == ANY:
        return np.asarray(packed != 0)
    return from_numbers(packed, reading, False, 0, names)


def _off_ray(colours: Colours) -> Mask:
    """Where a colour is no shade between black and the commonest colour of the brighter pixels."""
    most = colours.max(axis=2).astype(np.float32)
    bright = colours[most >= max(1.0, most.max() / 2)].astype(np.float32)
    typical = np.median(bright, axis=0)
    on_ray = most[..., None] * (typical / max(float(typical.max()), 1.0))
    return np.asarray(np.abs(colours - on_ray).max(axis=2) > 64)


def drawing(colours: Colours, reading: Reading, lossy: bool) -> Mask:
    """The defect drawn on a transparent ground, (H, W, 4): by opacity when all strokes have one colour.

    Raises:
        DataError: as `from_numbers`; strokes of several colours and none chosen.
    """
    opacity = colours[..., 3].astype(np.int64)
    painted = 2 * opacity >= opacity.max()
    if not opacity.any():
        return np.zeros(opacity.shape, dtype=bool)
    packed = (colours[..., :3].astype(np.int64) << np.array([16, 8, 0])).sum(axis=2)
    strokes = colours[painted][:, :3].astype(np.int64)
    if reading.label.startswith("#"):
        return np.asarray(painted & (packed == int(reading.label[1:], 16)))
    if reading.ignore.startswith("#"):
        painted &= packed != int(reading.ignore[1:], 16)
        strokes = colours[painted][:, :3].astype(np.int64)
    if reading.label == ANY or not len(strokes):
        return np.asarray(painted)
    if np.ptp(strokes, axis=0).max() > 64:
        kinds, counts = np.unique(packed[painted], return_counts=True)
        common = kinds[np.argsort(-counts)][:SHOWN]
        raise DataError(f"strokes of several colours: {', '.join(f'#{kind:06x}' for kind in common)}", CHOOSE)
    if reading.ignore:
        return np.asarray(painted)
    return from_numbers(opacity, Reading(), lossy)
