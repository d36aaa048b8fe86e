"""The tokens of a vision transformer, of all patches or of those that a mask leaves."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from alignctl.errors import ConfigError


def has_tokens(encoder: nn.Module) -> bool:
    """Whether `tokens` takes this encoder: our `vit` and timm's vision transformers."""
    transformers = sys.modules.get("timm.models.vision_transformer")  # there, if the encoder is one
    return transformers is not None and isinstance(encoder, transformers.VisionTransformer)


def tokens(encoder: nn.Module, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """Class token, if any, and patch tokens, in this order, after the last norm: (n, 1 + k, width).

    images: (n, 3, H, W). keep: (n, k) int64, the patches of each image that the encoder sees, by
    their place from left to right and from top to bottom; all of them when None. Their positions
    are added before the others are dropped, and tokens come in the order of `keep`.
    Models with a distillation token or registers have these behind the class token. Where timm
    norms the pooled vector instead of the tokens, the tokens are those before that norm.
    Raises ConfigError for an encoder without tokens, ValueError where `keep` is of another shape.
    Source: He et al. 2022 (MAE), section 3, for the encoder of visible patches alone.
    """
    refuse_without_tokens(encoder)
    if keep is None:
        return _features(encoder, images)
    if keep.dtype != torch.int64 or keep.ndim != 2 or len(keep) != len(images):
        raise ValueError(
            f"keep: want (n, k) int64 of {len(images)} images, not {tuple(keep.shape)} {keep.dtype}"
        )
    with _dropping(encoder, keep):
        return _features(encoder, images)


def refuse_without_tokens(encoder: nn.Module) -> None:
    """Raise ConfigError for an encoder without tokens."""
    if not has_tokens(encoder):
        raise ConfigError(
            f"encoder: {type(encoder).__name__} has no patch tokens; "
            "encoder.name=vit and timm's vision transformers (vit_*, deit_*) have them"
        )


@contextmanager
def _dropping(encoder: nn.Module, keep: Tensor) -> Iterator[None]:
    """Lets the encoder see the patches in `keep` alone."""
    num_prefix = encoder.num_prefix_tokens
    assert isinstance(num_prefix, int)

    def drop(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        prefix, patches = output[:, :num_prefix], output[:, num_prefix:]
        kept = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[2]))
        return torch.cat([prefix, kept], dim=1)

    # timm's place for dropping patches: behind positions, before the first block
    hook = encoder.get_submodule("patch_drop").register_forward_hook(drop)
    try:
        yield
    finally:
        hook.remove()


def _features(encoder: nn.Module, images: Tensor) -> Tensor:
    features: Tensor = encoder.forward_features(images)  # type: ignore[operator]
    return features
