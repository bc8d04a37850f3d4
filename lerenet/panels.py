"""Pictures of single episodes, and the stated rule that picks which episodes are shown.

The colours are from the Okabe-Ito set, which colour-blind readers tell apart; the white outline of
the truth says the same without colour: found is inside it, falsely marked outside it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

FOUND: Colour = (86, 180, 233)  # true positive, sky blue
FALSE: Colour = (213, 94, 0)  # false positive, vermilion
MISSED: Colour = (240, 228, 66)  # false negative, yellow
SUPPORT: Colour = (230, 159, 0)  # outline of the support mask, orange
BACKGROUND: Colour = (24, 27, 31)
TEXT: Colour = (235, 237, 240)
TILE, GAP, HEAD, FOOT = 260, 8, 22, 44  # pixels
OPACITY = 0.6
RANKS = ("best", "median", "worst")


def choose_episodes(counts: pd.DataFrame) -> pd.DataFrame:
    """The episodes that are shown: the best, the median and the worst of each class.

    The rule: of the 1-shot defect episodes of protocol "groups" of one model, ordered by IoU and then
    by episode number, take the highest IoU, the middle one (the lower of two) and the lowest. Among
    equal IoU the smaller episode number comes first.

    Args:
        counts: rows of ``counts.parquet`` of one model.

    Returns:
        The chosen rows of ``counts`` with the column ``rank`` ("best", "median" or "worst"), ordered by
        class and rank. A class with fewer than three episodes shows an episode more than once.
    """
    wanted = counts[
        (counts["protocol"] == "groups")
        & (counts["kind"] == "defect")
        & (counts["shots"] == 1)
        & counts["iou"].notna()
    ]
    chosen = []
    for _, rows in wanted.groupby("cls", sort=True):
        rising = rows.sort_values(["iou", "episode"])
        falling = rows.sort_values(["iou", "episode"], ascending=[False, True])
        picked = (falling.iloc[:1], rising.iloc[[(len(rising) - 1) // 2]], rising.iloc[:1])
        chosen += [row.assign(rank=rank) for rank, row in zip(RANKS, picked, strict=True)]
    if not chosen:
        return wanted.assign(rank=pd.Series(dtype=str))
    return pd.concat(chosen, ignore_index=True)


def draw_panel(
    support: Pixels,
    support_mask: Mask,
    query: Pixels,
    truth: Mask | None,
    prediction: Mask,
    title: str,
) -> Pixels:
    """Draw one episode as three tiles: support with its mask's outline, query, result on the query.

    With ``truth`` the result is tinted by outcome (found, falsely marked, missed), outlined in white
    where the truth is, and the caption carries the IoU; without it the marked pixels are tinted.

    Args:
        support: (h, w, 3) picture.
        support_mask: (h, w) of the support.
        query: (H, W, 3) picture; any size, the tiles are scaled.
        truth: (H, W) of the query, or None when it isn't known.
        prediction: (H, W) of the query.
        title: one line for the caption; cut when it is too long.

    Returns:
        (height, width, 3) picture.

    Raises:
        ValueError: a mask's size is not its picture's.
    """
    _same_size("support_mask", support_mask, support)
    _same_size("prediction", prediction, query)
    if truth is not None:
        _same_size("truth", truth, query)
    tiles = [
        ("Support", _tile(support, [], (support_mask, SUPPORT))),
        ("Query", _tile(query, [], None)),
        ("Result", _result(query, truth, prediction)),
    ]
    width = len(tiles) * TILE + (len(tiles) + 1) * GAP
    canvas = Image.new("RGB", (width, HEAD + TILE + FOOT), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (name, tile) in enumerate(tiles):
        left = GAP + index * (TILE + GAP)
        draw.text((left, 3), name, fill=TEXT, font=_font(14))
        canvas.paste(tile, (left + (TILE - tile.width) // 2, HEAD + (TILE - tile.height) // 2))
    _caption(draw, width, title, truth, prediction)
    return np.asarray(canvas)


def _same_size(name: str, mask: Mask, picture: Pixels) -> None:
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"{name} is {mask.shape}, its picture {picture.shape[:2]}")


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _result(query: Pixels, truth: Mask | None, prediction: Mask) -> Image.Image:
    if truth is None:
        return _tile(query, [(prediction, FOUND)], None)
    tints = [(prediction & truth, FOUND), (prediction & ~truth, FALSE), (truth & ~prediction, MISSED)]
    return _tile(query, tints, (truth, (255, 255, 255)))


def _tile(
    picture: Pixels, tints: list[tuple[Mask, Colour]], outline: tuple[Mask, Colour] | None
) -> Image.Image:
    """Scale ``picture`` into a tile; masks are scaled with it, so that outlines stay thin."""
    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = np.asarray(Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    pixels = scaled.astype(np.float32)
    for mask, colour in tints:
        where = _scaled(mask, size)
        pixels[where] = (1 - OPACITY) * pixels[where] + OPACITY * np.array(colour, np.float32)
    if outline is not None:
        edge = _edge(_scaled(outline[0], size))
        pixels[ndimage.binary_dilation(edge)] = 0  # a dark rim keeps the line readable on bright metal
        pixels[edge] = outline[1]
    return Image.fromarray(pixels.round().astype(np.uint8))


def _scaled(mask: Mask, size: tuple[int, int]) -> Mask:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0


def _edge(mask: Mask) -> Mask:
    """Pixels just outside ``mask``; inside it where it touches the picture's border."""
    outside = ndimage.binary_dilation(mask) & ~mask
    border = np.ones_like(mask)
    border[1:-1, 1:-1] = False
    return np.asarray(outside | (mask & border), bool)


def _caption(draw: ImageDraw.ImageDraw, width: int, title: str, truth: Mask | None, prediction: Mask) -> None:
    top = HEAD + TILE + 4
    draw.text((GAP, top), _shortened(title, width - 2 * GAP), fill=TEXT, font=_font(14))
    draw.text((GAP, top + 19), _score(truth, prediction), fill=TEXT, font=_font(13))
    legend = [("marked", FOUND)]
    if truth is not None:
        legend = [("found", FOUND), ("falsely marked", FALSE), ("missed", MISSED)]
    left = GAP + 2 * (TILE + GAP)
    for name, colour in legend:
        draw.rectangle((left, top + 23, left + 9, top + 32), fill=colour)
        draw.text((left + 14, top + 19), name, fill=TEXT, font=_font(13))
        left += 22 + round(draw.textlength(name, font=_font(13)))


def _score(truth: Mask | None, prediction: Mask) -> str:
    if truth is None:
        return f"{100 * prediction.mean():.2f} % of the picture marked"
    union = int((prediction | truth).sum())
    if not truth.any():
        return f"clean query; {100 * prediction.mean():.2f} % falsely marked"
    return f"IoU {100 * int((prediction & truth).sum()) / union:.1f} %"


def _shortened(text: str, room: int) -> str:
    font = _font(14)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
