"""The pixel convention: a pixel is inside when its centre is; outlines give every pixel back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as tool
from skimage.measure import label, points_in_poly

from lerenet.annotations.outlines import outlines
from lerenet.annotations.polygons import box, fill, ring_of
from tests.helpers.annotations import masks

# pycocotools 2.0.11 decodes by a protocol that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_coordinate_is_a_corner_of_pixels_and_a_pixel_counts_by_its_centre() -> None:
    square = fill([ring_of([1, 1, 3, 1, 3, 4, 1, 4])], (5, 6))
    assert np.argwhere(square).tolist() == [[r, c] for r in (1, 2, 3) for c in (1, 2)]
    assert (fill([box(1.4, 1.4, 3.4, 4.4)], (5, 6)) == square).all()
    assert fill([box(1.6, 1, 3, 4)], (5, 6)).sum() == 3  # the column's centre, 1.5, is left out
    assert fill([box(0, 0, 6, 5)], (5, 6)).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 12), st.floats(-1, 9)), min_size=3, max_size=8))
def test_filling_agrees_with_another_test_of_points(corners: list[tuple[float, float]]) -> None:
    ring = ring_of(np.array(corners).ravel().tolist())
    centres = np.stack(np.meshgrid(np.arange(11) + 0.5, np.arange(8) + 0.5), axis=-1).reshape(-1, 2)
    inside = points_in_poly(centres, ring).reshape(8, 11)
    edges = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    near = np.array([any(_distance(centre, edge) < 1e-6 for edge in edges) for centre in centres])
    filled = fill([ring], (8, 11))
    if inside[~near.reshape(8, 11)].any():
        assert (filled == inside)[~near.reshape(8, 11)].all()


def _distance(point: np.ndarray, edge: np.ndarray) -> float:
    along = edge[1] - edge[0]
    length = float(along @ along)
    share = 0.0 if length == 0 else float(np.clip((point - edge[0]) @ along / length, 0, 1))
    return float(np.hypot(*(point - edge[0] - share * along)))


@settings(deadline=None)
@given(st.floats(0, 10), st.floats(0, 10))
def test_parts_that_share_an_edge_share_no_pixel_and_leave_none_out(top: float, bottom: float) -> None:
    left = fill([ring_of([0, 0, top, 0, bottom, 8, 0, 8])], (8, 10))
    right = fill([ring_of([top, 0, 10, 0, 10, 8, bottom, 8])], (8, 10))
    if max(top, bottom) > 1 and min(top, bottom) < 9:  # neither is too thin to hold a centre
        assert (left ^ right).all()


def test_what_is_too_thin_for_a_centre_marks_the_pixels_of_its_outline() -> None:
    thin = fill([ring_of([1, 2.1, 6, 2.1, 6, 2.3, 1, 2.3])], (5, 8))
    assert np.argwhere(thin).tolist() == [[2, c] for c in range(1, 6)]
    assert fill([box(3.1, 1.1, 3.2, 1.2)], (5, 8)).sum() == 1
    assert np.argwhere(fill([ring_of([0, 0, 0, 1, 1, 0])], (5, 8))).tolist() == [[0, 0]]
    assert np.argwhere(fill([box(1, 1.7, 3, 2)], (5, 8))).tolist() == [[1, 1], [1, 2]]


def test_a_turned_box_turns_clockwise_about_its_centre() -> None:
    assert np.allclose(box(0, 0, 4, 2, 90), [[3, -1], [3, 3], [1, 3], [1, -1]])


def test_a_corner_may_be_rounded_over_the_edge_but_not_lie_outside() -> None:
    assert fill([box(-0.8, -0.8, 8.9, 5.9)], (5, 8)).all()
    with pytest.raises(ValueError, match=r"\(9.5, 1\) is outside the image of 8 x 5 pixels"):
        fill([box(0, 1, 9.5, 3)], (5, 8))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [([1, 2, 3], "no pairs"), ([1, 2, 3, 4], "2 corners"), ([0, 0, 1, 0, float("nan"), 1], "finite")],
)
def test_what_is_no_ring_is_refused(numbers: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ring_of(numbers)


@settings(max_examples=300, deadline=None)
@given(masks)
def test_outlines_give_every_pixel_back_each_part_its_own(mask: np.ndarray) -> None:
    rings = outlines(mask)
    parts = [fill([ring], mask.shape) for ring in rings]
    assert len(parts) == label(mask, connectivity=1).max()
    assert (sum(parts, np.zeros(mask.shape, int)) == mask).all()


@settings(max_examples=300, deadline=None)
@given(masks)
def test_pycocotools_fills_the_same_outlines_alike(mask: np.ndarray) -> None:
    rings = [ring.ravel().tolist() for ring in outlines(mask)]
    if rings:
        encoded = tool.merge(tool.frPyObjects(rings, *mask.shape))
        assert (tool.decode(encoded) == mask).all()


def test_many_holes_in_a_row_are_no_matter() -> None:
    mask = np.ones((3, 4001), dtype=bool)
    mask[1, 1::2] = False
    (ring,) = outlines(mask)
    assert (fill([ring], mask.shape) == mask).all()
