"""Configs of the paper's own code, as studies. The texts are ours; the keys are theirs."""

import copy
from typing import Any

import pytest

from alignctl.config import StudyConfig
from alignctl.config.execution import settings
from alignctl.config.load import load_study, validate_study
from alignctl.config.validation import models_at
from alignctl.errors import ConfigError
from alignctl.original.translation import recognises, refuse_its_keys, translate

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@pytest.fixture
def changed(original):
    """A function of dotted keys and values: the config of the original with those changes."""

    def change(**changes: Any) -> dict[str, Any]:
        values = copy.deepcopy(original)
        for dotted, value in changes.items():
            section, _, key = dotted.partition("__")
            if key:
                values[section][key] = value
            else:
                values[section] = value
        return values

    return change


@pytest.fixture
def study_of(changed):
    """A function of changes: the validated study of the file."""
    return lambda **changes: validate_study(translate(changed(**changes), "old").values, "old")


@pytest.fixture
def notice_of(changed):
    """A function of changes: what is told of the file."""
    return lambda **changes: translate(changed(**changes), "old.yaml").notice


@pytest.fixture
def refusal(changed):
    """A function of changes: the one line that the file is refused with."""

    def refuse(**changes: Any) -> str:
        with pytest.raises(ConfigError) as error:
            translate(changed(**changes), "old.yaml")
        assert "\n" not in str(error.value)
        return str(error.value)

    return refuse


def test_cifar100_is_our_ready_made_study_but_for_what_its_code_does_otherwise(study_of):
    ours, its = load_study("cifar100_resnet50"), study_of()
    saved = (*range(0, 100, 10), *range(200, 2401, 200))
    ours, its = settings(ours), settings(its)
    pairs = {key: (ours[key].value, its[key].value) for key in ours | its}
    found = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    paths = found.pop("dataset.path", ("", ""))
    assert [path.rpartition("/")[2] for path in paths] in (["", ""], ["data", "data"])
    assert found == {
        "name": ("cifar100_resnet50", "simclr-cifar100"),
        "dataset.download": (False, True),
        "training.epochs": (1201, 2501),
        "training.optimizer.exclude_bias_and_norm": (True, False),
        "checkpoint_epochs": (None, list(saved)),
    }


def saved_by_its_loop(num_epochs: int, save_every: int) -> list[int]:
    """Epoch after epoch, as its trainer decides."""
    saved = []
    for epoch in range(num_epochs):
        if epoch % save_every == 0 or (epoch < 100 and epoch % 10 == 0):
            saved.append(epoch)
    return saved


@pytest.mark.parametrize("num_epochs", [1, 10, 11, 99, 100, 101, 301])
@pytest.mark.parametrize("save_every", [1, 7, 10, 100, 200, 1000])
def test_weights_are_saved_where_its_loop_saves_them_and_after_the_last_epoch(
    study_of, num_epochs, save_every
):
    study = study_of(training__num_epochs=num_epochs, training__save_every=save_every)
    assert study.saved_epochs == (*saved_by_its_loop(num_epochs, save_every), num_epochs)


