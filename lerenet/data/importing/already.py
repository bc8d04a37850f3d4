"""A photo that a data folder already has: where it lies, and its masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lerenet.data.encoding import encode_jpeg
from lerenet.data.images import image_facts, read_image
from lerenet.data.importing.placing import stays
from lerenet.data.listing import readable
from lerenet.files import sha256_file

DIGITS = 12  # of a photo's SHA-256, in its name: the same photo again takes its own place


def masks_of(data: Path, image: Path, bits: int = 0) -> dict[str, Path | None]:
    """The mask of a photo in each class of a data folder that has it; None where it is a good part.

    Args:
        bits: that the photo's camera uses of 16-bit values.

    Raises:
        DataError: the photo can't be read.
    """
    kept = None if stays(image_facts(image)) else encode_jpeg(read_image(image, bits))
    found = {}
    for cls, stem in same_photo(data, image, sha256_file(image), kept).items():
        mask = mask_file(data, cls, stem)
        found[cls] = mask if mask.exists() else None
    return found


def mask_file(data: Path, cls: str, stem: str) -> Path:
    """Where the mask of a photo lies, if it has one."""
    return data / cls / "GT" / f"{stem}.png"


def same_photo(data: Path, image: Path, digest: str, kept: bytes | None) -> dict[str, str]:
    """The name of the same photo in each class that has it: by its bytes, by those it is kept as, or by its name.

    Args:
        digest: SHA-256 of the photo's file.
        kept: the bytes that it would be kept as, where they are others.
    """
    digests = {(image.stat().st_size, digest)}
    if kept is not None:
        digests.add((len(kept), hashlib.sha256(kept).hexdigest()))
    sizes = {size for size, _ in digests}
    found = {}
    for folder in ("Images", "Nd"):
        for path in sorted(data.glob(f"*/{folder}/*")):
            size = path.stat().st_size
            if path.stem.endswith(f"-{digest[:DIGITS]}") or (
                size in sizes and (size, sha256_file(path)) in digests
            ):
                found[path.parts[-3]] = path.stem
    return found


def files_of(data: Path, cls: str, stem: str) -> list[Path]:
    """Image and mask of that name, whatever they are now."""
    folders = (data / cls / name for name in ("Images", "GT", "Nd"))
    return [
        path
        for folder in folders
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.stem == stem and readable(path.name)
    ]
