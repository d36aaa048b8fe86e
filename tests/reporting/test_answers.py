import pandas as pd

from alignctl.config.metric_configs import DEBIASED_CKA, ORIGINAL_CKA, ORIGINAL_RSA
from alignctl.reporting.answers import Ranking, answer, exceptions, ranking


def without(rows: pd.DataFrame, *gaps: tuple[str, int]) -> pd.DataFrame:
    """The rows but those of an objective at an epoch, as where a checkpoint is missing."""
    return rows[[pair not in gaps for pair in zip(rows["objective"], rows["epoch"], strict=True)]]


def last(**scores: float) -> dict[str, tuple[float]]:
    return {name: (value,) for name, value in scores.items()}


def test_the_answer_is_about_the_last_epoch_on_test(alignment, make_study):
    assert answer(alignment, make_study()) == (
        "After epoch 10, on 1,360 test images, "
        "by CKA NSCL (0.830) is closest to CL, "
        "0.150 ahead of SCL (0.680), then CE (0.670); "
        "by RSA NSCL (0.800) is closest to CL, "
        "0.150 ahead of SCL (0.650), then CE (0.610)."
    )


def test_the_order_of_the_rows_does_not_matter(alignment, make_study):
    shuffled = alignment.sample(frac=1, random_state=0)
    assert answer(shuffled, make_study()) == answer(alignment, make_study())


def test_cka_and_rsa_may_disagree(tables, make_study):
    rows = tables.similarities(
        last(nscl=0.5, scl=0.75, ce=0.25), last(nscl=0.875, scl=0.25, ce=0.5), epochs=[7]
    )
    assert answer(rows, make_study()) == (
        "After epoch 7, on 1,360 test images, "
        "by CKA SCL (0.750) is closest to CL, "
        "0.250 ahead of NSCL (0.500), then CE (0.250); "
        "by RSA NSCL (0.875) is closest to CL, "
        "0.375 ahead of CE (0.500), then SCL (0.250)."
    )


def test_where_only_train_was_evaluated_the_answer_is_about_train(alignment, make_study):
    found = answer(alignment[alignment["split"] == "train"], make_study())
    assert found.startswith("After epoch 10, on 1,437 train images, by CKA NSCL (0.730) is closest")


def test_a_later_epoch_of_the_other_split_is_not_mixed_in(alignment, make_study):
    rows = alignment[(alignment["split"] == "train") | (alignment["epoch"] <= 5)]
    found = answer(rows, make_study())
    assert found.startswith("After epoch 5, on 1,360 test images, by CKA SCL (0.700) is closest")


def test_the_lead_is_a_difference_of_the_whole_numbers_not_of_the_rounded_ones(tables, make_study):
    rows = tables.similarities(last(nscl=0.8004, scl=0.7996), {}, epochs=[1])
    assert "NSCL (0.800) is closest to CL, 0.001 ahead of SCL (0.800)" in answer(rows, make_study())


def test_a_self_supervised_objective_is_no_candidate(tables, make_study):
    study = make_study(objectives=["cl", "dcl", "nscl"])
    rows = tables.similarities(last(dcl=0.99, nscl=0.5), last(dcl=0.99, nscl=0.5), epochs=[3])
    assert answer(rows, study) == (
        "After epoch 3, on 1,360 test images, by CKA NSCL (0.500) is closest to CL; "
        "by RSA NSCL (0.500) is closest to CL."
    )
    rows = rows[rows["objective"] == "dcl"]
    assert answer(rows, study) == "No supervised objective was compared with CL."


def test_without_the_biased_one_the_answer_is_about_debiased_cka(tables, make_study):
    cka, rsa = {"nscl": (0.1, 0.9), "scl": (0.5, 0.5)}, {"nscl": (0.5, 0.75)}
    rows = tables.similarities(cka, rsa, epochs=[1, 10], names=(DEBIASED_CKA, ORIGINAL_RSA))
    assert answer(rows, make_study()) == (
        "After epoch 10, on 1,360 test images, "
        "by debiased CKA NSCL (0.900) is closest to CL, 0.400 ahead of SCL (0.500); "
        "by RSA NSCL (0.750) is closest to CL. No score at this epoch: CE."
    )
    assert exceptions(rows, make_study()) == [
        "debiased CKA on test: SCL, not NSCL, was closest at epoch 1."
    ]


def test_other_metrics_do_not_change_the_answer(alignment, tables, make_study):
    other = {"nscl": (0.1, 0.9), "scl": (0.8, 0.2), "ce": (0.2, 0.8)}
    names = (DEBIASED_CKA, "knn k=10 distance=cosine")
    more = tables.similarities(other, other, epochs=[5, 10], names=names)
    for rows in (pd.concat([more, alignment]), pd.concat([alignment, more])):
        assert answer(rows, make_study()) == answer(alignment, make_study())
        assert exceptions(rows, make_study()) == exceptions(alignment, make_study())


def test_a_sample_of_images_of_another_metric_is_not_the_number_of_the_answer(
    alignment, tables, make_study
):
    sampled = tables.similarities(
        {"nscl": (0.5,)}, {}, epochs=[10], num_images=50, names=("knn", "rsa")
    )
    found = answer(pd.concat([sampled, alignment]), make_study())
    assert found.startswith("After epoch 10, on 1,360 test images, ")


def test_the_reference_is_the_one_of_the_table(tables, make_study):
    rows = tables.similarities(last(nscl=0.9), last(nscl=0.8), epochs=[1], reference="dcl")
    assert "by CKA NSCL (0.900) is closest to DCL;" in answer(rows, make_study())


