"""Photos as they were uploaded, and masks as they were drawn."""

from __future__ import annotations

import io
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lerenet.data.encoding import encode_jpeg, encode_png
from lerenet.data.images import MIN_SIDE, SUFFIXES, Pixels, read_image
from lerenet.data.scaling import Mask, resize_image
from lerenet.errors import DataError, LerenetError
from lerenet.files import atomic_path
from lerenet.predict.queries import ENDINGS

LARGEST = 64_000_000  # bytes of a file
SHOWN = 2400  # pixels of the longer side, as a photo is shown and drawn on
KEY = re.compile(r"[0-9a-f]{32}")
NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Photo:
    """One upload that can be used.

    Attributes:
        key: that nobody guesses, under which the browser gets it.
        name: of the file, as the inspector knows it.
        path: where it lies.
        width, height: of the upright picture, in pixels.
        taken: when, in seconds of a clock that only goes on.
    """

    key: str
    name: str
    path: Path
    width: int
    height: int
    taken: float = field(default_factory=time.monotonic)

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height at which it is shown and drawn on."""
        factor = min(1.0, SHOWN / max(self.width, self.height))
        return max(1, round(self.width * factor)), max(1, round(self.height * factor))


class Photos:
    """The photos of all visits, each under a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._photos: dict[str, Photo] = {}
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._marked: dict[str, bool] = {}
        self.drawn: set[str] = set()  # keys of photos that a person drew on

    def take(self, name: str, content: bytes, bits: int = 0) -> Photo:
        """Keep an upload.

        Raises:
            DataError: it can't be used; the message names it and says why. Nothing is kept then.
        """
        plain = Path(name.replace("\\", "/")).name or "photo"
        if len(content) > LARGEST:
            raise DataError(f"{plain}: over {LARGEST // 1_000_000} MB", "crop or scale it down")
        suffix = Path(plain).suffix.lower()
        if suffix not in ENDINGS:
            raise DataError(f"{plain}: no photo", f"give one of {', '.join(SUFFIXES)}")
        key = secrets.token_hex(16)
        path = self.folder / key / "photo" / (NAME.sub("_", Path(plain).stem)[:80].lstrip(".") + suffix)
        path.parent.mkdir(parents=True)
        try:
            path.write_bytes(content)
            pixels = read_image(path, bits)
            height, width = pixels.shape[:2]
            if min(height, width) < MIN_SIDE:
                raise DataError(
                    f"{plain}: {width} x {height} pixels", f"give at least {MIN_SIDE} on each side"
                )
        except DataError as error:
            shutil.rmtree(self.folder / key)
            raise DataError(error.what.replace(str(path), plain), error.remedy) from None
        except OSError as error:
            shutil.rmtree(self.folder / key, ignore_errors=True)
            raise LerenetError(f"{plain}: can't be kept: {error.strerror}", "free disk space") from None
        photo = Photo(key, plain, path, width, height)
        self._show(photo, pixels)
        with self._lock:
            self._photos[key] = photo
        return photo

    def _show(self, photo: Photo, pixels: Pixels) -> None:
        width, height = photo.shown
        self._file(photo, "shown").write_bytes(encode_jpeg(resize_image(pixels, (height, width)), 90))

    def _file(self, photo: Photo, name: str) -> Path:
        return self.folder / photo.key / name

    def drop(self, photos: Iterable[Photo]) -> None:
        """Forget photos, and remove their files."""
        for photo in photos:
            with self._lock:
                self._photos.pop(photo.key, None)
                self._marked.pop(photo.key, None)
                self.drawn.discard(photo.key)
            shutil.rmtree(self.folder / photo.key, ignore_errors=True)

    def get(self, key: str) -> Photo | None:
        """The photo of a key."""
        with self._lock:
            return self._photos.get(key)

    def picture(self, key: str) -> Path | None:
        """The JPEG that the browser shows."""
        photo = self.get(key)
        return None if photo is None else self._file(photo, "shown")

    def draw(self, photo: Photo, content: bytes) -> Path:
        """Keep what was drawn on a photo, as a mask of its own size.

        Args:
            content: PNG of the size at which the photo is shown; opaque where it is marked.

        Raises:
            DataError: no such PNG.
        """
        try:
            with Image.open(io.BytesIO(content), formats=("PNG",)) as drawn:
                if drawn.size != photo.shown:
                    raise DataError(f"{photo.name}: a drawing of {drawn.size}", "load the page again")
                alpha = np.asarray(drawn.convert("RGBA"))[..., 3]
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{photo.name}: the drawing can't be read: {error}", "draw it again") from error
        self.drawn.add(photo.key)
        return self.keep(photo, alpha > 127)

    def keep(self, photo: Photo, marked: Mask) -> Path:
        """Keep a mask of any size as that of a photo."""
        mask = Image.fromarray(marked.astype(np.uint8) * 255).resize(
            (photo.width, photo.height), Image.Resampling.NEAREST
        )
        path = self._file(photo, "mask.png")
        with self._drawing, atomic_path(path) as temporary:
            mask.save(temporary, compress_level=1)
            self._marked[photo.key] = mask.getbbox() is not None
        return path

    def mask(self, photo: Photo) -> Path | None:
        """The mask of a photo, where anything is marked on it."""
        return self._file(photo, "mask.png") if self._marked.get(photo.key) else None

    def transparent(self, photo: Photo) -> bytes | None:
        """The mask as a PNG that can be drawn on: opaque where it is marked."""
        path = self._file(photo, "mask.png")
        if not path.exists():
            return None
        with Image.open(path) as mask:
            marked = np.asarray(mask.convert("L").resize(photo.shown, Image.Resampling.NEAREST)) > 127
        colours = np.zeros((*marked.shape, 4), np.uint8)
        colours[marked] = (255, 64, 64, 255)
        return encode_png(colours)
