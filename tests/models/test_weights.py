import pytest

from alignctl.models.weights import (
    encoder_names,
    own_encoder_weights,
    renamed,
    shared_weights,
    whole_model,
    without_wrappers,
)


def test_what_objectives_share_is_all_but_what_one_of_them_has():
    network = {"encoder.conv1.weight": 1, "projector.0.weight": 2}
    whole = whole_model(network, {"classifier.weight": 3})
    assert whole == {**network, "objective.classifier.weight": 3}
    assert shared_weights(whole) == network


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["projector.0.weight", "encoder.a", "encoder.b"], ["encoder.a", "encoder.b"]),
        (["a.weight", "b.weight", "a.weight"], ["a.weight", "b.weight"]),
        ([], []),
    ],
)
def test_names_are_of_the_encoder_where_one_says_so(names, found):
    assert encoder_names(names) == found


def test_wrappers_are_taken_off_in_any_order_and_only_in_front():
    assert without_wrappers("_orig_mod.module._orig_mod.encoder.module.a") == "encoder.module.a"
    assert without_wrappers("theirs.module.a", "theirs.") == "a"
    assert without_wrappers("theirs.module.a") == "theirs.module.a"


def test_a_prefix_is_replaced_once_or_the_name_is_unknown():
    assert renamed("a.a.b", {"a.": "x."}) == "x.a.b"
    assert renamed("b.a", {"a.": "x."}) is None


def test_an_encoder_is_found_behind_prefixes_and_below_heads():
    weights = {"module.encoder.conv1": 1, "module.encoder.bn1": 2, "module.fc": 3, "odd": 4}
    assert own_encoder_weights(weights, ["conv1", "bn1"]) == {"conv1": 1, "bn1": 2, "odd": 4}


def test_a_head_that_the_encoder_has_is_no_head():
    assert own_encoder_weights({"fc": 1, "head": 2}, ["fc"]) == {"fc": 1}
