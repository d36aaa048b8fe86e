import re
from pathlib import Path

import pytest
import yaml

from alignctl.config.load import (
    apply_overrides,
    config_folder,
    find_config,
    first_difference,
    load_study,
    parse_yaml,
    study_names,
    to_yaml,
    validate_study,
)
from alignctl.errors import ConfigError
from alignctl.original.translation import translate


def refused(error: pytest.ExceptionInfo[ConfigError]) -> str:
    """The message, which is one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-2.5e-1", -0.25), ("+1e2", 100.0), ("0.1", 0.1), ("3", 3)],
)
def test_numbers_with_an_exponent_are_numbers(text, value):
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["1e", "e5", "1e-3x", "resnet18"])
def test_words_that_look_like_exponents_stay_text(text):
    assert parse_yaml(text, "here") == text


def test_a_key_that_stands_twice_is_named_with_its_line():
    with pytest.raises(ConfigError) as error:
        parse_yaml("seed: 1\ntraining:\n  epochs: 1\n  epochs: 2\n", "study.yaml")
    assert refused(error) == "study.yaml, line 4: not valid YAML: the key 'epochs' stands twice"


def test_the_same_key_in_two_mappings_is_fine():
    assert parse_yaml("a: {name: x}\nb: {name: y}\n", "here") == {
        "a": {"name": "x"},
        "b": {"name": "y"},
    }


def test_merged_keys_may_be_overridden():
    text = "base: &base {epochs: 1, seed: 2}\nmine:\n  <<: *base\n  epochs: 3\n"
    assert parse_yaml(text, "here")["mine"] == {"epochs": 3, "seed": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", r"^here, line 1: not valid YAML"),
        ("a: 1\nb: 2\n  c: 3\n", r"^here, line 3: not valid YAML"),
        ("a: 1\n? [b]\n: 2\n", r"^here, line 2: not valid YAML: found unhashable key$"),
        ("{{placeholder}}", r"^here, line 1: not valid YAML: found unhashable key$"),
        ("a: 2024-13-01", r"^here: not valid YAML: month must be in 1..12$"),
        ("a: \0", r"^here: not valid YAML: unacceptable character #x0000"),
        ("a: !!python/object:os.system {}", r"^here, line 1: not valid YAML"),
    ],
)
def test_unreadable_yaml_is_one_line_with_its_place(text, message):
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "here")
    assert re.search(message, refused(error))


@pytest.mark.parametrize("name", study_names())
def test_every_ready_made_study_is_valid_and_named_after_its_file(name):
    assert load_study(name).name == name


def test_digits_is_the_study_without_a_choice():
    assert load_study() == load_study("digits")
    assert find_config("digits") == config_folder() / "digits.yaml"


def test_a_file_is_found_by_its_path(tmp_path, values):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    assert find_config(str(path)) == path
    assert load_study(str(path)).name == "tiny"


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("")
    assert find_config("~/mine.yaml") == tmp_path / "mine.yaml"


@pytest.mark.parametrize("source", ["missing.yaml", "missing.yml", "folder/missing", "./digits"])
def test_a_path_that_is_not_there_is_no_such_file(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_config(source)
    assert refused(error) == f"{source}: no such file"


def test_an_unknown_study_name_names_the_nearest_one_and_all_there_are():
    with pytest.raises(ConfigError) as error:
        find_config("digts")
    message = refused(error)
    assert message.startswith("digts: neither a file nor a ready-made study")
    assert "did you mean 'digits'?" in message
    assert all(name in message for name in study_names())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a study is a mapping of keys, not NoneType"),
        (b"- cl\n- nscl\n", "a study is a mapping of keys, not list"),
        (b"\xff\xfe\xff", "cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_holds_no_study_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {message}")) as error:
        load_study(str(path))
    refused(error)


def test_an_error_in_a_file_names_the_file_and_the_key(tmp_path, values):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, "temprature": 1}))
    with pytest.raises(ConfigError) as error:
        load_study(str(path))
    assert refused(error).startswith("mine.yaml: temprature: unknown key; did you mean")


def test_overrides_reach_nested_keys_and_leave_the_rest(values):
    changed = apply_overrides(values, ["training.epochs=5", "temperature=0.1", "seed=7"])
    expected = {
        **values,
        "training": {**values["training"], "epochs": 5},
        "temperature": 0.1,
        "seed": 7,
    }
    assert changed == expected


def test_overrides_do_not_change_the_values_they_are_applied_to(values):
    before = yaml.safe_dump(values)
    apply_overrides(values, ["training.epochs=5", "encoder.name=resnet50", "new.key=1"])
    assert yaml.safe_dump(values) == before


def test_override_values_are_read_as_yaml_and_split_at_the_first_equals_sign(values):
    texts = ["objectives=[cl, {name: nscl, positive_in_denominator: false}]", "dataset.path=/a=b"]
    changed = apply_overrides(values, [*texts, "checkpoint_epochs=null", "training.x=1e-3"])
    assert changed["objectives"] == ["cl", {"name": "nscl", "positive_in_denominator": False}]
    assert changed["dataset"]["path"] == "/a=b"
    assert changed["checkpoint_epochs"] is None
    assert changed["training"]["x"] == 0.001


def test_the_last_of_two_overrides_of_one_key_wins(values):
    assert apply_overrides(values, ["seed=1", "seed=2"])["seed"] == 2


def test_an_override_may_open_a_mapping_that_the_file_leaves_out(values):
    changed = apply_overrides(values, ["augmentation.hue=0", "training.schedule.unit=step"])
    study = validate_study(changed, "here")
    assert study.augmentation.hue == 0
    assert study.training.schedule.unit == "step"


@pytest.mark.parametrize("text", ["temperature", "=3", ".epochs=3", "training.=3", "a..b=3"])
def test_an_override_without_a_key_and_a_value_is_refused(values, text):
    with pytest.raises(ConfigError) as error:
        apply_overrides(values, [text])
    assert refused(error).startswith(f"'{text}' is not an override: write key=value")


def test_an_override_below_a_plain_value_is_refused(values):
    with pytest.raises(ConfigError) as error:
        apply_overrides(values, ["training.epochs.first=3"])
    assert refused(error).startswith("training.epochs.first: training.epochs is not a mapping")


def test_an_override_that_is_not_yaml_names_itself(values):
    with pytest.raises(ConfigError) as error:
        apply_overrides(values, ["objectives=[cl"])
    assert refused(error).startswith("override 'objectives=[cl', line 1: not valid YAML")


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.optimizer.name=adamw", "training.optimizer.learning_rate=0.001"],
        ["training.optimizer.learning_rate=0.001", "training.optimizer.name=adamw"],
    ],
)
def test_another_name_drops_the_keys_it_does_not_have_in_any_order(values, overrides):
    values["training"]["optimizer"] = {"name": "sgd", "learning_rate": 1, "momentum": 0.5}
    changed = apply_overrides(values, overrides)
    assert changed["training"]["optimizer"] == {"name": "adamw", "learning_rate": 0.001}
    validate_study(changed, "here")


@pytest.mark.parametrize("backwards", [False, True])
def test_an_override_that_the_chosen_name_does_not_have_is_never_dropped(values, backwards):
    overrides = ["training.optimizer.name=adamw", "training.optimizer.momentum=0.5"]
    changed = apply_overrides(values, overrides[::-1] if backwards else overrides)
    with pytest.raises(ConfigError, match=r"training\.optimizer\.momentum: unknown key"):
        validate_study(changed, "here")


def test_the_same_name_drops_nothing(values):
    values["training"]["optimizer"]["momentum"] = 0.5
    changed = apply_overrides(values, ["training.optimizer.name=sgd", "name=other"])
    assert changed["training"]["optimizer"]["momentum"] == 0.5
    assert changed == {**values, "name": "other"}


def test_an_unknown_name_is_left_to_validation(values):
    changed = apply_overrides(values, ["training.optimizer.name=adam"])
    with pytest.raises(ConfigError, match="did you mean 'adamw'"):
        validate_study(changed, "here")


def test_a_study_survives_being_written_and_read(make_study):
    study = make_study(
        objectives=["cl", {"name": "nscl", "positive_in_denominator": False}],
        dataset={"name": "parquet", "path": "there", "classes": ["cat", 3]},
        checkpoint_epochs=[0, 3],
        seed=4,
    )
    text = to_yaml(study)
    assert validate_study(parse_yaml(text, "here"), "here") == study
    assert "positive_in_denominator: false" in text
    assert "clip_norm: 1.0" in text  # defaults are written out


def test_dataset_paths_are_absolute_from_the_start(make_study, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study = make_study(dataset={"name": "parquet", "path": "there"})
    assert study.dataset.path == Path.cwd() / "there"


def test_the_first_difference_is_named_with_both_values(make_study):
    ours, theirs = make_study(seed=1), make_study(seed=2, temperature=0.1)
    assert first_difference(ours, theirs) == "temperature is 0.5 here and 0.1 there"
    assert first_difference(make_study(seed=1), make_study(seed=2)) == "seed is 1 here and 2 there"
    assert first_difference(ours, make_study(seed=1)) is None
    folder = {"name": "image_folder", "path": "/a"}
    few, many = (make_study(dataset={**folder, "workers": number}) for number in (1, 16))
    assert first_difference(few, many) is None, "nothing depends on who decodes"


def test_keys_that_only_one_study_has_are_a_difference(make_study):
    lars = {"name": "lars", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    sgd = {**lars, "name": "sgd"}
    training = {"epochs": 10, "batch_size": 64}
    ours = make_study(training={**training, "optimizer": sgd})
    theirs = make_study(training={**training, "optimizer": lars})
    assert first_difference(ours, theirs) == "training.optimizer.name is sgd here and lars there"


@pytest.fixture
def old_file(tmp_path, original):
    """The path of a config of the paper's own code."""
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(original, sort_keys=False))
    return str(path)


