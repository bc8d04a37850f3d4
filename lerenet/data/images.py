"""The only module that decodes images: every odd file is read right, or refused by name.

Images come out as 8-bit RGB, upright as their EXIF orientation says. Masks come out as booleans,
True on the defect. What is read how is said at `read_image` and `read_mask`.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from lerenet.errors import DataError
from lerenet.files import atomic_path

Pixels = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.bool_]  # (H, W)

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 64_000_000
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names of 16-bit grey
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
LOW, HIGH = 64, 192  # a grey value below is background, from here on foreground, between unclear

warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageFacts:
    """What a file's header says; width and height are of the upright image, in pixels."""

    width: int
    height: int
    format: str  # one of FORMATS
    mode: str  # as Pillow names it
    orientation: int  # EXIF, 1 is upright


@dataclass(frozen=True)
class MaskFacts:
    """A mask's size in pixels, whether it is clearly two-valued, and its defect's share (0..1)."""

    width: int
    height: int
    binary: bool
    foreground: float
    canonical: bool  # a grey PNG that holds nothing but 0 and 255


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file with its header read; whatever goes wrong inside becomes a DataError with its name."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise DataError(f"{path}: holds several pages or frames", "save the one page as PNG")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path}: over {MAX_PIXELS // 1_000_000} million pixels ({error})",
            "crop or scale it down; so large an image is refused before it is decoded",
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found", "restore the file, or remove what refers to it") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path}: can't be read as an image: {str(error).replace(str(path), 'the file')}",
            f"replace it by a whole file ({', '.join(FORMATS)}) or delete it",
        ) from error


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def image_facts(path: Path) -> ImageFacts:
    """Size, format and orientation from the header alone.

    Raises:
        DataError: not an image, of a format that is not read, or over `MAX_PIXELS`.
    """
    with _opened(path) as image:
        turn, (width, height) = _orientation(image), image.size
        if turn in TURNED:
            width, height = height, width
        name = "JPEG" if image.format == "MPO" else str(image.format)
        return ImageFacts(width, height, name, image.mode, turn)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, from the header alone.

    Raises:
        DataError: as `image_facts`.
    """
    facts = image_facts(path)
    return facts.width, facts.height


def read_image(path: Path) -> Pixels:
    """Decode a file to upright 8-bit RGB, shape (H, W, 3).

    Grey and palette images become RGB; CMYK is converted; transparent pixels show white. 16-bit
    grey is scaled over its full range (65535 becomes 255); 16-bit colour keeps its upper byte.

    Raises:
        DataError: not an image, truncated, over `MAX_PIXELS`, several frames, 32-bit values, or
            16-bit values that never pass 4095 (12-bit data would come out black).
    """
    with _opened(path) as image:
        image.load()
        flat = _eight_bit(image, path)
        upright = ImageOps.exif_transpose(flat) if _orientation(image) != 1 else flat
        return np.asarray(_rgb(upright, "white"))


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in ("I", "F"):
        raise DataError(f"{path}: 32-bit values (mode {image.mode})", "save it as 8-bit RGB or grey")
    if image.mode not in DEEP:
        return image
    values = np.asarray(image).astype(np.uint16)
    if values.max() < 4096:
        raise DataError(
            f"{path}: 16-bit, yet no value is over {values.max()} of 65535",
            "scale it to 8 bits as your camera counts (e.g. 12 bits: divide by 16)",
        )
    scaled = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    scaled.info["exif"] = image.getexif().tobytes()
    return scaled


def _rgb(image: Image.Image, ground: str) -> Image.Image:
    """``image`` as RGB; what is transparent shows ``ground``."""
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        colours = image.convert("RGBA")
        backdrop = Image.new("RGBA", colours.size, ground)
        return Image.alpha_composite(backdrop, colours).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_mask(path: Path) -> Mask:
    """Decode a mask to booleans, shape (H, W), upright, True on the defect.

    Two-valued files (0 and 255, 0 and 1, two colours of a palette on black) are read as they are;
    a colour counts by its brightest channel, a drawing on a transparent ground by its opacity.
    Noise of JPEG and soft edges are cut at 128. An empty mask is read as empty.

    Raises:
        DataError: not an image, truncated, too large; or the values are not clearly two: more grey
            (64 to 191) than white, or several labels.
    """
    found, _ = _mask_or_reason(path)
    if isinstance(found, str):
        raise DataError(f"{path}: {found}", "save the mask with 0 for background and 255 for the defect")
    return found


def measure_mask(path: Path) -> MaskFacts:
    """Size, share of defect and whether the mask is two-valued; grey masks are told, not refused.

    Raises:
        DataError: not an image, truncated or too large.
    """
    found, canonical = _mask_or_reason(path)
    with _opened(path) as image:
        turned = _orientation(image) in TURNED
        width, height = image.size[::-1] if turned else image.size
    share = 0.0 if isinstance(found, str) else float(found.mean())
    return MaskFacts(width, height, not isinstance(found, str), share, canonical)


def _mask_or_reason(path: Path) -> tuple[Mask | str, bool]:
    with _opened(path) as image:
        image.load()
        lossy = image.format in ("JPEG", "MPO", "WEBP")
        values = _levels(image, path)
        plain = image.format == "PNG" and image.mode == "L" and _orientation(image) == 1
    return _two_values(values, lossy), plain and not ((values > 0) & (values < 255)).any()


def _levels(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """One grey value a pixel (H, W): the brightest channel, or the opacity of a plain drawing."""
    turn = _orientation(image)
    if image.mode in (*DEEP, "I"):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(deep // 257 if deep.max() > 255 else deep, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise DataError(f"{path}: a mask of real numbers", "save it as 8-bit grey, 0 and 255")
    if turn != 1:
        image = image.transpose(TURNS[turn])
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    if image.has_transparency_data:
        colours = np.asarray(image.convert("RGBA"))
        painted = colours[colours[..., 3] > 0][:, :3]
        if len(painted) and not colours[..., 3].all() and (painted == painted[0]).all():
            return np.ascontiguousarray(colours[..., 3])
    brightest: NDArray[np.uint8] = np.asarray(_rgb(image, "black")).max(axis=2)
    return brightest


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _two_values(values: NDArray[np.uint8], lossy: bool) -> Mask | str:
    """The mask in ``values``, or why there is none."""
    histogram = np.bincount(values.ravel(), minlength=256)
    present = np.flatnonzero(histogram)
    if not lossy and len(present) <= 2:
        low, high = int(present[0]), int(present[-1])
        if low == high:
            return np.full(values.shape, low > 0)
        return values == high if low < LOW else f"grey values {low} and {high}, no black"
    grey, white = int(histogram[LOW:HIGH].sum()), int(histogram[HIGH:].sum())
    if grey > white:
        return f"{grey} pixels are grey (64 to 191), only {white} are white"
    if not lossy and not white:
        return f"{len(present)} labels up to {present[-1]}, no white"
    mask: Mask = values >= 128
    return mask


def turn_mask(mask: Mask, orientation: int) -> Mask:
    """Turn a mask drawn on the raw pixels of an image as the image's EXIF ``orientation`` says."""
    if orientation == 1:
        return mask
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).transpose(TURNS[orientation])) > 0


