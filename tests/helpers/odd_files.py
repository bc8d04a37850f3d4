"""Image files as cameras, scanners and tools write them, each with its right pixels; Pillow makes only CMYK JPEGs.

A `Case` says what a file is; `write` makes it and gives the upright RGB that it shows, from the values that went into
it, or from another decoder (imagecodecs) where the format loses some. None: nobody could tell; only a refusal is right.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image

H, W = 22, 31
TIFF_MODES = (
    "grey1",
    "grey8",
    "grey16",
    "white1",
    "white8",
    "la8",
    "white16",
    "rgb8",
    "rgb16",
    "rgba8",
    "palette8",
    "cmyk8",
    "grey32f",
)
PNG_MODES = ("grey1", "grey2", "grey4", "grey8", "grey16", "la8", "la16", "rgb8", "rgb16", "rgba8", "rgba16",
             "palette1", "palette4", "palette8", "palette8t", "grey8t", "rgb8t")  # fmt: skip
JPEG_MODES = ("grey8", "rgb8", "cmyk8")
COMPRESSIONS = ("none", "zlib", "lzw", "packbits")


@dataclass(frozen=True)
class Case:
    """One file: ``tone`` is the range that 16-bit values fill, ``cut`` the share of its bytes that is left."""

    kind: str
    mode: str
    compression: str = "none"
    orientation: int = 1
    tone: str = "full"
    layout: str = "strips"
    big_endian: bool = False
    metadata: str = "none"
    cut: float = 1.0
    seed: int = 0


def cases() -> st.SearchStrategy[Case]:
    """Any such file."""
    common = {
        "orientation": st.sampled_from([1, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        "tone": st.sampled_from(["full", "full", "12 bits", "14 bits", "hot"]),
        "metadata": st.sampled_from(["none", "predictor", "text", "dpi"]),
        "cut": st.sampled_from([1.0] * 7 + [0.0, 0.3, 0.7, 0.97]),
        "seed": st.integers(0, 999),
    }
    tiff = st.builds(
        Case, st.just("tif"), st.sampled_from(TIFF_MODES), st.sampled_from(COMPRESSIONS),
        layout=st.sampled_from(["strips", "one strip", "tiles", "planar", "planar tiles"]), big_endian=st.booleans(),
        **common,
    )  # fmt: skip
    png = st.builds(Case, st.just("png"), st.sampled_from(PNG_MODES), **common)
    jpeg = st.builds(
        Case, st.just("jpg"), st.sampled_from(JPEG_MODES), st.sampled_from(["444", "420"]), **common
    )
    other = st.builds(
        Case,
        st.sampled_from(["bmp", "webp"]),
        st.sampled_from(["rgb8", "rgba8"]),
        st.sampled_from(["lossless", "lossy"]),
        **common,
    )
    return st.one_of(tiff, png, jpeg, other)


def smooth(seed: int, channels: int, top: int = 255) -> np.ndarray:
    """A smooth picture (H, W, channels) that fills 0 to ``top``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    planes = []
    for _ in range(channels):
        a, b, c = (*rng.uniform(0.05, 0.25, 2), rng.uniform(0, 6))
        wave = np.sin(a * x + b * y + c)
        planes.append((wave - wave.min()) / np.ptp(wave))
    return np.round(np.stack(planes, axis=-1) * top)


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera held so stores of an upright scene: the inverse of what EXIF says to do."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](upright))