def test_a_config_of_the_original_code_is_translated_and_told_once(old_file):
    told: list[str] = []
    study = load_study(old_file, ["temperature=0.2"], notify=told.append)
    assert (study.name, study.temperature) == ("simclr-cifar100", 0.2)
    (notice,) = told
    assert notice.startswith("old.yaml: a config of understanding-ssl-v2, translated\n")
    assert load_study(old_file, ["temperature=0.2"]) == study


def test_nothing_is_told_of_a_study_of_ours_or_one_that_is_refused(old_file):
    told: list[str] = []
    load_study("digits", notify=told.append)
    with pytest.raises(ConfigError, match=r"^old\.yaml: temperature: "):
        load_study(old_file, ["temperature=warm"], notify=told.append)
    assert told == []


def test_an_original_key_in_an_override_names_ours(old_file):
    with pytest.raises(ConfigError) as error:
        load_study(old_file, ["training.lr=0.1"])
    assert refused(error).startswith("old.yaml: training.lr: unknown key; ")
    assert "'training.optimizer.learning_rate'" in refused(error)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("cifar100", {}),
        ("svhn", {}),
        ("tiny_imagenet", {"image_size": 64}),
        ("mini_imagenet", {"image_size": 224, "resize": 256, "in_memory": False}),
        ("full_imagenet", {"image_size": 224, "resize": 256, "in_memory": False}),
    ],
)
def test_a_translated_study_may_take_its_images_from_a_folder(tmp_path, original, name, kept):
    original["dataset"]["name"] = name
    original["training"]["augmentations_type"] = "imagenet"
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(original))
    views = load_study(str(path)).augmentation
    study = load_study(str(path), ["dataset.path=there", "dataset.name=image_folder"])
    assert study.dataset.model_dump(exclude_defaults=True) == {
        "path": Path("there").absolute(),
        **kept,
    }
    assert study.augmentation == views
    assert (views.brightness, views.blur_probability) == (0.8, 0.1)


