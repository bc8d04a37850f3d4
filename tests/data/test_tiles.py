"""Pictures at their class's scale: cut evenly, put together without a seam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerenet.data.scaling import resize_image
from lerenet.data.tiles import OVERLAP, SOURCE, side_for, tiled, tiling
from lerenet.errors import DataError

lengths = st.integers(16, 900)


@settings(deadline=None)
@given(lengths, lengths, st.integers(24, 400), st.integers(32, 96))
def test_squares_cover_the_picture_and_share_a_fifth(height: int, width: int, side: int, size: int) -> None:
    how = tiling(height, width, side, size)
    assert abs(how.height - height * size / side) <= 1
    covered = np.zeros((max(how.height, size), max(how.width, size)), int)
    for top, left in how.corners:
        covered[top : top + size, left : left + size] += 1
        assert 0 <= top <= covered.shape[0] - size
        assert 0 <= left <= covered.shape[1] - size
    assert covered.min() >= 1
    for starts in (sorted({top for top, _ in how.corners}), sorted({left for _, left in how.corners})):
        assert all(two - one <= size * (1 - OVERLAP) + 1 for one, two in pairwise(starts))


@settings(deadline=None)
@given(lengths, lengths, st.integers(24, 400), st.integers(32, 96))
def test_what_is_cut_is_put_together_again(height: int, width: int, side: int, size: int) -> None:
    how = tiling(height, width, side, size)
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    fitted = how.fitted(picture)
    np.testing.assert_array_equal(
        fitted[: how.height, : how.width], resize_image(picture, (how.height, how.width))
    )
    squares = torch.from_numpy(np.stack(how.cut(fitted)))
    assert squares.shape == (len(how.corners), size, size, 3)
    np.testing.assert_array_equal(how.joined(squares).numpy(), fitted)
    values = squares[..., 0].double()
    torch.testing.assert_close(
        how.blended(values), torch.from_numpy(fitted[: how.height, : how.width, 0].astype(float))
    )


@settings(deadline=None)
@given(st.integers(200, 900), st.integers(200, 900), st.integers(32, 96))
def test_no_seam_shows(height: int, width: int, size: int) -> None:
    """Squares that disagree by a constant are blended smoothly: no step is larger than within a window."""
    how = tiling(height, width, size, size)
    values = torch.rand(len(how.corners), 1, 1, dtype=torch.double).expand(-1, size, size)
    whole = how.blended(values)
    ramp = np.sin((np.arange(size) + 0.5) * np.pi / size) ** 2
    steepest = max(np.abs(np.diff(whole.numpy(), axis=axis)).max(initial=0) for axis in (0, 1))
    assert steepest <= 3 * np.abs(np.diff(ramp)).max() / ramp[round(size * OVERLAP / 2)]


def test_a_picture_that_is_shorter_than_a_square_goes_on_as_its_mirror_image() -> None:
    picture = np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)
    how = tiling(20, 40, 64, 64)
    fitted = how.fitted(picture)
    assert fitted.shape == (64, 64, 3)
    np.testing.assert_array_equal(fitted[:20, :40], picture)
    np.testing.assert_array_equal(fitted[20:40, :40], picture[::-1])
    assert how.blended(torch.zeros(1, 64, 64)).shape == (20, 40)


def test_a_picture_as_a_whole_is_one_square() -> None:
    how = tiling(500, 1260, 0, 200)
    assert (how.height, how.width, how.corners) == (200, 200, ((0, 0),))
    assert side_for([(500, 1260)] * 3) == 500
    assert side_for([(1260, 500), (400, 420)]) == 450
    assert side_for([(200, 220)]) == 0


def test_too_many_squares_are_refused() -> None:
    with pytest.raises(DataError, match="6000 x 4000"):
        tiling(4000, 6000, 16, 200)


def test_rows_of_squares_stay_in_order() -> None:
    rows = pd.DataFrame(
        {"image": ["A/a.png", "B/b.png"], "cls": ["A", "B"], "height": [500, 10], "width": [1260, 10]}
    )
    found = tiled(rows, {"A": 500, "B": 0}, 200)
    assert found["image"].tolist() == sorted(found["image"])
    assert found[SOURCE].tolist() == ["A/a.png"] * 3 + ["B/b.png"]
    assert found["image"].iloc[-1] == "B/b.png"
