import importlib
import pkgutil
from pathlib import Path
from typing import Annotated, get_args

import pytest

import alignctl.config
from alignctl.commands import pretrain, verify_runs
from alignctl.config import StudyConfig, load
from alignctl.config.base import ConfigModel, Execution, Label, Shared
from alignctl.config.dataset_configs import DigitsConfig
from alignctl.config.execution import (
    execution_keys,
    needing_proof,
    placed_as,
    proofs,
    science_differences,
    settings,
)
from alignctl.config.load import first_difference, moved
from alignctl.config.metric_configs import MetricConfig
from alignctl.config.objective_configs import CeConfig
from alignctl.config.validation import models_in
from alignctl.errors import ConfigError
from alignctl.runs import Manifest
from alignctl.runs.sweep_folder import SweepDescription, SweepDirectory
from alignctl.verify.run_comparison import RunRecord, compare_runs

FOLDER = {"name": "image_folder", "path": "/a", "image_size": 16}
HUB = {"name": "huggingface", "path": "owner/name", "image_size": 16}
RESNET = {"name": "resnet18", "width": 0.25}


@pytest.mark.parametrize(
    ("dataset", "keys"),
    [
        ({"name": "digits"}, set()),
        (FOLDER, {"dataset.path", "dataset.workers"}),
        ({"name": "parquet", "path": "/a"}, {"dataset.path"}),
        (HUB, {"dataset.path", "dataset.workers", "dataset.download"}),
        ({"name": "cifar10"}, {"dataset.path", "dataset.download"}),
        ({"name": "svhn"}, {"dataset.path", "dataset.download"}),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_where_data_lie_and_who_reads_them_is_execution_and_nothing_else(make_study, dataset, keys):
    assert set(execution_keys(make_study(dataset=dataset))) == {"encoder.weights", *keys}


def classes_of(root):
    """A config class and all that its fields may hold."""
    fields = root.model_fields.values()
    held = {each for field in fields for each in models_in(field.annotation)}
    return {root}.union(*map(classes_of, held))


def subclasses_of(root):
    return {root}.union(*map(subclasses_of, root.__subclasses__()))


FIELDS = [
    pytest.param(field, id=f"{each.__name__}.{name}")
    for each in sorted(classes_of(StudyConfig), key=lambda each: each.__name__)
    for name, field in each.model_fields.items()
]


def mentions(annotation, kind):
    return annotation is kind or any(mentions(arg, kind) for arg in get_args(annotation))


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_either_science_or_execution_and_a_path_is_execution_with_a_proof(field):
    marks = [mark for mark in field.metadata if isinstance(mark, Execution | Shared | Label)]
    execution = [mark for mark in marks if isinstance(mark, Execution)]
    assert len({type(mark) for mark in marks}) == len(marks), "no mark twice"
    assert not execution or len(marks) == 1, "what is no science is neither shared nor a label"
    if mentions(field.annotation, Path):
        assert execution, "where a file lies decides no number"
        assert execution[0].proof, "what the file holds may decide numbers"


def test_no_config_class_is_out_of_reach_of_a_study():
    for module in pkgutil.iter_modules(alignctl.config.__path__, "alignctl.config."):
        importlib.import_module(module.name)
    ours = {it for it in subclasses_of(ConfigModel) if it.__module__.startswith("alignctl.")}
    known = {it for it in ours - subclasses_of(MetricConfig) if "original" not in it.__module__}
    bases = {base for each in known for base in each.__mro__[1:]}
    assert known - bases == classes_of(StudyConfig) - bases


def test_every_proof_is_a_digest_in_the_manifest():
    assert proofs(StudyConfig) == ("training_data", "encoder_weights")
    assert set(proofs(StudyConfig)) <= set(Manifest.model_fields)


@pytest.mark.parametrize(
    "change",
    [{"path": "/b"}, {"workers": 3}, {"path": "there", "workers": 0}],
    ids=str,
)
def test_data_elsewhere_are_no_difference(make_study, change):
    ours, theirs = make_study(dataset=FOLDER), make_study(dataset={**FOLDER, **change})
    assert first_difference(ours, theirs) is None
    assert science_differences(ours, theirs) == {}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"in_memory": False}, "dataset.in_memory"),
        ({"classes": 3}, "dataset.classes"),
        ({"resize": 20}, "dataset.resize"),
    ],
)
def test_what_decides_the_pixels_is_a_difference(make_study, change, key):
    other = make_study(dataset={**FOLDER, "path": "/b", **change})
    assert first_difference(make_study(dataset=FOLDER), other).startswith(f"{key} is ")


def test_a_file_of_weights_may_move_but_not_come_or_go(make_study):
    study = [make_study(encoder={**RESNET, "weights": path}) for path in ("/a", "/b", None)]
    assert first_difference(study[0], study[1]) is None
    assert first_difference(study[0], study[2]) == "encoder.weights is /a here and None there"
    assert first_difference(study[2], study[1]) == "encoder.weights is None here and /b there"


