"""Images without labels, and which objectives can be trained on them."""

from collections.abc import Sequence

from alignctl.config.objective_configs import ObjectiveConfig
from alignctl.errors import ConfigError

UNLABELLED = "unlabelled"
"""The name of the one class, 0, that all images of a source without labels are in."""


def refuse_too_few_classes(
    objectives: Sequence[ObjectiveConfig], class_names: Sequence[str]
) -> None:
    """Raise ConfigError where an objective that uses labels has fewer than two classes."""
    needing = [objective.name for objective in objectives if objective.uses_labels]
    if len(class_names) > 1 or not needing:
        return
    found = (
        "the training images have no labels"
        if tuple(class_names) == (UNLABELLED,)
        else f"there is one class only, '{class_names[0]}'"
    )
    listed = f"{', '.join(needing)} need" if len(needing) > 1 else f"{needing[0]} needs"
    raise ConfigError(
        f"objectives: {listed} labels of at least two classes, and {found}; cl and dcl need none"
    )
