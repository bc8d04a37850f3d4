"""Layouts as sites ship them: every image is used, left out by a rule, or named; a mask is never an image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lerenet.cli.data import app
from lerenet.data.importing.discover import guess_source
from lerenet.data.importing.importer import import_dataset
from lerenet.data.importing.known_layouts import REGISTRY, find_source
from lerenet.data.importing.layouts import Rule
from lerenet.data.importing.tree import look
from lerenet.data.masks import read_mask
from lerenet.data.reading import Reading
from lerenet.errors import DataError
from tests.helpers.import_sources import mask, names, pair, picture, spec

Make = Callable[[Path], object]


def magnetic_tile(folder: Path) -> None:
    picture(folder / "MT_Break" / "Imgs" / "exp1_num_1.JPG")
    mask(folder / "MT_Break" / "Imgs" / "exp1_num_1.bmp")
    picture(folder / "MT_Free" / "Imgs" / "exp1_num_9.jpg", 1)
    mask(folder / "MT_Free" / "Imgs" / "exp1_num_9.png", defect=False)


def mvtec_ad(folder: Path) -> None:
    picture(folder / "bolt" / "test" / "bent" / "000.jpg")
    mask(folder / "bolt" / "ground_truth" / "bent" / "000_mask.bmp")
    picture(folder / "bolt" / "test" / "good" / "000.JPG", 1)
    picture(folder / "bolt" / "train" / "good" / "000.png", 2)


def mvtec_loco(folder: Path) -> None:
    picture(folder / "juice" / "test" / "logical" / "000.png")
    mask(folder / "juice" / "ground_truth" / "logical" / "000" / "000.png", value=254)
    mask(folder / "juice" / "ground_truth" / "logical" / "000" / "001.png", value=253, row=20)
    for seed, part in enumerate(("test", "train", "validation")):
        picture(folder / "juice" / part / "good" / "000.png", seed + 1)


def visa(folder: Path) -> None:
    picture(folder / "pcb1" / "Data" / "Images" / "Anomaly" / "000.JPG")
    mask(folder / "pcb1" / "Data" / "Masks" / "Anomaly" / "000.png", value=3)
    picture(folder / "pcb1" / "Data" / "Images" / "Normal" / "0000.JPG", 1)


def kolektor_sdd(folder: Path) -> None:
    for part, defect in ((0, False), (1, True)):
        picture(folder / "kos01" / f"Part{part}.png", part)
        mask(folder / "kos01" / f"Part{part}_label.png", defect)


def kolektor_sdd2(folder: Path) -> None:
    for number, defect in ((1, True), (2, False)):
        picture(folder / "train" / f"{number}.png", number)
        mask(folder / "train" / f"{number}_GT.png", defect)


def dagm(folder: Path) -> None:
    for number in (1, 2):
        picture(folder / "Class3" / "Train" / f"000{number}.PNG", number, mode="L")
    mask(folder / "Class3" / "Train" / "Label" / "0001_label.PNG")
    (folder / "Class3" / "Train" / "Label" / "Labels.txt").write_text("1")


def sd_saliency_900(folder: Path) -> None:
    picture(folder / "Source Images" / "Pa_7.png")
    mask(folder / "Ground truth" / "Pa_7.bmp")
    picture(folder / "Source Images" / "Xx_7.bmp")
    mask(folder / "Ground truth" / "Xx_7.png")


@pytest.mark.parametrize(
    ("make", "name", "cls", "clean"),
    [
        (magnetic_tile, "magnetic-tile", "MT_Break", 1),
        (mvtec_ad, "mvtec-ad", "bolt", 1),
        (mvtec_loco, "mvtec-loco", "juice", 1),
        (visa, "visa", "pcb1", 1),
        (kolektor_sdd, "kolektor-sdd", "KSDD", 1),
        (kolektor_sdd2, "kolektor-sdd2", "KSDD2", 1),
        (dagm, "dagm", "DAGM_Class3", 1),
        (sd_saliency_900, "sd-saliency-900", "Steel_Pa", 0),
    ],
)
def test_each_known_layout_is_guessed_whatever_its_suffixes_and_explains_every_file(
    tmp_path: Path, make: Make, name: str, cls: str, clean: int
) -> None:
    make(tmp_path / "in")
    done = import_dataset(tmp_path / "in", tmp_path / "data")
    assert (done.source, done.defect, done.clean[cls]) == (name, {cls: 1}, clean)
    assert done.unused == []


def test_every_entry_of_the_registry_has_a_test() -> None:
    assert {source.name for source in REGISTRY} - {"canonical"} == {
        "magnetic-tile", "mvtec-ad", "mvtec-loco", "visa", "kolektor-sdd", "kolektor-sdd2", "dagm", "sd-saliency-900"
    }  # fmt: skip
    assert find_source("visa").licence


def test_the_masks_of_one_image_are_joined_whatever_their_values(tmp_path: Path) -> None:
    mvtec_loco(tmp_path / "in")
    import_dataset(tmp_path / "in", tmp_path / "data")
    found = read_mask(tmp_path / "data" / "juice" / "GT" / "juice_logical_000.png")
    assert found[7, 10]
    assert found[22, 10]
    assert found.sum() == 2 * 7 * 15


def test_what_no_rule_names_is_told_and_what_a_rule_leaves_out_is_not(tmp_path: Path) -> None:
    mvtec_ad(tmp_path / "in")
    picture(tmp_path / "in" / "bolt" / "extra" / "1.png")
    mask(tmp_path / "in" / "bolt" / "ground_truth" / "bent" / "001_mask.png")
    (tmp_path / "in" / "bolt" / "test" / "bent" / "002.heic").write_bytes(b"x")
    (tmp_path / "in" / "readme.txt").write_text("x")
    told = ["bolt/extra/1.png", "bolt/ground_truth/bent/001_mask.png", "bolt/test/bent/002.heic"]
    done = CliRunner().invoke(app, ["import", str(tmp_path / "in"), "--data", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert "left out, as mvtec-ad has no rule for them: 3 image files" in done.output
    assert [line.strip() for line in done.output.splitlines() if line.startswith("  bolt")] == told


@pytest.mark.parametrize(
    "name", ["C/Images/a.gif", "C/a.png", "C/Good/a.png", "top.jpg", "C/Images/more/a.png"]
)
def test_an_image_where_the_canonical_layout_has_none_is_refused(tmp_path: Path, name: str) -> None:
    pair(tmp_path / "in", "C", "a")
    picture(tmp_path / "in" / name)
    with pytest.raises(DataError, match=Path(name).name):
        import_dataset(tmp_path / "in", tmp_path / "data")


BESIDE = {"images": "{split}/{id}.png", "mask": "{split}/{id}_GT.png", "cls": "K", "stem": "{split}_{id}"}


def test_masks_beside_their_images_with_the_same_suffix_are_no_images(tmp_path: Path) -> None:
    kolektor_sdd2(tmp_path / "in")
    mask(tmp_path / "in" / "train" / "9_GT.png")  # its image is lost
    own = spec(tmp_path / "own.yaml", {**BESIDE, "empty_is_clean": True})
    done = import_dataset(tmp_path / "in", tmp_path / "data", spec=own)
    assert names(tmp_path / "data") == ["K/GT/train_1.png", "K/Images/train_1.jpg", "K/Nd/train_2.jpg"]
    assert done.unused == ["train/9_GT.png"]


def test_an_image_without_a_mask_file_is_clean_only_where_the_spec_says_so(tmp_path: Path) -> None:
    dagm(tmp_path / "in")
    mask(tmp_path / "in" / "Class3" / "Train" / "Label" / "0009_label.PNG")  # its image is lost
    rule = {
        "images": "{cls}/{split}/{id}.PNG",
        "mask": "{cls}/{split}/Label/{id}_label.PNG",
        "stem": "{split}_{id}",
    }
    with pytest.raises(DataError, match=r"0002_label\.PNG is missing"):
        import_dataset(tmp_path / "in", tmp_path / "data", spec=spec(tmp_path / "own.yaml", rule))
    own = spec(tmp_path / "own.yaml", {**rule, "no_mask_is_clean": True})
    done = import_dataset(tmp_path / "in", tmp_path / "data", spec=own)
    assert (done.defect, done.clean) == ({"Class3": 1}, {"Class3": 1})
    assert done.unused == ["Class3/Train/Label/0009_label.PNG"]


def test_values_are_left_out_by_pattern_and_files_are_ignored_on_purpose(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "in" / "rust" / f"{number}.png", number)
        mask(tmp_path / "in" / "rust" / f"{number}_m.png")
        picture(tmp_path / "in" / "rust" / f"{number}_small.png", number)
    rule = {"images": "{cls}/{id}.png", "mask": "{cls}/{id}_m.png", "exclude_pattern": {"id": r"2|\d_s.*"}}
    done = import_dataset(tmp_path / "in", tmp_path / "data", spec=spec(tmp_path / "own.yaml", rule))
    assert (done.defect, done.unused) == ({"rust": 2}, [])
    rule["exclude"] = {"id": ["2"]}
    del rule["exclude_pattern"]
    own = spec(tmp_path / "own.yaml", rule, ignore=["{cls}/{id}_small.*"])
    done = import_dataset(tmp_path / "in", tmp_path / "data", spec=own)
    assert (done.defect, done.unused) == ({"rust": 2}, [])


def test_two_masks_where_one_is_expected_and_one_image_of_two_rules_are_refused(tmp_path: Path) -> None:
    pair(tmp_path / "in", "C", "a")
    mask(tmp_path / "in" / "C" / "GT" / "a.bmp")
    with pytest.raises(DataError, match=r"a.jpg: 2 masks, a.bmp and a.png"):
        import_dataset(tmp_path / "in", tmp_path / "data")
    picture(tmp_path / "two" / "C" / "good" / "a.png")
    rules = [{"images": "{cls}/{id}.png"}, {"images": "{cls}/good/{id}.png"}]
    with pytest.raises(DataError, match=r"good/a.png: found by .* exclude"):
        import_dataset(tmp_path / "two", tmp_path / "data", spec=spec(tmp_path / "own.yaml", *rules))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"label": None}, r"rules\.0\.label.*quotes"),
        ({"label": "reddish"}, "reddish"),
        ({"drawn_on": "paper"}, "drawn_on 'paper'"),
        ({"exclude_pattern": {"id": "("}}, r"'\(' is no regular expression"),
        ({"exclude_pattern": {"nr": "1"}}, "piece 'nr'"),
        ({"mask": "{cls}/*/{id}.png"}, "not in a folder's"),
        ({"stem": ""}, r"rules\.0\.stem"),
    ],
)
def test_a_field_of_a_spec_that_can_t_be_is_named(
    tmp_path: Path, field: dict[str, object], expected: str
) -> None:
    picture(tmp_path / "in" / "a" / "1.png")
    own = spec(tmp_path / "own.yaml", {"images": "{cls}/{id}.png", **field})
    with pytest.raises(DataError, match=expected):
        import_dataset(tmp_path / "in", tmp_path / "data", spec=own)


def test_a_spec_with_a_key_twice_or_an_alias_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a" / "1.png")
    for text in ("name: own\nname: other\nrules: []\n", "name: &n own\nrules: [*n]\n"):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(DataError, match=r"own\.yaml"):
            import_dataset(tmp_path / "in", tmp_path / "data", spec=tmp_path / "own.yaml")


def test_what_the_command_says_of_the_files_goes_before_what_the_rule_says(tmp_path: Path) -> None:
    rule = Rule(images="{cls}/{id}.png", label=1, inverted=True)  # type: ignore[arg-type]
    assert rule.read_as() == Reading(label="1", inverted=True)
    assert rule.read_as(Reading(bits=12, label="#FF0000")) == Reading(12, "#ff0000", inverted=True)


@pytest.mark.parametrize(("option", "rows"), [("2", [21]), ("any", [7, 21])])
def test_a_label_is_chosen_on_the_command_line(tmp_path: Path, option: str, rows: list[int]) -> None:
    pair(tmp_path / "in", "Rust", "a")
    values = np.zeros((30, 40), np.uint8)
    values[5:12, 5:20], values[20:27, 5:20] = 1, 2
    Image.fromarray(values).save(tmp_path / "in" / "Rust" / "GT" / "a.png")
    line = ["import", str(tmp_path / "in"), "--data", str(tmp_path / "data")]
    refused = CliRunner().invoke(app, line)
    assert isinstance(refused.exception, DataError)
    assert "--label" in str(refused.exception)
    done = CliRunner().invoke(app, [*line, "--label", option])
    assert done.exit_code == 0, done.output
    found = read_mask(tmp_path / "data" / "Rust" / "GT" / "a.png")
    assert [row for row in (7, 21) if found[row, 10]] == rows


def test_a_mask_of_another_label_makes_no_clean_image(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "kos01" / "Part0.jpg")
    mask(tmp_path / "in" / "kos01" / "Part0_label.png", value=1)
    with pytest.raises(DataError, match=r"Part0_label\.png"):
        import_dataset(tmp_path / "in", tmp_path / "data", reading=Reading(label="2"))


def test_a_mask_of_several_labels_makes_no_clean_image_where_empty_ones_do(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "kos01" / "Part0.jpg")
    labels = mask(tmp_path / "in" / "kos01" / "Part0_label.png", value=1)
    with Image.open(labels) as image:
        values = np.asarray(image).copy()
    values[20:27] = 2
    Image.fromarray(values).save(labels)
    with pytest.raises(DataError, match=r"Part0_label\.png: several labels"):
        import_dataset(tmp_path / "in", tmp_path / "data")


def test_a_mask_may_differ_from_its_image_by_the_suffix_alone_which_matches_in_every_form(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "in" / "c" / "1.JPEG")
    mask(tmp_path / "in" / "c" / "1.TIFF")
    for images in ("{cls}/{id}.*", "{cls}/{id}.jpg"):
        own = spec(tmp_path / "own.yaml", {"images": images, "mask": "{cls}/{id}.tif"})
        done = import_dataset(tmp_path / "in", tmp_path / "data", spec=own)
        assert (done.defect, done.unused) == ({"c": 1}, [])


def test_links_to_folders_are_followed_once_and_dangling_ones_refused(tmp_path: Path) -> None:
    pair(tmp_path / "in", "Rust", "a")
    pair(tmp_path / "else", "Dent", "b")
    (tmp_path / "in" / "Dent").symlink_to("../else/Dent")
    (tmp_path / "in" / "Rust" / "Images" / "round").symlink_to("../..")
    assert import_dataset(tmp_path / "in", tmp_path / "data").defect == {"Rust": 1, "Dent": 1}
    for name in ("Rust/Nd", "Chip"):
        lost = tmp_path / "in" / name
        lost.symlink_to("/nowhere/at/all")
        with pytest.raises(DataError, match=f"{lost}: a link to nothing"):
            import_dataset(tmp_path / "in", tmp_path / "data")
        lost.unlink()
    (tmp_path / "in" / "Scratch").symlink_to("Rust")
    with pytest.raises(DataError, match=r"Scratch: leads to .*Rust, which is listed already"):
        import_dataset(tmp_path / "in", tmp_path / "data")
    (tmp_path / "in" / "Scratch").unlink()
    os.mkfifo(tmp_path / "in" / "Rust" / "Images" / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: no plain file"):
        import_dataset(tmp_path / "in", tmp_path / "data")


def test_a_table_in_a_top_folder_leaves_no_image_outside_unread(tmp_path: Path) -> None:
    pair(tmp_path / "in" / "backup", "Rust", "a")
    (tmp_path / "in" / "backup" / "sources.csv").write_text("file,group_id\nRust/Images/a.jpg,p1\n")
    import_dataset(tmp_path / "in", tmp_path / "data")
    assert "p1" in (tmp_path / "data" / "sources.csv").read_text()
    pair(tmp_path / "in", "Dent", "b")
    with pytest.raises(DataError, match=r"backup/sources\.csv: only a table beside the class folders"):
        import_dataset(tmp_path / "in", tmp_path / "data")


def test_a_layout_is_not_guessed_from_images_whose_masks_are_not_there(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "train" / "1.png")
    with pytest.raises(DataError, match="no data set of a known layout"):
        guess_source(look(tmp_path / "in"), tmp_path / "in")