def test_the_study_of_a_run_takes_overrides_of_execution(make_study):
    study = make_study(dataset=FOLDER, temperature=0.3)
    found = moved(study, ["dataset.path=/b", "temperature=0.3", "dataset.workers=2"], "run")
    assert (found.dataset.path, found.dataset.workers) == (Path("/b"), 2)
    assert first_difference(study, found) is None
    assert moved(study, [], "run") == study


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("temperature=0.1", "temperature is 0.1 here and 0.5 there"),
        ("dataset.in_memory=false", "dataset.in_memory is False here and True there"),
        ("dataset.name=parquet", "dataset.name is parquet here and image_folder there"),
        ("placement=data", "placement is data here and objectives there"),
    ],
)
def test_overrides_of_science_are_refused_with_what_may_change(make_study, override, reason):
    with pytest.raises(ConfigError) as error:
        moved(make_study(dataset=FOLDER), [override], "runs/a")
    assert str(error.value) == (
        f"{reason} (runs/a): it decides what is computed, so a run keeps it; only where data lie "
        "and how they are read may change (dataset.workers, dataset.path, encoder.weights)"
    )


def test_an_unknown_override_is_named_with_the_nearest_key(make_study):
    with pytest.raises(ConfigError, match=r"^runs/a: dataset.pth: unknown key; did you mean 'pat"):
        moved(make_study(dataset=FOLDER), ["dataset.pth=/b"], "runs/a")


def test_a_study_is_placed_as_another_and_keeps_all_else(make_study):
    study = make_study(dataset=FOLDER, encoder={**RESNET, "weights": "/w"}, seed=3)
    other = make_study(dataset={**FOLDER, "path": "/b", "workers": 1}, encoder=RESNET)
    found = placed_as(study, other)
    assert found.dataset == other.dataset
    assert (found.seed, found.encoder.weights) == (3, None)


class Loader(ConfigModel):
    depth: int = 1


class FasterDigits(DigitsConfig):
    prefetch: Annotated[int, Execution()] = 1


class FasterCe(CeConfig):
    chunk: Annotated[int, Execution()] = 1


class FasterStudy(StudyConfig):
    dataset: Annotated[FasterDigits, Shared()]
    objectives: tuple[FasterCe, ...]
    streams: Annotated[int, Execution()] = 1
    loader: Annotated[Loader, Execution()] = Loader()


FASTER = {
    "dataset": {"name": "digits", "prefetch": 8},
    "objectives": [{"name": "ce", "chunk": 8}],
    "streams": 8,
    "loader": {"depth": 8},
}


@pytest.fixture
def faster(make_study, monkeypatch):
    """A function of changes: a study whose class has execution fields of its own, everywhere."""
    monkeypatch.setattr(load, "StudyConfig", FasterStudy)
    values = {**make_study().model_dump(mode="json"), "objectives": [{"name": "ce"}]}
    return lambda **changes: FasterStudy.model_validate({**values, **changes})


def test_a_new_execution_field_changes_no_study(faster):
    ours, theirs = faster(), faster(**FASTER)
    assert ours != theirs
    assert science_differences(ours, theirs) == {}
    assert first_difference(ours, theirs) is None
    assert needing_proof(ours, theirs) == {}
    assert placed_as(ours, theirs) == theirs
    assert first_difference(ours, faster(**FASTER, seed=1)) == "seed is 0 here and 1 there"


def test_a_new_execution_field_may_change_at_every_start(faster):
    words = ["dataset.prefetch=8", "streams=8", "loader.depth=8"]
    found = moved(faster(), words, "runs/a")
    assert (found.dataset.prefetch, found.streams, found.loader.depth) == (8, 8, 8)
    allowed = r"\(dataset.prefetch, encoder.weights, streams, loader.depth\)$"
    with pytest.raises(ConfigError, match=allowed):
        moved(faster(), ["seed=1"], "runs/a")


def test_a_new_execution_field_hinders_no_command(faster, make_run, make_manifest, tmp_path):
    ours, theirs = faster(), faster(**FASTER)
    run = make_run(tmp_path / "a", ours, batches={1: "1" * 64})
    assert pretrain.plan_study(theirs, run=run.path, nproc="1", resume=True).study == theirs
    (verified,) = verify_runs.plan([str(run.path), "streams=8"], epoch=None).studies
    assert verified.streams == 8
    sweep = SweepDirectory(tmp_path / "sweep")
    sweep.describe(SweepDescription("temperature", "temperature", (0.5,), ours))
    assert sweep.difference(theirs, "temperature") is None
    compared = compare_runs(RunRecord(ours, make_manifest()), RunRecord(theirs, make_manifest()))
    assert (compared.checks[0].result, compared.differs_in) == ("ok", ())


def test_what_runs_must_share_is_said_by_the_fields(make_study):
    found = settings(make_study())
    assert {key.partition(".")[0] for key, it in found.items() if it.is_shared} == {
        "seed", "dataset", "augmentation", "encoder", "projector", "training",
    }  # fmt: skip
    training = {key for key, it in found.items() if it.is_shared and key.startswith("training.")}
    assert training == {"training.batch_size", "training.batches"}
    assert [key for key, it in found.items() if it.is_label] == ["name"]


def test_only_what_lies_elsewhere_needs_a_proof(make_study):
    ours, theirs = make_study(dataset=FOLDER), make_study(dataset={**FOLDER, "workers": 3})
    assert needing_proof(ours, theirs) == {}
    moved_away = make_study(dataset={**FOLDER, "path": "/b"})
    assert needing_proof(ours, moved_away) == {"dataset.path": ("/a", "/b")}
