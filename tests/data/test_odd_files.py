"""A corpus of odd files through import and prediction: the right pixels, or a refusal that names the file.

What is right comes from the values that went into a file, or from another decoder; see `tests.helpers.odd_files`.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from lerenet.data.encoding import encode_jpeg
from lerenet.data.images import read_image
from lerenet.data.importing.importer import import_dataset
from lerenet.data.reading import Reading
from lerenet.errors import DataError
from lerenet.models.serialization import matching_network
from lerenet.predict import predict
from tests.helpers.odd_files import Case, cases, write

FILES = 300
UPRIGHT = Reading(drawn_on="upright")
LOSSLESS = 2.01  # rounding of alpha and of 16 bits
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL"
)  # as outside of tests: damaged tags of damaged files


def drawn(count: int) -> list[Case]:
    """The same ``count`` files every time, drawn by hypothesis."""
    found: dict[Case, None] = {}

    @settings(max_examples=2 * count, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(cases())
    def collect(case: Case) -> None:
        found.setdefault(case)

    collect()
    return list(found)[:count]


def outcome(path: Path, case: Case, right: np.ndarray | None) -> str:
    """``right``, ``refused``, or what is wrong."""
    try:
        found = read_image(path).astype(float)
    except DataError as error:
        return "refused" if path.name in str(error) else f"refused without its name: {error}"
    if right is None:
        return f"read, though nobody can tell: {case}"
    if found.shape != right.shape or np.abs(found - right).max() > LOSSLESS:
        return f"wrong: {case}"
    return "right"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[Case, np.ndarray | None]]:
    folder = tmp_path_factory.mktemp("corpus")
    return {
        path: (case, right)
        for number, case in enumerate(drawn(FILES))
        for path, right in [write(case, folder, f"f{number:03}")]
    }


def test_three_hundred_files_are_right_or_refused(corpus: dict[Path, tuple[Case, np.ndarray | None]]) -> None:
    table = Counter(outcome(path, case, right) for path, (case, right) in corpus.items())
    assert set(table) == {"right", "refused"}
    assert table["right"] > FILES / 3  # refusing everything is no answer
    whole = [case for case, right in corpus.values() if case.cut == 1 and right is not None]
    assert table["right"] > 0.9 * len(whole)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_any_file_is_right_or_refused(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    path, right = write(case, tmp_path_factory.getbasetemp(), "any")
    assert outcome(path, case, right) in ("right", "refused")


def readable(corpus: dict[Path, tuple[Case, np.ndarray | None]]) -> dict[str, np.ndarray]:
    return {
        path.name: right
        for path, (case, right) in corpus.items()
        if right is not None and outcome(path, case, right) == "right"
    }


def like_a_mask(pixels: np.ndarray) -> bool:
    """Black and one grey, as a mask is: refused as an image beside a mask, for the two are likely swapped."""
    values = np.unique(pixels.reshape(-1, 3), axis=0)
    return len(values) == 2 and not values[0].any() and len(set(values[1])) == 1


def spot(shape: tuple[int, ...]) -> Image.Image:
    marked = np.zeros(shape[:2], np.uint8)
    marked[4:9, 5:12] = 255
    return Image.fromarray(marked)


def test_import_takes_the_readable_with_their_pixels_and_names_the_others(
    corpus: dict[Path, tuple[Case, np.ndarray | None]], tmp_path: Path
) -> None:
    source = tmp_path / "source" / "Rust"
    for name in ("Images", "GT"):
        (source / name).mkdir(parents=True)
    right = {name: pixels for name, pixels in readable(corpus).items() if not like_a_mask(pixels)}
    for path, (_, pixels) in corpus.items():
        (source / "Images" / path.name).symlink_to(path)
        shape = (22, 31) if pixels is None else pixels.shape
        spot(shape).save(source / "GT" / f"{path.stem}.png")
    with pytest.raises(DataError, match="files can't be used") as error:
        import_dataset(tmp_path / "source", tmp_path / "data", reading=UPRIGHT)
    others = [path.name for path in corpus if path.name not in right]
    assert str(error.value).startswith(f"{len(others)} files")
    assert sum(name in str(error.value) for name in others) >= 20  # the first twenty are listed
    for name in others:
        (source / "Images" / name).unlink()
        (source / "GT" / name).with_suffix(".png").unlink()
    done = import_dataset(tmp_path / "source", tmp_path / "data", reading=UPRIGHT)
    assert done.defect["Rust"] == len(right)
    for name, pixels in right.items():
        found = read_image(tmp_path / "data" / "Rust" / "Images" / f"{Path(name).stem}.jpg").astype(float)
        assert found.shape == pixels.shape
        coded = np.asarray(Image.open(io.BytesIO(encode_jpeg(np.round(pixels).astype(np.uint8))))).astype(
            float
        )
        copied = name.endswith(".jpg") and np.abs(found - pixels).max() <= LOSSLESS
        assert copied or np.abs(found - coded).mean() < 2, name


def test_predict_sees_the_same_pixels_and_names_the_others(
    corpus: dict[Path, tuple[Case, np.ndarray | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(
        loaded: object, state: object, images: list[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        (image,) = images
        share = np.zeros(image.shape[:2], np.float32)
        return [(share > 0, share)]

    monkeypatch.setattr("lerenet.predict.work.segment", segment)
    scene = np.random.default_rng(0).integers(60, 200, (40, 40, 3), np.uint8)
    Image.fromarray(scene).save(tmp_path / "s.png")
    spot(scene.shape).save(tmp_path / "m.png")
    network = matching_network(96, init="random")
    done = predict([(tmp_path / "s.png", tmp_path / "m.png")], list(corpus), tmp_path / "out", network)
    right = readable(corpus)
    failed = {Path(row.query).name for row in done.predictions if row.error}
    assert failed == {path.name for path in corpus} - set(right)
    for row in done.predictions:
        name = Path(row.query).name
        if row.error:
            assert name in row.error
            continue
        overlay = read_image(tmp_path / "out" / row.overlay).astype(
            float
        )  # nothing is marked: the picture itself
        assert overlay.shape == right[name].shape
        assert np.abs(overlay - right[name]).max() <= LOSSLESS, name
