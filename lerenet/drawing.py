"""Masks drawn onto pictures: an overlay, and a panel that shows an episode beside its truth.

The colours are from the Okabe-Ito set, which colour-blind readers tell apart; the white outline of
the truth says the same without colour: found is inside it, falsely marked outside it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
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
TRUTH: Colour = (255, 255, 255)  # outline of the query's mask
TILE, GAP, HEAD = 190, 4, 19  # pixels
OPACITY = 0.6
TINT = np.array([255, 80, 0], dtype=np.float32)  # orange, seen on grey metal and by the colour-blind
OUTLINE = np.array([255, 0, 160], dtype=np.uint8)
STRENGTH = 0.3
RUNS = 3  # zlib's strategy Z_RLE: on photos files as small as by the default, in less than half its time


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
    first = ("Support", _tile(support, [], (support_mask, SUPPORT)))
    return _row([first, *_answers("Query", query, truth, results)])


def draw_answers(image: Pixels, truth: Mask | None, results: Mapping[str, Mask]) -> Pixels:
    """`draw_panel` without a support: the image, and a tile a result."""
    return _row(_answers("Image", image, truth, results))


def _answers(
    title: str, query: Pixels, truth: Mask | None, results: Mapping[str, Mask]
) -> list[tuple[str, Image.Image]]:
    if truth is not None:
        _same_size("truth", truth, query)
    tiles = [(title, _tile(query, [], None if truth is None else (truth, TRUTH)))]
    for name, mask in results.items():
        _same_size(name, mask, query)
        tiles.append((f"{name}: {_score(truth, mask)}", _result(query, truth, mask)))
    return tiles


def _row(tiles: list[tuple[str, Image.Image]]) -> Pixels:
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


def draw_overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image (H, W, 3) with ``mask`` (H, W) tinted and outlined just outside its edge."""
    drawn = image.copy()
    if not mask.any():
        return drawn
    tinted = (1 - STRENGTH) * image[mask].astype(np.float32) + STRENGTH * TINT
    drawn[mask] = tinted.round().astype(np.uint8)
    width = max(1, round(min(mask.shape) / 250))
    box = tuple(
        slice(max(0, side.start - width), side.stop + width)
        for side in ndimage.find_objects(mask.view(np.uint8))[0]
    )
    inside = mask[box]
    drawn[box][ndimage.binary_dilation(inside, iterations=width) & ~inside] = OUTLINE
    return drawn


def overlay_png(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    """`draw_overlay` as the bytes of a PNG file."""
    encoded = io.BytesIO()
    Image.fromarray(draw_overlay(image, mask)).save(encoded, "PNG", compress_level=1, compress_type=RUNS)
    return encoded.getvalue()
