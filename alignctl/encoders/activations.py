"""The layers of an encoder whose outputs can be read, by the names that the field gives them.

timm's for vision transformers (`blocks.3.attn.qkv`, `norm`), torchvision's for ResNets (`layer3`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from alignctl.encoders.tokens import has_tokens


@torch.no_grad()
def activation_names(encoder: nn.Module, *, height: int, width: int) -> tuple[str, ...]:
    """The names of all layers that give one tensor for a batch of images, in the order they do.

    Its shape is (n, d), (n, tokens, d), or that of maps. Found by a pass of two images of this
    size, which changes nothing in the encoder; on the meta device it is a pass of shapes alone.
    Names are the encoder's own: `--representation` takes them, with or without `encoder.` in front.
    """
    found: dict[str, None] = {}
    of_tokens = has_tokens(encoder)
    modes = {module: module.training for module in encoder.modules()}
    hooks = [
        module.register_forward_hook(_note(found, name, num_images=2, of_tokens=of_tokens))
        for name, module in encoder.named_modules()
        if name
    ]
    like = next(encoder.parameters())
    try:
        encoder.eval()(torch.zeros(2, 3, height, width, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return tuple(found)


def layer_of(network: nn.Module, name: str) -> nn.Module | None:
    """A network's layer by its name there or, inside the encoder, by the encoder's own name."""
    layers: dict[str, nn.Module] = dict(network.named_modules())
    for full_name in (name, f"encoder.{name}"):
        if name and full_name in layers:
            return layers[full_name]
    return None


def _note(
    found: dict[str, None], name: str, *, num_images: int, of_tokens: bool
) -> Callable[[nn.Module, object, object], None]:
    """A hook that adds a layer's name to `found` where its output is one tensor of the images."""

    def hook(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            return
        # a transformer's only maps are those of its patches: others are of single heads
        of_heads = of_tokens and output.ndim == 4 and not name.startswith("patch_embed")
        if len(output) == num_images and not of_heads:
            found[name] = None

    return hook
