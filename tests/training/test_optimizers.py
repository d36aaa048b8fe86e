import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from alignctl.config.training_config import OptimizerConfig
from alignctl.training import LARS
from alignctl.training.optimizers import OPTIMIZERS, build_optimizer


def config(**values):
    return TypeAdapter(OptimizerConfig).validate_python(values)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (
            {"name": "lars", "learning_rate": 0.3, "momentum": 0.8, "weight_decay": 0.01,
             "trust_coefficient": 0.02, "exclude_bias_and_norm": False},
            LARS,
        ),
        (
            {"name": "sgd", "learning_rate": 0.3, "momentum": 0.8, "weight_decay": 0.01},
            torch.optim.SGD,
        ),
        ({"name": "adamw", "learning_rate": 0.3, "weight_decay": 0.2}, torch.optim.AdamW),
    ],
)  # fmt: skip
def test_every_key_of_the_config_reaches_the_optimiser(values, kind):
    optimizer = build_optimizer(config(**values), [nn.Parameter(torch.ones(2))])
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    expected = {key: value for key, value in values.items() if key != "name"}
    assert {key: group["lr" if key == "learning_rate" else key] for key in expected} == expected


def test_every_optimiser_of_the_config_can_be_built():
    schema = TypeAdapter(OptimizerConfig).json_schema()
    assert set(schema["discriminator"]["mapping"]) == set(OPTIMIZERS)


def test_parameters_that_are_not_trained_are_left_out():
    frozen, trained = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    frozen.requires_grad_(False)
    optimizer = build_optimizer(config(name="sgd", learning_rate=0.1), iter([frozen, trained]))
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(3,)]


def test_groups_have_options_of_their_own():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    chosen = config(name="sgd", learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(chosen, [first], own_groups=[([second], {"weight_decay": 0.0})])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    for options, message in (
        ({"beta": 1}, "the optimiser sgd has no option beta"),
        ({"lr": 1.0}, "lr: the study's learning rate holds; see learning_rate_factor"),
    ):
        with pytest.raises(ValueError, match=message):
            build_optimizer(chosen, [first], own_groups=[([second], options)])
