from dataclasses import replace

import pytest

from alignctl.verify.run_comparison import RunRecord, compare_runs

WEIGHTS = dict.fromkeys(["cl", "ce"], "ab" * 32)


@pytest.fixture
def record(make_study, make_manifest):
    """A function of changes to study and manifest: the record of a run of two epochs."""

    def make(study=None, **manifest):
        usual = {"initial_weights": WEIGHTS, "batches": {1: "1" * 64, 2: "2" * 64}}
        return RunRecord(make_study(**(study or {})), make_manifest(**{**usual, **manifest}))

    return make


def results(comparison):
    return {check.name: check.result for check in comparison.checks}


def test_runs_of_one_study_share_everything(record):
    found = compare_runs(record(), record({"name": "another"}))
    assert set(results(found).values()) == {"ok"}
    assert found.differs_in == ()
    assert found.conclusion == "same initial weights, same batches and views in all 2 epochs"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"seed": 1}, "seed 0 / 1"),
        ({"dataset": {"name": "digits", "classes": 3}}, "dataset.classes none / 3"),
        ({"augmentation": {"hue": 0.2}}, "augmentation.hue 0.1 / 0.2"),
        ({"encoder": {"name": "resnet18", "width": 1.0}}, "encoder.width 0.25 / 1.0"),
        ({"projector": {"output_dim": 64}}, "projector.output_dim 128 / 64"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_to_be_held_equal_is_named_with_both_values(record, change, finding):
    found = compare_runs(record(), record(change))
    assert results(found)["settings"] == "differs"
    assert found.checks[0].finding == finding
    assert found.differs_in == ()
    assert found.conclusion.endswith(f"({finding})")


@pytest.mark.parametrize(("key", "value"), [("batch_size", 32), ("batches", "uniform")])
def test_other_batches_are_no_difference_that_is_allowed(record, make_study, key, value):
    training = make_study().training.model_dump()
    found = compare_runs(record(), record({"training": {**training, key: value}}))
    assert f"training.{key} {training[key]} / {value}" in found.checks[0].finding
    assert found.differs_in == ()


def test_what_may_differ_is_told_and_changes_no_verdict(record, make_study):
    training = {**make_study().training.model_dump(), "epochs": 3, "precision": "bfloat16"}
    change = {"objectives": ["nscl", "ce"], "temperature": 0.1, "training": training}
    found = compare_runs(record({"objectives": ["ce"]}), record(change))
    assert set(results(found).values()) == {"ok"}
    assert found.differs_in == (
        "objectives [ce] / [nscl positive_in_denominator=True, ce]",
        "temperature 0.5 / 0.1",
        "training.epochs 10 / 3",
        "training.precision float32 / bfloat16",
    )


def test_where_the_images_lie_and_who_decodes_them_is_no_difference(record):
    ours, theirs = (
        {"dataset": {"name": "image_folder", "path": path, "workers": workers}}
        for path, workers in (("/a", 1), ("/b", 16))
    )
    found = compare_runs(record(ours), record(theirs))
    assert set(results(found).values()) == {"ok"}
    assert found.differs_in == ()


@pytest.mark.parametrize("key", ["num_train_images", "num_classes"])
def test_another_number_of_images_or_classes_differs(record, key):
    found = compare_runs(record(), record(**{key: 3}))
    assert results(found)["settings"] == "differs"
    assert found.checks[0].finding.startswith(f"{key} 1")


def test_other_initial_weights_differ(record):
    found = compare_runs(record(), record(initial_weights=dict.fromkeys(WEIGHTS, "cd" * 32)))
    assert results(found)["initial weights"] == "differs"
    assert found.conclusion == "other initial weights, same batches and views in all 2 epochs"
    mixed = compare_runs(record(), record(initial_weights={**WEIGHTS, "ce": "cd" * 32}))
    assert results(mixed)["initial weights"] == "differs"


def test_only_epochs_that_both_finished_are_compared(record):
    found = compare_runs(record(), record(batches={1: "1" * 64}))
    assert results(found)["batches and views"] == "ok"
    assert found.conclusion.endswith("same batches and views in all 1 epochs that both finished")
    none = compare_runs(record(), record(batches={}))
    assert results(none)["batches and views"] == "not checked"


def test_the_first_epoch_that_differs_is_named(record):
    ours = record(batches={epoch: str(epoch) * 64 for epoch in range(1, 6)})
    theirs = record(batches={**ours.manifest.batches, 3: "x", 5: "y"})
    found = compare_runs(ours, theirs)
    assert results(found)["batches and views"] == "differs"
    assert found.checks[2].finding == "epoch 3 is the first that differs; 3 of 5 epochs agree"
    assert found.conclusion == "same initial weights, other batches and views in 2 of 5 epochs"


def test_of_an_adopted_run_no_more_is_said_than_is_known(record):
    unknown = {"status": "adopted", "batches": {}, "seed": None, "num_train_images": None,
               "num_classes": None}  # fmt: skip
    theirs = replace(record(**unknown), records_training=False)
    found = compare_runs(record(), theirs)
    assert results(found) == {
        "settings": "not checked", "initial weights": "ok", "batches and views": "not checked",
    }  # fmt: skip
    ours = record({"seed": 1}, **unknown, initial_weights={})
    found = compare_runs(replace(ours, records_training=False), theirs)
    assert results(found) == {
        "settings": "differs", "initial weights": "not checked", "batches and views": "not checked",
    }  # fmt: skip
    assert found.conclusion == (
        "unknown initial weights, batches and views that cannot be compared (seed 1 / 0)"
    )