@pytest.mark.parametrize(
    ("batch_size", "rate", "told"),
    [
        (256, 0.3, "0.3 * 256 / 256 = 0.3 for any number of processes"),
        (1024, 1.2, "0.3 * 1024 / 256 = 1.2 for any number of processes"),
        (896, 1.05, "0.3 * 896 / 256 = 1.05 (0.9 where its code divides in whole"),
        (128, 0.15, "0.3 * 128 / 256 = 0.15 (0 where its code divides in whole"),
    ],
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_the_learning_rate_is_of_the_batch_whatever_the_number_of_processes(
    study_of, notice_of, batch_size, rate, told, world_size
):
    changes = {"training__batch_size": batch_size, "training__world_size": world_size}
    assert study_of(**changes).training.optimizer.learning_rate == pytest.approx(rate, rel=1e-12)
    assert f"  learning rate: {told}" in notice_of(**changes)


def test_its_optimiser_and_precision_are_written_out(changed):
    training = translate(changed(), "old").values["training"]
    assert training["optimizer"] == {
        "name": "lars",
        "learning_rate": 1.2,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "trust_coefficient": 1e-3,
        "exclude_bias_and_norm": False,
    }
    assert training["schedule"] == {"warmup_epochs": 10, "unit": "epoch"}
    assert (training["clip_norm"], training["precision"]) == (1.0, "bfloat16")
    assert training["batches"] == "stratified"


@pytest.mark.parametrize(
    ("name", "stem", "expected"),
    [
        ("cifar10", "small_image", {"name": "cifar10", "path": "there"}),
        ("cifar100", "small_image", {"name": "cifar100", "path": "there"}),
        ("svhn", "small_image", {"name": "svhn", "path": "there", "extra": True}),
        ("tiny_imagenet", "imagenet", {"name": "tiny_imagenet", "image_size": 64}),
        ("mini_imagenet", "imagenet", {"name": "mini_imagenet", "in_memory": False,
                                       "image_size": 224, "resize": 256}),
        ("full_imagenet", "imagenet", {"name": "full_imagenet", "in_memory": False,
                                       "image_size": 224, "resize": 256}),
        ("imagenet", "imagenet", {"name": "mini_imagenet", "in_memory": False,
                                  "image_size": 224, "resize": 256}),
    ],
)  # fmt: skip
def test_datasets_are_fetched_and_sized_as_there(changed, study_of, name, stem, expected):
    changes = {"dataset__name": name, "dataset__path": "there"}
    values = translate(changed(**changes), "old").values
    assert values["dataset"] == {**expected, "download": True}
    assert study_of(**changes).encoder.stem == stem


def test_a_set_of_the_hub_ignores_the_path_and_says_so(notice_of):
    assert "dataset.path" not in notice_of()
    assert "dataset.path (it comes from the Hugging Face hub" in notice_of(
        dataset__name="tiny_imagenet"
    )


def test_the_old_name_of_mini_imagenet_is_told(notice_of):
    assert "dataset: imagenet, which is mini_imagenet today, " in notice_of(
        dataset__name="imagenet"
    )


CIFAR_VIEWS = (0.8, (0.4, 0.4, 0.4, 0.1), 0.0, CIFAR_MEAN, CIFAR_STD)
TINY_VIEWS = (0.8, (0.4, 0.4, 0.4, 0.1), 0.0, IMAGENET_MEAN, IMAGENET_STD)
LARGE_VIEWS = (1.0, (0.8, 0.8, 0.8, 0.2), 0.1, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cifar", CIFAR_VIEWS),
        ("cifar10", CIFAR_VIEWS),
        ("cifar100", CIFAR_VIEWS),
        ("svhn", CIFAR_VIEWS),
        ("tiny_imagenet", TINY_VIEWS),
        ("imagenet", LARGE_VIEWS),
        ("mini_imagenet", LARGE_VIEWS),
        ("full_imagenet", LARGE_VIEWS),
    ],
)
def test_the_views_are_those_of_augmentations_type_whatever_the_dataset(study_of, kind, expected):
    for name in ("cifar100", "full_imagenet"):
        views = study_of(dataset__name=name, training__augmentations_type=kind).augmentation
        jitter = (views.brightness, views.contrast, views.saturation, views.hue)
        assert (
            views.jitter_probability, jitter, views.blur_probability, views.mean, views.std
        ) == expected  # fmt: skip
        assert (views.grayscale_probability, views.flip_probability) == (0.2, 0.5)
        assert views.crop_scale == (0.08, 1.0)


def test_without_augmentations_type_the_dataset_decides(original):
    del original["training"]["augmentations_type"]
    original["dataset"]["name"] = "tiny_imagenet"
    study = validate_study(translate(original, "old").values, "old")
    assert study.augmentation.mean == IMAGENET_MEAN
    assert study.augmentation.brightness == 0.4


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_a_resnet_has_the_width_of_the_file(study_of, name):
    encoder = study_of(model__encoder_type=name, model__width_multiplier=2).encoder
    assert (encoder.name, encoder.width) == (name, 2.0)


@pytest.mark.parametrize(
    ("dataset", "shape"),
    [
        ("cifar10", (32, 4, 384, 1536)),
        ("svhn", (32, 4, 384, 1536)),
        ("tiny_imagenet", (64, 8, 384, 1536)),
        ("mini_imagenet", (224, 16, 768, 3072)),
        ("imagenet", (224, 16, 768, 3072)),
    ],
)
def test_a_vit_has_the_shape_that_its_code_gives_it(study_of, notice_of, dataset, shape):
    changes = {"model__encoder_type": "vit_b", "dataset__name": dataset}
    encoder = study_of(**changes).encoder
    assert (encoder.name, encoder.num_layers, encoder.num_heads) == ("vit", 12, 12)
    assert (encoder.image_size, encoder.patch_size, encoder.hidden_dim, encoder.mlp_dim) == shape
    assert "model.width_multiplier (a vit has none)" in notice_of(**changes)


