"""YAML from outside: no key is lost, no alias multiplies, nothing large is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lerenet.errors import DataError, ParamsError
from lerenet.params import load_params
from lerenet.yaml_file import parse_yaml, read_yaml

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' is there twice, in lines 1 and 3"),
        ("x: {a: 1, a: 2}\n", "key 'a' is there twice"),
        (BOMB, "line 2: an alias"),
        ("a: [", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("# " + "x" * 1_000_001, "1.0 MB of YAML"),
    ],
)
def test_what_others_send_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(DataError, match=words) as error:
        read_yaml(tmp_path / "d.yaml")
    assert "d.yaml" in str(error.value)


def test_plain_yaml_is_read_as_always() -> None:
    text = "name: x\nfolds:\n- [A, B]\n- []\n- [C]\nlicence: ''\n"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_key_twice_in_params_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nimage_size: 200\nseed: 2\n")
    with pytest.raises(ParamsError, match="key 'seed' is there twice, in lines 1 and 3"):
        load_params(path)
    path.write_text("train: &t {epochs: 2}\nseed: 3\n")
    assert load_params(path).seed == 3
