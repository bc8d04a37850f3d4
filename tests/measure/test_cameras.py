"""What is known of cameras: checked key by key; the first whose pattern fits a photo; a place that is inspected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lerenet.errors import DataError, ParamsError
from lerenet.measure.cameras import load_cameras
from tests.helpers import PROJECT, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kameras: {}", r"kameras: unknown key; allowed: cameras"),
        ("cameras: {a: {bits: 12}}", r"cameras\.a\.photos"),
        ("cameras: {a: {photos: '*', bits: 3}}", r"cameras\.a: .*8 to 16"),
        ("cameras: {a: {photos: '*', scale: 0}}", r"cameras\.a\.scale"),
        (
            "cameras: {a: {photos: '*', mask: m.png, region: {left: 0, top: 0, right: 1, bottom: 1}}}",
            r"cameras\.a: .*not both",
        ),
        (
            "cameras: {a: {photos: '*', region: {left: 0.5, top: 0, right: 0.2, bottom: 1}}}",
            "left must be less",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ParamsError, match=expected):
        load_cameras(written(tmp_path, text))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"none\.yaml: not found"):
        load_cameras(tmp_path / "none.yaml")
    with pytest.raises(DataError, match=r"m\.png: not found"):
        load_cameras(written(tmp_path, "cameras: {a: {photos: '*', mask: m.png}}"))


def test_the_first_camera_that_fits_is_the_photos(tmp_path: Path) -> None:
    text = "cameras: {line1: {photos: 'line1/*.png', mm_per_pixel: 0.1}, top: {photos: '*_top.*', bits: 12}}"
    cameras = load_cameras(written(tmp_path, text))
    photos = [Path("x/line1/a.png"), Path("x/b_top.jpg"), Path("x/line1/c_top.jpg"), Path("x/d.jpg")]
    found = [cameras.of(photo) for photo in photos]
    assert [None if one is None else one.bits for one in found] == [None, 12, 12, None]
    assert found[0] is cameras.cameras["line1"]
    assert cameras.sizes(photos[:1])
    assert not cameras.sizes(photos[:2])


def test_a_region_and_a_mask_say_what_is_inspected(tmp_path: Path) -> None:
    inside = np.zeros((40, 60), bool)
    inside[10:30, 15:45] = True
    Image.fromarray(inside.astype(np.uint8) * 255).save(tmp_path / "m.png")
    region = "{left: 0.25, top: 0.25, right: 0.75, bottom: 0.75}"
    text = f"cameras: {{a: {{photos: 'a*', mask: m.png}}, b: {{photos: 'b*', region: {region}}}}}"
    cameras = load_cameras(written(tmp_path, text))
    for name in ("a.png", "b.png"):
        camera = cameras.of(Path(name))
        assert camera is not None
        within = camera.within(40, 60)
        assert within is not None
        np.testing.assert_array_equal(within, inside)
    camera = cameras.of(Path("a.png"))
    assert camera is not None
    with pytest.raises(DataError, match=r"m\.png: 60 x 40 pixels, the photo 80 x 40"):
        camera.within(40, 80)


def test_the_file_in_the_documents_is_one(tmp_path: Path) -> None:
    text = (
        (PROJECT / "docs" / "inspect.md")
        .read_text()
        .split("## Cameras")[1]
        .split("```yaml\n")[1]
        .split("```")[0]
    )
    Image.new("L", (80, 60), 255).save(tmp_path / "side_region.png")
    cameras = load_cameras(written(tmp_path, text))
    assert set(cameras.cameras) == {"line1_top", "line1_side"}


def test_a_region_without_a_pixel_is_refused(tmp_path: Path) -> None:
    text = "cameras: {a: {photos: '*', region: {left: 900, top: 0, right: 910, bottom: 9, unit: px}}}"
    camera = load_cameras(written(tmp_path, text)).of(Path("a.png"))
    assert camera is not None
    with pytest.raises(DataError, match="holds no pixel"):
        camera.within(40, 60)
