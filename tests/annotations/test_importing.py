"""`lerenet data import` of exports as they are: beside their images, in a folder, in an archive."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from lerenet.annotations import coco as writer
from lerenet.annotations.importing import import_any
from lerenet.annotations.locating import Images
from lerenet.annotations.regions import AnnotatedImage, Region
from lerenet.data.cataloguing import build_catalog
from lerenet.data.dataset import read_dataset, read_sources
from lerenet.data.groups import fold_of
from lerenet.data.masks import read_marks, read_mask
from lerenet.data.reading import Reading
from lerenet.data.scaling import IGNORED
from lerenet.data.validation.catalog_checks import with_twins
from lerenet.errors import DataError
from tests.helpers.annotations import coco, cvat, grey, label_studio, labelme, save, voc, yolo

SIZE = (30, 40)  # height and width
SQUARE = [4, 2, 12, 2, 12, 8, 4, 8]
BLOCK = np.zeros(SIZE, dtype=bool)
BLOCK[2:8, 4:12] = True
OTHER = np.roll(BLOCK, (10, 20), axis=(0, 1))


def exported(kind: str, folder: Path) -> Path:
    """The export of one image with `BLOCK` as a scratch, and what is given to the import."""
    corners = np.array(SQUARE, float).reshape(-1, 2)
    percent = (corners / SIZE[::-1] * 100).tolist()
    if kind == "voc":
        grey(folder / "JPEGImages" / "part.jpg", 40, 30)
        return voc(folder, BLOCK * 1)
    if kind == "yolo-seg":
        return yolo(folder, SIZE, "1 " + " ".join(map(str, np.ravel(corners / SIZE[::-1])))) / "data.yaml"
    grey(folder / "images" / "part.png", 40, 30)
    if kind == "coco":
        return save(folder / "annotations" / "instances.json", coco(SIZE, [SQUARE])).parent.parent
    if kind == "labelme":
        value = labelme(SIZE, {"points": corners.tolist()}) | {"imagePath": "..\\images\\part.png"}
        return save(folder / "shapes.json", value)
    if kind == "cvat":
        points = ";".join(f"{x},{y}" for x, y in corners)
        return save(folder / "annotations.xml", cvat(SIZE, f'<polygon label="Scratch" points="{points}"/>'))
    return save(folder / "export.json", label_studio(SIZE, "polygonlabels", {"points": percent}))


@pytest.mark.parametrize("kind", ["coco", "labelme", "cvat", "label-studio", "yolo-seg", "voc"])
def test_an_export_is_detected_and_its_masks_are_those_that_were_drawn(kind: str, tmp_path: Path) -> None:
    path = exported(kind, tmp_path / "export")
    done = import_any(path, tmp_path / "data")
    assert (done.source, done.defect, done.unused) == (kind, {"Scratch": 1}, [])
    assert (read_mask(tmp_path / "data/Scratch/GT/part.png") == BLOCK).all()
    assert (tmp_path / "data/Scratch/Images/part.jpg").is_file()
    (row,) = read_sources(tmp_path / "data").values()
    assert row["source_path"].endswith(("part.png", "part.jpg"))
    again = import_any(path, tmp_path / "data", kind)
    assert again.defect == done.defect
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "export"]


def made(folder: Path, *images: tuple[str, dict[str, np.ndarray]]) -> Path:
    """A COCO export of images with masks by class."""
    annotated = [
        AnnotatedImage(name, SIZE, tuple(Region(cls, mask) for cls, mask in marked.items()))
        for name, marked in images
    ]
    for seed, one in enumerate(annotated):
        grey(folder / one.image, SIZE[1], SIZE[0], seed)
    classes = sorted({region.name for one in annotated for region in one.regions})
    return save(folder / "instances.json", writer.instances(annotated, classes))


def test_an_archive_with_a_folder_in_it_and_images_of_the_same_name(tmp_path: Path) -> None:
    images = [(f"{part}/{n}.png", {cls: BLOCK}) for n, part, cls in
              ((1, "a", "Scratch"), (1, "b", "Scratch"), (2, "a", "Dent"), (3, "b", "Pit"))]  # fmt: skip
    made(tmp_path / "task" / "export", *images, ("a/clean.png", {}))
    archive = shutil.make_archive(str(tmp_path / "task"), "zip", tmp_path / "task")
    for kind in (None, "coco"):
        done = import_any(Path(archive), tmp_path / "data", kind)
        assert done.defect == {"Scratch": 2, "Dent": 1, "Pit": 1}
    assert done.unused == ["a/clean.png"]
    assert {one.name for one in (tmp_path / "data/Scratch/Images").iterdir()} == {"a_1.jpg", "b_1.jpg"}
    dataset = read_dataset(tmp_path / "data")
    assert dataset is not None
    assert sorted(map(len, dataset.folds)) == [1, 1, 1]
    catalog = build_catalog(tmp_path / "data", tmp_path / "catalog.parquet")
    assert len(catalog) == 4


def test_an_image_of_several_classes_is_an_entry_of_each_in_one_group_and_one_fold(tmp_path: Path) -> None:
    images = [("p/a.png", {"Scratch": BLOCK, "Dent": OTHER}), ("b.png", {"Dent": OTHER}),
              ("c.png", {"Pit": BLOCK}), ("d.png", {"Stain": BLOCK})]  # fmt: skip
    done = import_any(made(tmp_path / "in", *images), tmp_path / "data")
    assert done.defect == {"Scratch": 1, "Dent": 2, "Pit": 1, "Stain": 1}
    assert (read_mask(tmp_path / "data/Scratch/GT/a.png") == BLOCK).all()
    assert (read_mask(tmp_path / "data/Dent/GT/a.png") == OTHER).all()
    rows = read_sources(tmp_path / "data")
    entries = [rows[f"{cls}/Images/a.jpg"] for cls in ("Scratch", "Dent")]
    assert {(row["group_id"], row["source_path"]) for row in entries} == {("p/a.png", "p/a.png")}
    assert rows["Dent/Images/b.jpg"]["group_id"] == ""
    assert done.folds == [["Dent", "Scratch"], ["Pit"], ["Stain"]]
    catalog = build_catalog(tmp_path / "data", tmp_path / "catalog.parquet")
    twins = with_twins(catalog, 0)
    assert twins["same_file_as"].isna().all()
    left_out = {fold_of(group, 4) for group in twins["group"] if group.endswith("a.png")}
    assert left_out == {fold_of("p/a.png", 4)}
    moved = catalog.assign(fold=catalog["fold"].where(catalog["cls"] != "Scratch", 2))
    unnamed = catalog.assign(group=catalog["group"].str.replace("p/a.png", "a"))
    for other in (moved, unnamed):  # of different folds; or in one by chance, of no named part
        twins = with_twins(other, 0).set_index("image")
        assert twins.loc["Dent/Images/a.jpg", "same_file_as"] == "Scratch/Images/a.jpg"
        assert twins.loc["Scratch/Images/a.jpg", "near_elsewhere"] == "Dent/Images/a.jpg"


def test_classes_that_have_images_in_common_are_never_torn_apart(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("a.png", {"Scratch": BLOCK, "Dent": OTHER}), ("b.png", {"Pit": OTHER}))
    folds = save(tmp_path / "folds.yaml", "[[Scratch], [Dent], [Pit]]")
    with pytest.raises(DataError, match=r"classes Dent \(fold 1\), Scratch \(fold 0\) have images in common"):
        import_any(path, tmp_path / "data", folds=folds)
    assert not (tmp_path / "data").exists()


def test_classes_are_chosen_or_joined(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("a.png", {"Scratch": BLOCK, "Dent": OTHER}), ("b.png", {"Dent": OTHER}))
    chosen = import_any(path, tmp_path / "one", only=["Scratch"])
    assert (chosen.defect, chosen.unused) == ({"Scratch": 1}, ["b.png"])
    assert (read_mask(tmp_path / "one/Scratch/GT/a.png") == BLOCK).all()
    joined = import_any(path, tmp_path / "all", joined="Defect")
    assert joined.defect == {"Defect": 2}
    assert (read_mask(tmp_path / "all/Defect/GT/a.png") == BLOCK | OTHER).all()
    with pytest.raises(DataError, match="class 'Pit': marks nothing in"):
        import_any(path, tmp_path / "data", only=["Pit", "Dent"])


def test_pixels_to_ignore_are_kept_as_such(tmp_path: Path) -> None:
    path = exported("voc", tmp_path / "export")
    voc(path, BLOCK * 1 + OTHER * 255)
    with pytest.raises(DataError, match="--ignore and --inverted are for masks"):
        import_any(path, tmp_path / "data", reading=Reading(ignore="255"))
    import_any(path, tmp_path / "data")
    marks = read_marks(tmp_path / "data/Scratch/GT/part.png")
    assert ((marks > 0) == BLOCK).all()
    assert ((marks == IGNORED) == OTHER).all()
    again = import_any(tmp_path / "data", tmp_path / "again")
    assert again.defect == {"Scratch": 1}
    assert (read_marks(tmp_path / "again/Scratch/GT/part.png") == marks).all()


def test_a_mask_of_another_size_is_told_by_its_entry(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("a.png", {"Scratch": BLOCK}))
    grey(tmp_path / "in" / "a.png", 41, 30)
    with pytest.raises(
        DataError,
        match=r"instances.json: images\[0\]: what it marks as Scratch: 40 x 30 pixels, its image .*a.png 41 x 30",
    ):
        import_any(path, tmp_path / "data")
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_a_mask_drawn_on_a_turned_photo_is_turned_with_it(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("a.jpg", {"Scratch": BLOCK}))
    exif = Image.Exif()
    exif[274] = 6  # shown upright it is 30 wide and 40 high
    with Image.open(tmp_path / "in" / "a.jpg") as image:
        image.save(tmp_path / "in" / "a.jpg", exif=exif)
    import_any(path, tmp_path / "data")
    assert (read_mask(tmp_path / "data/Scratch/GT/a.png") == np.rot90(BLOCK, -1)).all()


def test_missing_and_doubtful_images_are_named_all_of_them(tmp_path: Path) -> None:
    path = made(tmp_path / "in", *((f"{name}.png", {"Scratch": BLOCK}) for name in "abc"))
    (tmp_path / "in" / "a.png").unlink()
    for part in ("x", "y"):
        grey(tmp_path / "in" / part / "b.png", 40, 30)
    (tmp_path / "in" / "b.png").unlink()
    with pytest.raises(DataError) as refused:
        import_any(path, tmp_path / "data")
    assert "images[0]: its image 'a.png' is missing" in str(refused.value)
    assert "images[1]: its image 'b.png' may be x/b.png or y/b.png" in str(refused.value)
    assert "2 files" in str(refused.value)


def test_two_entries_of_one_image_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("a.png", {"Scratch": BLOCK}))
    shutil.copy(path, path.with_name("more.json"))
    with pytest.raises(DataError, match=r"a.png is annotated twice, by .*instances.json"):
        import_any(path.parent, tmp_path / "data")


def test_one_file_that_two_names_may_mean_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "in", ("line1/a.png", {"Scratch": BLOCK}), ("line2/a.png", {}))
    (tmp_path / "in" / "line1" / "a.png").unlink()
    with pytest.raises(DataError, match=r"'line1/a.png' and 'line2/a.png' may both mean line2/a.png"):
        import_any(path, tmp_path / "data")


def test_shares_of_a_photo_that_exif_turns_are_refused(tmp_path: Path) -> None:
    given = exported("yolo-seg", tmp_path / "in")
    (photo,) = (tmp_path / "in").rglob("part.*g")
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(photo) as image:
        image.save(photo, exif=exif)
    with pytest.raises(DataError, match="EXIF turns it"):
        import_any(given, tmp_path / "data")


def test_options_of_exports_need_one_and_masks_options_say_nothing_of_them(tmp_path: Path) -> None:
    grey(tmp_path / "in" / "Scratch" / "Images" / "a.png", 40, 30)
    with pytest.raises(DataError, match="no export of an annotation tool"):
        import_any(tmp_path / "in", tmp_path / "data", only=["Scratch"])
    with pytest.raises(DataError, match=r"notes.json: no export"):
        import_any(save(tmp_path / "notes.json", {}), tmp_path / "data")
    path = made(tmp_path / "coco", ("a.png", {"Scratch": BLOCK}))
    with pytest.raises(DataError, match="--label, --ignore and --inverted are for masks"):
        import_any(path, tmp_path / "data", reading=Reading(label="1"))
    empty = made(tmp_path / "empty", ("a.png", {}))
    with pytest.raises(DataError, match="marks nothing"):
        import_any(empty, tmp_path / "data")


def test_a_canonical_folder_with_an_export_in_it_stays_canonical(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "instances.json", coco(SIZE, [SQUARE]))
    grey(folder / "Scratch" / "Images" / "a.png", 40, 30)
    (folder / "Scratch" / "GT").mkdir()
    Image.fromarray(BLOCK.astype(np.uint8) * 255).save(folder / "Scratch" / "GT" / "a.png")
    assert import_any(folder, tmp_path / "data").source == "canonical"


def test_on_the_command_line(tmp_path: Path) -> None:
    from lerenet.cli.main import app

    path = made(tmp_path / "in", ("a.png", {"Scratch": BLOCK, "Dent": OTHER}), ("b.png", {}))
    words = ["data", "import", str(path), "--data", str(tmp_path / "data"), "--class", "Dent", "--as", "Bump"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "Bump" in done.output
    assert "b.png" in done.output
    assert (read_mask(tmp_path / "data/Bump/GT/a.png") == OTHER).all()


@given(st.lists(st.sampled_from(["a", "b", "images", "part.png"]), min_size=1, max_size=4))
def test_an_image_is_found_by_the_end_of_its_path(parts: list[str]) -> None:
    name = "/".join([*parts[:-1], "x.png"])
    images = Images([name, "labels/y.png", "SegmentationClass/x.png"])
    for asked in (name, f"/home/me/{name}", f"C:\\data\\{name}", "x", "1a2b3c4d-x.png"):
        assert images.find(asked) == [name]
    assert images.find("z.png") == []
