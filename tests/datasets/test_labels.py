import pytest
from pydantic import TypeAdapter

from alignctl.config.objective_configs import ObjectiveConfig
from alignctl.datasets.labels import refuse_too_few_classes
from alignctl.errors import ConfigError


def objectives(*names):
    return TypeAdapter(tuple[ObjectiveConfig, ...]).validate_python(names)


@pytest.mark.parametrize(
    ("names", "class_names"),
    [(("cl", "dcl"), ("unlabelled",)), (("cl",), ("cat",)), (("cl", "nscl", "ce"), ("a", "b"))],
)
def test_objectives_are_trained_where_they_have_the_labels_they_use(names, class_names):
    refuse_too_few_classes(objectives(*names), class_names)


@pytest.mark.parametrize(
    ("names", "class_names", "message"),
    [
        (
            ("cl", "nscl"), ("unlabelled",),
            "objectives: nscl needs labels of at least two classes, and the training images have "
            "no labels; cl and dcl need none",
        ),
        (
            ("ce", "dcl", "scl"), ("cat",),
            "objectives: ce, scl need labels of at least two classes, and there is one class only, "
            "'cat'; cl and dcl need none",
        ),
    ],
)  # fmt: skip
def test_objectives_that_lack_labels_are_named(names, class_names, message):
    with pytest.raises(ConfigError) as error:
        refuse_too_few_classes(objectives(*names), class_names)
    assert str(error.value) == message
