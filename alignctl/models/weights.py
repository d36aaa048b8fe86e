"""How the tensors of a model are named; no other file knows.

A model's weights are one flat mapping. `encoder.*` and `projector.*` are the part that all
objectives share; `objective.*` is what one objective has besides. Other programs put prefixes in
front of a whole model or of an encoder.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

ENCODER = "encoder."
PROJECTOR = "projector."
OBJECTIVE = "objective."

# In front of a whole model: by DistributedDataParallel, by torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
# In front of an encoder's own names in files of other programs, in any order.
_AROUND_ENCODERS = re.compile(r"((module|_orig_mod|model|network|encoder|net|backbone)\.)*")
# Parts of a model that sit on an encoder.
_HEADS = (
    "fc", "head", "heads", "head_dist", "classifier", "last_linear", "linear",
    "projector", "projection", "projection_head", "proj_head", "predictor", "objective",
)  # fmt: skip


def whole_model(network: Mapping[str, T], objective: Mapping[str, T]) -> dict[str, T]:
    """The weights of a model: of its network, by their names, and what its objective has."""
    return {**network, **{f"{OBJECTIVE}{name}": value for name, value in objective.items()}}


def shared_weights(weights: Mapping[str, T]) -> dict[str, T]:
    """Those of encoder and projector, which all objectives have."""
    return {name: value for name, value in weights.items() if not name.startswith(OBJECTIVE)}


def encoder_names(names: Iterable[str]) -> list[str]:
    """The names of an encoder's tensors, each once; all names, where none says that it is one."""
    names = list(dict.fromkeys(names))
    return [name for name in names if name.startswith(ENCODER)] or names


def without_wrappers(name: str, *others: str) -> str:
    """A name without what was put around the whole model: `module.` and the like, and `others`."""
    while prefix := next((each for each in (*_WRAPPERS, *others) if name.startswith(each)), None):
        name = name.removeprefix(prefix)
    return name


def renamed(name: str, prefixes: Mapping[str, str]) -> str | None:
    """A name with its prefix replaced; None where it has none of them."""
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None


def as_model(weights: Mapping[str, T]) -> dict[str, T]:
    """A state dict as that of a model, without wrappers.

    Where no tensor says that it is an encoder's, all are taken for those of an encoder.
    """
    bare = {without_wrappers(name): value for name, value in weights.items()}
    if any(name.startswith(ENCODER) for name in bare):
        return bare
    return {f"{ENCODER}{name}": value for name, value in bare.items()}


def own_encoder_weights(weights: Mapping[str, T], expected: Iterable[str]) -> dict[str, T]:
    """An encoder's tensors in any program's state dict, under the names that the encoder has.

    expected: these names, with no prefix. What sits on an encoder (classifiers, projectors) is
    left out; any other tensor keeps the name it has.
    """
    expected = set(expected)
    prefix = _prefix(weights, expected)
    found = {}
    for name, value in weights.items():
        own = name.removeprefix(prefix)
        if own in expected or _bare(name).partition(".")[0] not in _HEADS:
            found[own] = value
    return found


def _prefix(names: Iterable[str], expected: set[str]) -> str:
    """What stands in front of most of the encoder's names; may be empty."""
    counts = Counter(
        prefix for name in names for prefix in _prefixes(name) if name[len(prefix) :] in expected
    )
    return max(counts, key=lambda prefix: counts[prefix]) if counts else ""


def _prefixes(name: str) -> list[str]:
    """Every leading run of prefixes in a name, the empty one included."""
    length = len(name) - len(_bare(name))
    return [""] + [name[: i + 1] for i in range(length) if name[i] == "."]


def _bare(name: str) -> str:
    """A name without the prefixes in front of it."""
    return _AROUND_ENCODERS.sub("", name, count=1)