PAPERS = {
    "cifar10_resnet50": ("cifar10", "resnet50"),
    "cifar10_vit": ("cifar10", "vit"),
    "cifar100_resnet50": ("cifar100", "resnet50"),
    "cifar100_vit": ("cifar100", "vit"),
    "svhn_resnet50": ("svhn", "resnet50"),
    "tiny_imagenet_resnet50": ("tiny_imagenet", "resnet50"),
    "tiny_imagenet_vit": ("tiny_imagenet", "vit"),
    "mini_imagenet_resnet50": ("mini_imagenet", "resnet50"),
    "mini_imagenet_vit": ("mini_imagenet", "vit"),
    "full_imagenet_resnet50": ("full_imagenet", "resnet50"),
}


@pytest.mark.parametrize("name", PAPERS)
def test_the_studies_of_the_paper_have_its_values(name):
    study = load_study(name)
    dataset, encoder = PAPERS[name]
    assert (study.dataset.name, study.encoder.name) == (dataset, encoder)
    assert study.objective_names == ("cl", "nscl", "scl", "ce")
    assert study.temperature == (0.5 if dataset == "cifar10" else 0.1)
    assert study.projector.hidden_dim == 2048
    assert study.projector.output_dim == (64 if dataset == "cifar10" else 128)
    training = study.training
    assert training.epochs == (301 if dataset == "full_imagenet" else 1201)
    assert (training.batch_size, training.batches) == (1024, "stratified")
    lars = training.optimizer
    assert lars.name == "lars"
    assert lars.learning_rate == pytest.approx(0.3 * 1024 / 256)
    assert (lars.momentum, lars.weight_decay, lars.trust_coefficient) == (0.9, 1e-6, 1e-3)
    assert lars.exclude_bias_and_norm is True
    assert (training.schedule.warmup_epochs, training.schedule.unit) == (10, "epoch")
    assert (training.clip_norm, training.precision) == (1.0, "bfloat16")
    late = range(100, training.epochs, 100)
    assert study.saved_epochs == (*range(0, 100, 10), *late, training.epochs)


@pytest.mark.parametrize("name", PAPERS)
def test_the_studies_of_the_paper_see_images_as_its_code_does(name, original):
    """Beside the translation of a config of the same dataset and encoder."""
    dataset, encoder = PAPERS[name]
    original["dataset"]["name"] = dataset
    original["training"]["augmentations_type"] = dataset
    original["model"]["encoder_type"] = "vit_b" if encoder == "vit" else encoder
    ours, its = load_study(name), validate_study(translate(original, "old").values, "old")
    assert ours.augmentation == its.augmentation
    assert ours.encoder == its.encoder
    assert ours.dataset.model_copy(update={"download": True}) == its.dataset


def test_every_ready_made_study_of_the_paper_is_listed_here():
    assert {*PAPERS, "digits", "cifar100_resnet18_cpu"} == set(study_names())