@pytest.mark.parametrize(
    ("supervision", "told"),
    [
        ("DCL", "what it trains as DCL is cl here"),
        ("CL", "CL is cl here, with each positive counted once"),
        ("SSL", "SSL is cl here"),
        (None, "cl, nscl, scl and ce"),
    ],
)
def test_all_four_are_trained_whatever_supervision_says(study_of, notice_of, supervision, told):
    assert study_of(supervision=supervision).objective_names == ("cl", "nscl", "scl", "ce")
    assert f"  objectives: {told}" in notice_of(supervision=supervision)
    nscl = study_of(supervision=supervision).objectives[1]
    assert nscl.positive_in_denominator is True


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("simclr/cifar100", "simclr-cifar100"),
        ("plain", "plain"),
        ("/a b//c/", "a-b-c"),
        ("../up", "up"),
        ("v1.2_x", "v1.2_x"),
    ],
)
def test_an_experiment_gets_a_name_that_a_folder_can_have(study_of, notice_of, given, name):
    assert study_of(experiment_name=given).name == name
    assert (f"  name: {name}" in notice_of(experiment_name=given)) == (given != name)


def test_the_notice_is_a_few_lines_that_name_what_is_ignored(notice_of):
    notice = notice_of(
        evaluation={"checkpoints_dir": "x", "perform_rsa": True, "perform_cka": False, "new": 1},
        mystery=3,
        training__extra=True,
    )
    opening, *lines = notice.splitlines()
    assert opening == "old.yaml: a config of understanding-ssl-v2, translated"
    assert all(line.startswith("  ") and ": " in line for line in lines)
    assert len(lines) <= 9
    assert "bfloat16 in place of float16" in notice
    assert lines[-1] == (
        "  ignored: dataset.num_output_classes (classes are counted); "
        "training.log_every (every epoch is told); "
        "training.track_performance (alignctl eval-alignment, after training); "
        "training.multi_gpu, training.world_size (--nproc); "
        "evaluation.checkpoints_dir (--run-dir); "
        "evaluation.perform_rsa, evaluation.perform_cka (alignctl eval-alignment); "
        "linear (no command here); training.extra, evaluation.new, mystery (unknown)"
    )


def test_a_file_without_anything_to_ignore_says_nothing_of_it(original):
    del original["evaluation"], original["linear"], original["dataset"]["num_output_classes"]
    for key in ("log_every", "track_performance", "multi_gpu", "world_size"):
        del original["training"][key]
    assert "ignored" not in translate(original, "old").notice


@pytest.mark.parametrize("value", [None, {}, 3])
def test_sections_that_say_nothing_here_may_be_anything(notice_of, value):
    assert "linear (no command here)" in notice_of(evaluation=value, linear=value)


@pytest.mark.parametrize(
    "key",
    [
        "experiment_name", "dataset", "training", "model", "loss", "dataset.name",
        "training.batch_size", "training.num_epochs", "training.lr", "training.save_every",
        "model.encoder_type", "model.hidden_dim", "model.projection_dim", "loss.temperature",
    ],
)  # fmt: skip
def test_a_missing_key_is_named_as_in_the_file(original, key):
    *section, last = key.split(".")
    del (original[section[0]] if section else original)[last]
    with pytest.raises(ConfigError) as error:
        translate(original, "old.yaml")
    assert str(error.value) == f"old.yaml: {key}: is missing"


