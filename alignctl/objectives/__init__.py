"""Training objectives: one file each, with its pure loss and the head it needs."""

from collections.abc import Callable
from typing import Any

from torch import nn

from alignctl.config.objective_configs import ObjectiveConfig
from alignctl.objectives.ce import build_ce, ce_loss
from alignctl.objectives.cl import build_cl, cl_loss
from alignctl.objectives.dcl import build_dcl, dcl_loss
from alignctl.objectives.nscl import build_nscl, nscl_loss
from alignctl.objectives.objective import (
    AnchorObjective,
    Objective,
    ObjectiveContext,
    ParameterGroup,
    ProjectionObjective,
    StepProgress,
    ViewBatch,
)
from alignctl.objectives.scl import build_scl, scl_loss

OBJECTIVES: dict[str, Callable[[Any, nn.Module, ObjectiveContext], Objective]] = {
    "ce": build_ce,
    "cl": build_cl,
    "dcl": build_dcl,
    "nscl": build_nscl,
    "scl": build_scl,
}
"""Builders by the `name` of their config: of that config, the network, and the study's context."""


def build_objective(
    config: ObjectiveConfig, network: nn.Module, context: ObjectiveContext
) -> Objective:
    """The objective that `config` names, with fresh parameters where it has any.

    network: at its initial weights; it may be copied or looked at, and is not changed.
    """
    return OBJECTIVES[config.name](config, network, context)


__all__ = [
    "OBJECTIVES",
    "AnchorObjective",
    "Objective",
    "ObjectiveContext",
    "ParameterGroup",
    "ProjectionObjective",
    "StepProgress",
    "ViewBatch",
    "build_objective",
    "ce_loss",
    "cl_loss",
    "dcl_loss",
    "nscl_loss",
    "scl_loss",
]
