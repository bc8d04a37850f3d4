"""The only module that decodes images: every odd file is read right, or refused by name.

Images come out as 8-bit RGB, upright as their EXIF orientation says. What is read how is said at `read_image`;
masks are read by `lerenet.data.masks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from lerenet.data.tones import eight_bit, is_deep, odd_tiff
from lerenet.errors import DataError
from lerenet.files import shown

Pixels = NDArray[np.uint8]  # (H, W, 3)

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 64_000_000
MIN_SIDE = 16  # pixels; less is no picture of a part
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FOREIGN = (  # how files begin that people name .jpg or .png
    (4, b"ftyphei", "HEIC"), (4, b"ftyphevc", "HEIC"), (4, b"ftypmif1", "HEIC"), (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypavi", "AVIF"), (4, b"ftypcrx", "CR3 raw"), (0, b"GIF8", "GIF"), (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"), (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"), (0, b"v/1\x01", "OpenEXR"), (0, b"\x93NUMPY", "NumPy"),
    (0, b"P5", "PGM"), (0, b"P6", "PPM"), (0, b"<svg", "SVG"), (0, b"<?xml", "XML"),
    (0, b"<!DOCTYPE", "a web page"), (0, b"<html", "a web page"), (0, b"PK\x03\x04", "a zip archive"),
)  # fmt: skip
LFS = b"version https://git-lfs"

TiffImagePlugin.READ_LIBTIFF = (
    True  # Pillow's own reader mistakes 16-bit planes for 8-bit ones, without a word
)
warnings.simplefilter("error", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged tags that hold no pixels


@dataclass(frozen=True)
class ImageFacts:
    """What a file's header says; width and height are of the upright image, in pixels."""

    width: int
    height: int
    format: str  # one of FORMATS
    mode: str  # as Pillow names it
    orientation: int  # EXIF, 1 is upright
    deep: bool = False  # 16 bits a channel


@contextmanager
def opened(path: Path) -> Iterator[tuple[Image.Image, ImageFacts]]:
    """A file with its header read, not yet decoded: `decoded` does that.

    Raises:
        DataError: not an image, of a format that is not read, over `MAX_PIXELS`, or of several pages or frames.
    """
    path = Path(path)
    with _named(path):
        handle = path.open(
            "rb"
        )  # by handle: Pillow maps a grey TIFF given by name, and scrambles turned ones
    with handle:
        with _named(path):
            image = Image.open(handle, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            deep, frames = is_deep(image), getattr(image, "n_frames", 1)
            facts = _facts(image, deep)
        if frames > 1 and image.format != "MPO":
            raise DataError(f"{shown(path)}: holds several pages or frames", "save the one page as PNG")
        if reason := odd_tiff(image):
            raise DataError(f"{shown(path)}: {reason}", "save it as 8-bit grey or RGB")
        yield image, facts


def _facts(image: Image.Image, deep: bool) -> ImageFacts:
    turn, (width, height) = orientation(image), image.size
    if turn in TURNED and image.format != "TIFF":  # Pillow gives the upright size of a TIFF
        width, height = height, width
    name = "JPEG" if image.format == "MPO" else str(image.format)
    return ImageFacts(width, height, name, image.mode, turn, deep)


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an image, 1 to 8; 1 is upright."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def decode(image: Image.Image, path: Path) -> Image.Image:
    """Decode what `opened` gave.

    Raises:
        DataError: truncated or damaged.
    """
    with _named(path):
        image.load()
    return image


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a decoder raises becomes a DataError with the file's name."""
    name = shown(path)
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name}: over {MAX_PIXELS // 1_000_000} million pixels ({error})",
            "crop or scale it down; so large an image is refused before it is decoded",
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{name}: not found", "restore the file, or remove what refers to it") from error
    except MemoryError as error:
        raise DataError(f"{name}: not enough memory to decode it", "scale it down") from error
    except (
        Exception
    ) as error:  # decoders of damaged files raise anything: TypeError, struct.error, KeyError, ...
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    name = shown(path)
    kind = _foreign(path)
    if path.exists() and not path.stat().st_size:
        return DataError(f"{name}: is empty (0 bytes)", "replace it by a whole file or delete it")
    if kind == "JSON":
        return DataError(f"{name}: JSON is not read as a picture", "export the annotation as a mask in PNG")
    if kind == "Git LFS":
        return DataError(
            f"{name}: a pointer of Git LFS, not the image", "fetch the images with `git lfs pull`"
        )
    if kind:
        return DataError(f"{name}: {kind} is not read", "save it as PNG or JPEG")
    reason = (
        "of no format or variant that is read" if isinstance(error, UnidentifiedImageError) else str(error)
    )
    return DataError(
        f"{name}: can't be read as an image: {reason or type(error).__name__}",
        f"replace it by a whole file ({', '.join(FORMATS)}) or delete it",
    )


def _foreign(path: Path) -> str:
    """The name of a format that is known but not read, by the file's first bytes; else empty."""
    try:
        with path.open("rb") as handle:
            head = handle.read(64)
    except OSError:
        return ""
    if head.startswith(LFS):
        return "Git LFS"
    if head.lstrip()[:1] in (b"{", b"["):
        return "JSON"
    return next((kind for at, mark, kind in FOREIGN if head[at:].startswith(mark)), "")


def image_facts(path: Path) -> ImageFacts:
    """Size, format and orientation from the header alone.

    Raises:
        DataError: not an image, of a format that is not read, or over `MAX_PIXELS`.
    """
    with opened(path) as (_, facts):
        return facts


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, from the header alone.

    Raises:
        DataError: as `image_facts`.
    """
    facts = image_facts(path)
    return facts.width, facts.height


def read_image(path: Path, bits: int = 0) -> Pixels:
    """Decode a file to upright 8-bit RGB, shape (H, W, 3).

    Grey and palette images become RGB; CMYK is converted; transparent pixels show white. 16-bit values are
    scaled over their full range (65535 becomes 255), or over ``bits`` where that is given.

    Raises:
        DataError: not an image, truncated, over `MAX_PIXELS`, several frames, 32-bit or signed values, or 16-bit
            values that fill less than a quarter of the range while ``bits`` is 0 (they would come out dark).
    """
    with opened(path) as (image, facts):
        pixels = eight_bit(decode(image, path), path, facts.deep, bits)
        return np.asarray(_named_rgb(upright(pixels, orientation(image)), path))


def upright(image: Image.Image, turn: int) -> Image.Image:
    """``image`` turned as EXIF orientation ``turn`` says."""
    return image if turn == 1 else image.transpose(TURNS[turn])


def _named_rgb(image: Image.Image, path: Path) -> Image.Image:
    with _named(path):
        return rgb(image, "white")


def rgb(image: Image.Image, ground: str) -> Image.Image:
    """``image`` as RGB; what is transparent shows ``ground``."""
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        backdrop = Image.new("RGBA", colours.size, ground)
        return Image.alpha_composite(backdrop, colours).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