def resize_image(image: Pixels, size: int | tuple[int, int]) -> Pixels:
    """Scale (H, W, 3) to ``size`` (one side, or height and width), bilinear with antialiasing."""
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: Mask, size: int | tuple[int, int]) -> Mask:
    """Scale (H, W) to ``size`` (one side, or height and width) so that no thin defect vanishes.

    A pixel is foreground when the defect covers at least half of it. Where that leaves less area
    than the defect had (thin ones), the most covered pixels are kept until the area is reached, so
    a mask with any foreground keeps some.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if mask.shape == (height, width) or not mask.any():
        return mask if mask.shape == (height, width) else np.zeros((height, width), dtype=bool)
    source = Image.fromarray(mask.astype(np.float32))
    cover = np.asarray(source.resize((width, height), Image.Resampling.BOX))
    wanted = max(1, round(float(mask.mean()) * cover.size))
    reached = float(np.partition(cover, cover.size - wanted, axis=None)[cover.size - wanted])
    kept: Mask = cover >= max(min(0.5, reached), float(cover.max()) * 1e-3)
    return kept


def encode_jpeg(image: Pixels, quality: int = 95) -> bytes:
    """RGB (H, W, 3) or grey (H, W) as the bytes of a JPEG file."""
    return _encoded(Image.fromarray(image), "JPEG", quality=quality, optimize=True)


def encode_png(image: Pixels) -> bytes:
    """RGB (H, W, 3) or grey (H, W) as the bytes of a PNG file."""
    return _encoded(Image.fromarray(image), "PNG")


def encode_mask(mask: Mask) -> bytes:
    """A mask (H, W) as the bytes of a grey PNG file with 0 and 255."""
    return _encoded(Image.fromarray(mask.astype(np.uint8) * 255), "PNG", optimize=True)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


def write_jpeg(path: Path, image: Pixels, quality: int = 95) -> None:
    """Write `encode_jpeg`'s bytes, whole or not at all.

    Raises:
        LerenetError: the disk refuses; an older file stays.
    """
    _write(path, encode_jpeg(image, quality))


def write_mask(path: Path, mask: Mask) -> None:
    """Write `encode_mask`'s bytes, whole or not at all.

    Raises:
        LerenetError: the disk refuses; an older file stays.
    """
    _write(path, encode_mask(mask))


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def refuse(problems: Sequence[str], remedy: str) -> None:
    """Raise one DataError that lists the first 20 problems; none: return."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise DataError(f"{len(problems)} files can't be used:\n{shown}{more}", remedy)
