"""What networks make of un-augmented images, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from alignctl.augmentations import normalise
from alignctl.config.training import AugmentationConfig
from alignctl.encoders import Network
from alignctl.encoders.network import Representations

_IMAGES_PER_PASS = 512


@torch.inference_mode()
def features(
    networks: Sequence[Network],
    images: Tensor,
    representation: str,
    augmentation: AugmentationConfig,
) -> list[Tensor]:
    """One (n, d) float32 matrix for each network, on the device of the images.

    images: (n, H, W, 3) uint8. Every network sees the same normalised, un-augmented images.
    representation: `h`, the encoder's output; `g`, the projector's; or the name of a layer, whose
    output is averaged over positions.
    """
    parts: list[list[Tensor]] = [[] for _ in networks]
    with ExitStack() as stack:
        readers = [stack.enter_context(_reader(network, representation)) for network in networks]
        for chunk in images.split(_IMAGES_PER_PASS):  # type: ignore[no-untyped-call]
            pixels = normalise(chunk, augmentation)
            for part, read in zip(parts, readers, strict=True):
                part.append(read(pixels))
    return [torch.cat(part) for part in parts]


class _Reader:
    """Calls a network and returns one representation of a batch of pixels."""

    def __init__(self, network: Network, representation: str) -> None:
        self._network = network
        self._representation = representation
        self._seen: Tensor | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        found: Representations = self._network(pixels)
        if self._representation in ("h", "g"):
            return found.h if self._representation == "h" else found.g
        assert self._seen is not None, "every layer is part of the forward pass"
        return self._seen

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        # At once and as a copy: what comes next may work in place.
        self._seen = _pooled(output).float().clone()


@contextmanager
def _reader(network: Network, representation: str) -> Iterator[_Reader]:
    reader = _Reader(network, representation)
    if representation in ("h", "g"):
        yield reader
        return
    hook = network.get_submodule(representation).register_forward_hook(reader.keep)
    try:
        yield reader
    finally:
        hook.remove()


def _pooled(output: Tensor) -> Tensor:
    """(n, d) of an output (n, d), (n, d, height, width) or (n, tokens, d): mean over positions."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output.flatten(1)