def restored(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The upright scene of what is stored."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return turned(stored, inverse)


def write(case: Case, folder: Path, name: str) -> tuple[Path, np.ndarray | None]:
    """Make the file ``folder/name.<kind>``; gives its path and the upright RGB (H, W, 3), or None.

    A file that is cut may be refused, or be read right (what is missing may hold no pixels).
    """
    path = folder / f"{name}.{case.kind}"
    content, shown = {"tif": _tiff, "png": _png, "jpg": _jpeg, "bmp": _bmp, "webp": _webp}[case.kind](case)
    if case.cut < 1:
        content = content[: int(len(content) * case.cut)]
    path.write_bytes(content)
    if shown is None:
        return path, None
    return path, restored(shown, case.orientation if case.kind != "bmp" else 1)


def _values(case: Case, channels: int) -> tuple[np.ndarray, int]:
    """Stored values (H', W', channels) and their white; 16-bit ones fill what ``tone`` says."""
    bits = int("".join(c for c in case.mode.removesuffix("f") if c.isdigit())[:2].lstrip("0") or 8)
    white = (1 << bits) - 1
    top = {"12 bits": 4095, "14 bits": 16383, "hot": 4095}.get(case.tone, white) if bits == 16 else white
    values = smooth(case.seed, channels, top)
    if case.tone == "hot" and bits == 16:
        values[3, 4] = white
    return turned(values, 1), white


def _dark(case: Case) -> bool:
    return "16" in case.mode and case.tone != "full"


def _over_white(colours: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    share = alpha[..., None] / white
    return colours * share + white * (1 - share)


def _rgb(values: np.ndarray, white: int) -> np.ndarray:
    """Values (H, W, 1 to 4) as 8-bit RGB over white."""
    colours = values[..., :1].repeat(3, axis=2) if values.shape[2] < 3 else values[..., :3]
    if values.shape[2] in (2, 4):
        colours = _over_white(colours, values[..., -1], white)
    return np.round(colours * 255 / white)


def _cmyk(values: np.ndarray) -> np.ndarray:
    ink, black = values[..., :3], values[..., 3:]
    return np.clip(255 - ink * (255 - black) / 255 - black, 0, 255)


def _png(case: Case) -> tuple[bytes, np.ndarray | None]:
    bits = int("".join(c for c in case.mode if c.isdigit())[:2])
    kind = (
        "".join(c for c in case.mode if c.isalpha()).removesuffix("t")
        if case.mode.endswith("t")
        else case.mode.rstrip("0123456789")
    )
    colour, channels = {"grey": (0, 1), "rgb": (2, 3), "palette": (3, 1), "la": (4, 2), "rgba": (6, 4)}[kind]
    values, white = _values(case, channels)
    chunks, shown = [], None
    if kind == "palette":
        table = np.random.default_rng(case.seed).integers(0, 256, (1 << bits, 3))
        opacity = np.full(1 << bits, 255)
        chunks.append((b"PLTE", table.astype(np.uint8).tobytes()))
        if case.mode.endswith("t"):
            opacity[: len(opacity) // 2] = 0
            chunks.append((b"tRNS", opacity.astype(np.uint8).tobytes()))
        index = values[..., 0].astype(int)
        shown = _over_white(table[index].astype(float), opacity[index].astype(float), 255)
    elif case.mode.endswith("t"):
        key = values[2, 3].astype(int)
        chunks.append((b"tRNS", struct.pack(f">{channels}H", *key)))
        clear = (values == key).all(axis=2)
        shown = np.where(clear[..., None], 255, _rgb(values, white))
    else:
        shown = _rgb(values, white)
    if case.metadata == "text":
        chunks.append((b"tEXt", b"Comment\0made by a scanner"))
    if case.metadata == "dpi":
        chunks.append((b"pHYs", struct.pack(">IIB", 11811, 11811, 1)))
    if case.orientation != 1:
        chunks.append((b"eXIf", _exif(case.orientation)))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in _rows(values, bits)))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)
    return content, None if _dark(case) else shown


def _rows(values: np.ndarray, bits: int) -> list[bytes]:
    flat = values.reshape(values.shape[0], -1).astype(np.int64)
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in flat]
    if bits == 8:
        return [row.astype(np.uint8).tobytes() for row in flat]
    spread = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in spread]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"


def _jpeg(case: Case) -> tuple[bytes, np.ndarray | None]:
    channels = {"grey8": 1, "rgb8": 3, "cmyk8": 4}[case.mode]
    values = smooth(case.seed, channels).astype(np.uint8)
    content = _cmyk_jpeg(values) if channels == 4 else _encoded(values, case.compression)
    found = imagecodecs.jpeg8_decode(content).reshape(H, W, channels).astype(float)
    if case.orientation != 1:
        app1 = b"Exif\0\0" + _exif(case.orientation)
        content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + content[2:]
    return content, _cmyk(255 - found) if channels == 4 else _rgb(found, 255)  # Adobe stores ink inverted


def _encoded(values: np.ndarray, sampling: str) -> bytes:
    if values.shape[2] == 1:
        return bytes(imagecodecs.jpeg8_encode(values[..., 0], 92, colorspace="GRAY"))
    return bytes(imagecodecs.jpeg8_encode(values, 92, colorspace="RGB", subsampling=sampling))


def _cmyk_jpeg(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values, "CMYK").save(out, "JPEG", quality=92)
    return out.getvalue()


