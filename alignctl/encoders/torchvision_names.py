"""The tensors of torchvision's vision transformer by timm's names, and back.

Both stack the projections of queries, keys and values in this order, and the heads inside each:
only names differ.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# torchvision's and timm's. Those inside blocks come first: `norm` begins the names of their norms.
_NAMES = (
    ("encoder.layers.encoder_layer_", "blocks."),
    ("ln_1", "norm1"),
    ("ln_2", "norm2"),
    ("self_attention.in_proj_weight", "attn.qkv.weight"),
    ("self_attention.in_proj_bias", "attn.qkv.bias"),
    ("self_attention.out_proj", "attn.proj"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.3", "mlp.fc2"),
    ("class_token", "cls_token"),
    ("conv_proj", "patch_embed.proj"),
    ("encoder.pos_embedding", "pos_embed"),
    ("encoder.ln", "norm"),
)
# Of torchvision before 0.12.
_OLDER_NAMES = (("mlp.linear_1", "mlp.0"), ("mlp.linear_2", "mlp.3"))
# Only torchvision's vision transformers have it, behind whatever prefix.
_MARK = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"


def with_timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vision transformer's weights in torchvision's form by timm's names; others as they are.

    Names may have a prefix, such as `encoder.`; the tensors are not copied.
    """
    if not any(name.endswith(_MARK) for name in weights):
        return dict(weights)
    names = (*_OLDER_NAMES, *_NAMES)
    return {_renamed(name, names): tensor for name, tensor in weights.items()}


def with_torchvision_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of our `vit`, by timm's names, by torchvision's."""
    back = [(timms, torchvisions) for torchvisions, timms in _NAMES]
    return {_renamed(name, back): tensor for name, tensor in weights.items()}


def _renamed(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    for old, new in pairs:
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?=\.|\d|$)", new, name)
    return name
