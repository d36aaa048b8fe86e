"""Overrides of keys that hold text: what stands behind the `=` is the text, whatever it is."""

from pathlib import Path

import pytest
import yaml

from alignctl.config.load import apply_overrides, load_study, to_yaml, validate_study
from alignctl.errors import ConfigError

AWKWARD = [
    "set #2", "#2", "123", "1e3", "0x10", "true", "no", "2024-13-01", "a: b", "a:", "- a", "-", "?",
    "[a]", "[a", "{a: b}", "{{a}}", "*x", "&x", "%x", "!tag x", "!!python/name:os.system", "@x",
    "`x`", "|", ">", ",", "it's", 'two "words" here', "'a'b'", '"a" # "b"', "a\tb", "a\nb", "ends ",
    "k=v", "é", "类", "data\udcff", ".", "..", "null", "~x y",
]  # fmt: skip


@pytest.mark.parametrize("text", AWKWARD)
def test_a_path_is_the_text_as_it_stands(text, tmp_path):
    path = tmp_path / text
    changes = ["dataset.name=image_folder", f"dataset.path={path}", f"encoder.weights={path}"]
    study = load_study("digits", changes)
    assert (study.dataset.path, study.encoder.weights) == (path, path)
    assert validate_study(yaml.safe_load(to_yaml(study)), "here") == study


@pytest.mark.parametrize("text", [text for text in AWKWARD if text not in (".", "..", "null")])
def test_a_relative_path_is_the_text_as_it_stands(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study("digits", ["dataset.name=parquet", f"dataset.path={text}"])
    assert study.dataset.path == tmp_path / text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=123", "123"),
        ("name=true", "true"),
        ("encoder.model=1e3", "1e3"),
        ("dataset.revision=1234567", "1234567"),
        ("dataset.path=owner/set #2", "owner/set #2"),
        ("dataset.train_split=train[:50%]", "train[:50%]"),
        ("dataset.label_column=a: b", "a: b"),
        ("training.precision=bfloat16", "bfloat16"),
    ],
)
def test_every_key_that_holds_text_takes_it_literally(override, value):
    chosen = ["dataset.name=tiny_imagenet", "encoder={name: timm, model: x}"]
    study = load_study("digits", [*chosen, override])
    found = study
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == value


@pytest.mark.parametrize("text", ["null", "", " "])
def test_optional_text_may_be_none(values, text):
    values["encoder"]["weights"] = "weights.pth"
    assert apply_overrides(values, [f"encoder.weights={text}"])["encoder"]["weights"] is None


@pytest.mark.parametrize(("name", "found"), [("parquet", "null"), ("huggingface", None)])
def test_null_is_text_where_the_chosen_dataset_needs_some(values, name, found):
    values["dataset"] = {"name": name, "path": "x"}
    assert apply_overrides(values, ["dataset.path=null"])["dataset"]["path"] == found


@pytest.mark.parametrize("text", ["", "  "])
def test_a_path_that_is_needed_is_not_the_working_directory_where_it_is_empty(text):
    with pytest.raises(ConfigError, match=r"dataset\.path: "):
        load_study("digits", ["dataset.name=parquet", f"dataset.path={text}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a b'", "a b"),
        ('"a #2"', "a #2"),
        ("'it''s'", "it's"),
        (r'"tab\t"', "tab\t"),
        ('"null"', "null"),
        ("'open", "'open"),
        ('"', '"'),
        (r'"C:\data"', r'"C:\data"'),
    ],
)
def test_quotes_around_the_whole_value_are_those_of_yaml(values, text, value):
    changed = apply_overrides(values, [f"encoder.weights={text}"])
    assert changed["encoder"]["weights"] == value


def test_spaces_around_the_equals_sign_are_no_text(values):
    changed = apply_overrides(values, ["encoder.weights = a #b "])
    assert changed["encoder"]["weights"] == "a #b "


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.clip_norm=null", None),
        ("dataset.classes=[cat, 3] # two", ["cat", 3]),
        ("objectives=[cl, {name: nscl}]", ["cl", {"name": "nscl"}]),
        ("schedule=\n  unit: step\n  warmup_epochs: 1", {"unit": "step", "warmup_epochs": 1}),
        ("dataset={name: parquet, path: 'a #b'}", {"name": "parquet", "path": "a #b"}),
    ],
)
def test_all_other_keys_are_yaml(values, override, value):
    *parents, last = override.partition("=")[0].split(".")
    found = apply_overrides(values, [override])
    for key in parents:
        found = found[key]
    assert found[last] == value


@pytest.mark.parametrize("path", ["~/sets #2", "~"])
def test_a_tilde_is_the_home_folder(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    study = load_study("digits", ["dataset.name=parquet", f"dataset.path={path}"])
    assert study.dataset.path == Path(str(tmp_path) + path[1:])


def test_the_home_of_nobody_is_a_plain_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study("digits", ["encoder.weights=~nobody-of-this-name/x"])
    assert study.encoder.weights == tmp_path / "~nobody-of-this-name/x"


def test_a_path_with_a_null_character_names_its_key():
    changes = ["dataset.name=parquet", 'dataset.path="a\\0b"']
    with pytest.raises(ConfigError, match=r"dataset\.path: holds a null character"):
        load_study("digits", changes)


def test_a_config_of_the_original_takes_paths_literally_too(tmp_path, original):
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(original))
    study = load_study(str(file), [f"dataset.path={tmp_path}/set #2"])
    assert study.dataset.path == tmp_path / "set #2"