@pytest.mark.parametrize(
    "key", ["method_type", "supervision", "dataset.path", "training.augment_both",
            "model.pretrained", "model.width_multiplier", "evaluation", "linear"]
)  # fmt: skip
def test_what_has_one_meaning_may_be_missing(original, key):
    *section, last = key.split(".")
    del (original[section[0]] if section else original)[last]
    study = validate_study(translate(original, "old").values, "old")
    assert study.encoder.width == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__lr": "abc"}, "training.lr: must be a number, got 'abc'"),
        ({"training__lr": 0}, "training.lr: input should be greater than 0, got 0"),
        ({"training__lr": True}, "training.lr: must be a number, got true"),
        ({"training__batch_size": 1.5}, "training.batch_size: must be a whole number, got 1.5"),
        ({"training__batch_size": 1}, "training.batch_size: input should be greater than or"),
        ({"training__num_epochs": 0}, "training.num_epochs: input should be greater than 0"),
        ({"training__save_every": 0}, "training.save_every: input should be greater than 0"),
        ({"training__augmentations_type": "cifer"}, "training.augmentations_type: 'cifer' is not "
         "allowed; did you mean 'cifar'?"),
        ({"training__augment_both": "x"}, "training.augment_both: "),
        ({"training__augment_both": False}, "training.augment_both: false has no counterpart"),
        ({"model__pretrained": True}, "model.pretrained: true has no counterpart here: set it to "
         "false; the override encoder.weights=FILE begins"),
        ({"model__encoder_type": "resnet5"}, "model.encoder_type: 'resnet5' is not allowed; did"),
        ({"model__hidden_dim": "wide"}, "model.hidden_dim: must be a whole number, got 'wide'"),
        ({"loss__temperature": -1}, "loss.temperature: input should be greater than 0, got -1"),
        ({"method_type": "moco"}, "method_type: 'moco' is not allowed (simclr)"),
        ({"supervision": "NSCL"}, "supervision: 'NSCL' is not allowed"),
        ({"experiment_name": 5}, "experiment_name: must be text, got 5"),
        ({"experiment_name": "///"}, "experiment_name: needs a letter or a digit, got '///'"),
        ({"dataset__name": "cifar"}, "dataset.name: 'cifar' is not allowed; did you mean 'cifar1"),
        ({"training": 5}, "training: must be a mapping of keys, got 5"),
        ({"loss": None}, "loss: must be a mapping of keys, got None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)  # fmt: skip
def test_a_wrong_value_is_named_as_in_the_file(refusal, changes, message):
    assert refusal(**changes).startswith(f"old.yaml: {message}")


def test_a_file_is_known_by_more_than_one_of_its_keys(original, values):
    assert recognises(original)
    for key in list(original):
        rest = {other: value for other, value in original.items() if other != key}
        assert recognises(rest), key
    for name in ("digits", "cifar100_resnet50"):
        assert not recognises(load_study(name).model_dump(mode="json"))
    assert not recognises(values)


@pytest.mark.parametrize("slip", ["experiment_name", "model", "loss", "supervision"])
def test_a_slip_in_a_study_of_ours_does_not_make_it_theirs(values, slip):
    values[slip] = "x"
    values["training"]["lr"] = 0.3
    assert not recognises(values)
    del values["encoder"], values["objectives"], values["training"]["lr"]
    assert not recognises(values)


@pytest.mark.parametrize("values", [None, [], "text", {}, {"training": None}, {"model": None}])
def test_other_values_are_no_config_of_theirs(values):
    assert not recognises(values)


@pytest.mark.parametrize(
    "key",
    [
        "experiment_name", "supervision", "training.num_epochs", "training.lr",
        "training.save_every", "training.augmentations_type", "model.encoder_type",
        "model.pretrained", "model.width_multiplier", "model.hidden_dim", "model.projection_dim",
        "loss.temperature",
    ],
)  # fmt: skip
def test_an_override_in_its_names_is_refused_with_a_key_that_ours_has(key):
    with pytest.raises(ConfigError, match=f"^old: {key}: unknown key; .* it is '") as error:
        refuse_its_keys(["seed=1", f"{key}=1"], "old")
    *sections, ours = str(error.value).partition("it is '")[2].rstrip("'").split(".")
    assert any(ours in model.model_fields for model in models_at(StudyConfig, sections))


def test_overrides_in_names_that_both_have_are_ours():
    refuse_its_keys(["training.batch_size=64", "dataset.path=x", "dataset.name=digits"], "old")


@pytest.mark.parametrize(
    ("dataset", "kind", "doubtful"),
    [
        ("cifar100", "cifar", False),
        ("svhn", "cifar", False),
        ("full_imagenet", "imagenet", False),
        ("imagenet", "mini_imagenet", False),
        ("tiny_imagenet", "cifar", True),
        ("cifar10", "imagenet", True),
    ],
)
def test_views_of_another_dataset_are_told(notice_of, dataset, kind, doubtful):
    notice = notice_of(dataset__name=dataset, training__augmentations_type=kind)
    assert f"views: those of {kind}, " in notice
    assert (f"go by the dataset, {dataset}, instead" in notice) == doubtful