def _bmp(case: Case) -> tuple[bytes, np.ndarray | None]:
    values = smooth(case.seed, 3).astype(np.uint8)
    rows = [row[:, ::-1].tobytes() + b"\0" * (-3 * W % 4) for row in values[::-1]]
    body = b"".join(rows)
    head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 24, 0, len(body), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body, values.astype(float)


def _webp(case: Case) -> tuple[bytes, np.ndarray | None]:
    channels = 3 if case.mode == "rgb8" else 4
    values = smooth(case.seed, channels).astype(np.uint8)
    content = imagecodecs.webp_encode(values, 100 if case.compression == "lossless" else 80,
                                      lossless=case.compression == "lossless")  # fmt: skip
    found = imagecodecs.webp_decode(content, hasalpha=channels == 4).astype(float)
    if case.orientation != 1:
        return _webp_with_exif(content, case.orientation, channels == 4), _rgb(found, 255)
    return content, _rgb(found, 255)


def _webp_with_exif(content: bytes, orientation: int, alpha: bool) -> bytes:
    chunks, at = [], 12
    while at < len(content):
        size = struct.unpack("<I", content[at + 4 : at + 8])[0]
        name, data = content[at : at + 4], content[at + 8 : at + 8 + size]
        chunks += [(name, data)] if name != b"VP8X" else []
        at += 8 + size + size % 2
    flags = 0x08 | (0x10 if alpha else 0)
    extended = bytes([flags, 0, 0, 0]) + (W - 1).to_bytes(3, "little") + (H - 1).to_bytes(3, "little")
    parts = [(b"VP8X", extended), *chunks, (b"EXIF", _exif(orientation))]
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


DTYPES = {"1": bool, "16": np.uint16, "32f": np.float32}
CHANNELS = {"rgb8": 3, "rgb16": 3, "rgba8": 4, "cmyk8": 4, "la8": 2}
PHOTOMETRIC = {
    "grey": "minisblack",
    "la": "minisblack",
    "white": "miniswhite",
    "cmyk": "separated",
    "palette": "palette",
}


def _tiff(case: Case) -> tuple[bytes, np.ndarray | None]:
    channels, kind = CHANNELS.get(case.mode, 1), case.mode.rstrip("0123456789f")
    values, white = (smooth(case.seed, 1, 1), 1) if case.mode == "grey32f" else _values(case, channels)
    shown, options = _shown(case, kind, values, white)
    stored = values.astype(DTYPES.get(case.mode[len(kind) :], np.uint8))
    if channels == 1:
        stored = stored[..., 0]
    elif case.layout.startswith("planar"):
        stored, options["planarconfig"] = np.moveaxis(stored, -1, 0), "separate"
    options |= _layout(case, stored.dtype)
    out = io.BytesIO()
    tifffile.imwrite(out, stored, byteorder=">" if case.big_endian else "<", metadata=None, **options)
    return out.getvalue(), None if _dark(case) or case.mode == "grey32f" else shown


def _shown(case: Case, kind: str, values: np.ndarray, white: int) -> tuple[np.ndarray, dict[str, object]]:
    """What the values look like, and how tifffile is told."""
    options: dict[str, object] = {"photometric": PHOTOMETRIC.get(kind, "rgb")}
    if kind in ("la", "rgba"):
        options["extrasamples"] = ["unassalpha"]
    if kind == "palette":
        table = np.random.default_rng(case.seed).integers(0, 256, (3, 256))
        options["colormap"] = (table * 257).astype(np.uint16)
        return table.T[values[..., 0].astype(int)].astype(float), options
    if kind == "cmyk":
        return _cmyk(values), options
    shown = _rgb(values, white)
    return 255 - shown if kind == "white" else shown, options


def _layout(case: Case, dtype: np.dtype) -> dict[str, object]:
    """Compression, tiles or strips, orientation and other tags."""
    options: dict[str, object] = {"compression": None if case.compression == "none" else case.compression}
    if case.orientation != 1:
        options["extratags"] = [(274, 3, 1, case.orientation, True)]
    if case.layout.endswith("tiles") and dtype != np.dtype(bool):
        options["tile"] = (16, 16)
    elif case.layout == "strips":
        options["rowsperstrip"] = 5
    if case.metadata == "text":
        options |= {"description": "made by a scanner", "software": "scanner 1"}
    if case.metadata == "dpi":
        options["resolution"] = (300, 300)
    if (
        case.metadata == "predictor"
        and case.compression in ("lzw", "zlib")
        and dtype in (np.uint8, np.uint16)
    ):
        options["predictor"] = True
    return options