def test_negative_similarities_are_shown_as_they_are(tables, make_study):
    rows = tables.similarities({}, last(nscl=-0.25, scl=-0.5, ce=-0.75), epochs=[1])
    assert answer(rows, make_study()).endswith(
        "by RSA NSCL (-0.250) is closest to CL, 0.250 ahead of SCL (-0.500), then CE (-0.750)."
    )


def test_an_objective_without_a_score_at_the_last_epoch_is_named(alignment, make_study):
    assert answer(without(alignment, ("ce", 10)), make_study()) == (
        "After epoch 10, on 1,360 test images, "
        "by CKA NSCL (0.830) is closest to CL, 0.150 ahead of SCL (0.680); "
        "by RSA NSCL (0.800) is closest to CL, 0.150 ahead of SCL (0.650). "
        "No score at this epoch: CE."
    )
    found = answer(without(alignment, ("ce", 10), ("nscl", 10)), make_study())
    assert "by CKA SCL (0.680) is closest to CL; " in found
    assert found.endswith(". No score at this epoch: NSCL, CE.")


def test_a_gap_at_an_earlier_epoch_does_not_change_the_answer(alignment, make_study):
    rows = without(alignment, ("ce", 5), ("nscl", 0))
    assert answer(rows, make_study()) == answer(alignment, make_study())


def test_a_reference_or_a_self_supervised_objective_is_not_missed(tables, make_study):
    study = make_study(objectives=["cl", "dcl", "nscl", "ce"])
    rows = tables.similarities(last(nscl=0.5), {}, epochs=[3], reference="ce")
    assert answer(rows, study).endswith("by CKA NSCL (0.500) is closest to CE.")


def test_the_answer_is_of_the_last_epoch_that_has_one(alignment, tables, make_study):
    expected = answer(alignment, make_study())
    dcl = tables.similarities(last(dcl=0.5), last(dcl=0.5), epochs=[20])
    knn = tables.similarities(last(nscl=0.5), {}, epochs=[30], names=("knn", ""))
    study = make_study(objectives=["cl", "dcl", "nscl", "scl", "ce"])
    assert answer(pd.concat([alignment, dcl, knn]), study) == expected
    assert answer(dcl, study) == "No supervised objective was compared with CL."
    assert answer(knn, study).startswith("Linear CKA and RSA on cosines were not measured: run")


def test_without_rows_the_answer_is_what_to_do(make_study):
    assert answer(pd.DataFrame(), make_study()) == (
        "Not evaluated yet: run `alignctl eval-alignment`."
    )


def test_a_ranking_is_sorted_and_none_where_the_metric_is_missing(alignment, make_study):
    rows = alignment[(alignment["split"] == "test") & (alignment["epoch"] == 5)]
    found = ranking(rows, make_study(), ORIGINAL_CKA)
    assert found == Ranking(ORIGINAL_CKA, (("scl", 0.7), ("nscl", 0.6), ("ce", 0.5)))
    assert found.closest == "scl"
    assert ranking(rows, make_study(), "dtw") is None


def test_an_objective_that_was_ahead_early_is_an_exception(alignment, make_study):
    assert exceptions(alignment, make_study()) == [
        "CKA on test: SCL, not NSCL, was closest at epoch 5.",
        "CKA on train: SCL, not NSCL, was closest at epoch 5.",
    ]


def test_several_early_epochs_are_one_line_for_each_objective(tables, make_study):
    cka = {"nscl": (0.1, 0.1, 0.1, 0.9), "scl": (0.8, 0.2, 0.8, 0.5), "ce": (0.2, 0.8, 0.2, 0.5)}
    rows = tables.similarities(cka, {}, epochs=[1, 2, 5, 10])
    assert exceptions(rows, make_study()) == [
        "CKA on test: SCL, not NSCL, was closest at epoch 1, 5.",
        "CKA on test: CE, not NSCL, was closest at epoch 2.",
    ]


def test_the_end_is_that_of_each_metric(tables, make_study):
    cka, rsa = {"nscl": (0.1, 0.9), "scl": (0.5, 0.5)}, {"nscl": (0.1, 0.1), "scl": (0.5, 0.5)}
    rows = tables.similarities(cka, rsa, epochs=[1, 10])
    assert exceptions(rows, make_study()) == ["CKA on test: SCL, not NSCL, was closest at epoch 1."]


def test_epoch_0_is_no_exception(tables, make_study):
    rows = tables.similarities({"nscl": (0.1, 0.9), "scl": (0.2, 0.5)}, {}, epochs=[0, 10])
    assert exceptions(rows, make_study()) == []
    assert exceptions(rows[rows["epoch"] == 0], make_study()) == []


def test_where_nothing_changes_there_is_no_exception(tables, make_study):
    rows = tables.similarities({"nscl": (0.5, 0.9), "scl": (0.2, 0.5)}, {}, epochs=[5, 10])
    assert exceptions(rows, make_study()) == []


def test_an_epoch_without_the_one_closest_at_the_end_is_no_exception(tables, make_study):
    cka = {"nscl": (0.1, 0.1, 0.9), "scl": (0.2, 0.2, 0.5), "ce": (0.3, 0.3, 0.4)}
    rows = tables.similarities(cka, {}, epochs=[1, 2, 5])
    assert exceptions(without(rows, ("nscl", 1)), make_study()) == [
        "CKA on test: CE, not NSCL, was closest at epoch 2."
    ]
    assert exceptions(without(rows, ("nscl", 1), ("nscl", 2)), make_study()) == []


def test_one_that_is_gone_at_the_end_can_be_an_exception(tables, make_study):
    rows = tables.similarities({"nscl": (0.6, 0.9), "ce": (0.8, 0.95)}, {}, epochs=[1, 2])
    assert exceptions(without(rows, ("ce", 2)), make_study()) == [
        "CKA on test: CE, not NSCL, was closest at epoch 1."
    ]
