"""Pictures of single episodes, the masks they are drawn from, and the stated rules that pick them.

The colours are from the Okabe-Ito set, which colour-blind readers tell apart; the white outline of
the truth says the same without colour: found is inside it, falsely marked outside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lerenet.errors import DataError
from lerenet.files import atomic_path

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

FOUND: Colour = (86, 180, 233)  # true positive, sky blue
FALSE: Colour = (213, 94, 0)  # false positive, vermilion
MISSED: Colour = (240, 228, 66)  # false negative, yellow
SUPPORT: Colour = (230, 159, 0)  # outline of the support mask, orange
BACKGROUND: Colour = (24, 27, 31)
TEXT: Colour = (235, 237, 240)
TRUTH: Colour = (255, 255, 255)  # outline of the query's mask
TILE, GAP, HEAD = 190, 4, 19  # pixels
OPACITY = 0.6
RANKS = ("best", "median", "worst")


def choose_episodes(counts: pd.DataFrame) -> pd.DataFrame:
    """The best, the median and the worst episode of each class.

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


def choose_extremes(episodes: pd.DataFrame, measure: str, lowest: bool, total: int) -> pd.DataFrame:
    """The most extreme episode of each class by the column ``measure``, then of those the ``total`` most extreme.

    Args:
        episodes: columns ``cls``, ``episode`` and ``measure``; rows without a finite measure are left out.
        measure: name of the column.
        lowest: whether the lowest values are the extreme ones, else the highest.
        total: how many rows at most, each of another class.

    Returns:
        The chosen rows, the most extreme first; among equals the smaller episode number.
    """
    known = episodes[np.isfinite(episodes[measure].to_numpy(float))]
    ordered = known.sort_values([measure, "episode"], ascending=[lowest, True])
    chosen: pd.DataFrame = ordered.drop_duplicates("cls").head(total).reset_index(drop=True)
    return chosen


def save_masks(path: Path, episodes: Sequence[int], batches: Iterable[Mask]) -> None:
    """Write masks (n, H, W), given in batches, one a number of ``episodes``: one bit a pixel, compressed."""
    parts = list(batches)
    masks = np.concatenate(parts) if parts else np.zeros((0, 1, 1), bool)
    with atomic_path(path) as temporary:
        shape = masks.shape[1:]
        packed = np.packbits(masks.reshape(len(masks), shape[0] * shape[1]), axis=1)
        np.savez_compressed(temporary, episodes=np.asarray(episodes, np.int64), shape=shape, bits=packed)


def read_masks(path: Path) -> dict[int, Mask]:
    """Episode number to mask (H, W), as `save_masks` wrote them.

    Raises:
        DataError: the file can't be read.
    """
    try:
        with np.load(path) as found:
            height, width = (int(side) for side in found["shape"])
            bits = np.unpackbits(found["bits"], axis=1, count=height * width).astype(bool)
            masks = bits.reshape(-1, height, width)
            return {int(number): mask for number, mask in zip(found["episodes"], masks, strict=True)}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: can't be read: {error}", "delete it and run `dvc repro`") from error


def draw_panel(
    support: Pixels, support_mask: Mask, query: Pixels, truth: Mask | None, results: Mapping[str, Mask]
) -> Pixels:
    """Draw one episode as a row of tiles: support with its mask's outline, query, a tile a result.

    With ``truth`` the query carries its outline and a result is tinted by outcome (found, falsely
    marked, missed) with its IoU in the caption; without it the marked pixels are tinted.

    Args:
        support: (h, w, 3) picture.
        support_mask: (h, w) of the support.
        query: (H, W, 3) picture; any size, the tiles are scaled.
        truth: (H, W) of the query, or None when it isn't known.
        results: a model's name to what it marks, (H, W) of the query.

    Returns:
        (height, width, 3) picture.

    Raises:
        ValueError: a mask's size is not its picture's.
    """
    _same_size("support_mask", support_mask, support)
    if truth is not None:
        _same_size("truth", truth, query)
    tiles = [("Support", _tile(support, [], (support_mask, SUPPORT)))]
    tiles.append(("Query", _tile(query, [], None if truth is None else (truth, TRUTH))))
    for name, mask in results.items():
        _same_size(name, mask, query)
        tiles.append((f"{name}: {_score(truth, mask)}", _result(query, truth, mask)))
    width = len(tiles) * TILE + (len(tiles) - 1) * GAP
    canvas = Image.new("RGB", (width, HEAD + TILE), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (name, tile) in enumerate(tiles):
        left = index * (TILE + GAP)
        draw.text((left + 3, 2), _shortened(name, TILE - 6), fill=TEXT, font=_font(13))
        canvas.paste(tile, (left + (TILE - tile.width) // 2, HEAD + (TILE - tile.height) // 2))
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
    return _tile(query, tints, (truth, TRUTH))


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


def _score(truth: Mask | None, prediction: Mask) -> str:
    if truth is None:
        return f"{100 * prediction.mean():.1f} % marked"
    union = int((prediction | truth).sum())
    return f"IoU {100 * int((prediction & truth).sum()) / max(1, union):.0f}"


def _shortened(text: str, room: int) -> str:
    font = _font(13)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
