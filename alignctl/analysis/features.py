"""What networks make of un-augmented images, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from alignctl.analysis.images import IMAGES_PER_PASS
from alignctl.analysis.pooling import pooled
from alignctl.augmentations import normalise
from alignctl.config.training import AugmentationConfig
from alignctl.encoders import Network
from alignctl.encoders.activations import layer_of
from alignctl.encoders.network import Representations
from alignctl.errors import ConfigError


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
    output is averaged over positions. Raises ConfigError for a layer that has no such output.
    """
    parts: list[list[Tensor]] = [[] for _ in networks]
    with ExitStack() as stack:
        readers = [stack.enter_context(_reader(network, representation)) for network in networks]
        for chunk in images.split(IMAGES_PER_PASS):  # type: ignore[no-untyped-call]
            pixels = normalise(chunk, augmentation)
            for part, read in zip(parts, readers, strict=True):
                part.append(read(pixels))
    return [torch.cat(part) for part in parts]


class _Reader:
    """Calls a network and returns one representation of a batch of pixels."""

    def __init__(self, network: Network, representation: str) -> None:
        self._network = network
        self._representation = representation
        # Models of timm have maps with channels first, last, or both in turn.
        self._any_layout = getattr(getattr(network, "encoder", None), "any_layout", False)
        self._pixels: Tensor | None = None
        self._seen: Tensor | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        self._pixels = pixels
        found: Representations = self._network(pixels)
        if self._representation in ("h", "g"):
            return found.h if self._representation == "h" else found.g
        seen, self._seen = self._seen, None
        if seen is None:
            raise ConfigError(
                f"--representation: '{self._representation}' is computed inside another layer, "
                "and its output is not to be had"
            )
        return seen

    def keep(self, module: nn.Module, inputs: object, output: object) -> None:
        assert self._pixels is not None
        try:
            vectors = pooled(output, self._pixels.shape, any_layout=self._any_layout)
        except ValueError as error:
            raise ConfigError(f"--representation: '{self._representation}' {error}") from error
        # At once and as a copy: what comes next may work in place.
        self._seen = vectors.float().clone()


@contextmanager
def _reader(network: Network, representation: str) -> Iterator[_Reader]:
    reader = _Reader(network, representation)
    if representation in ("h", "g"):
        yield reader
        return
    layer = layer_of(network, representation)
    assert layer is not None  # `refuse_unknown_layer` comes first
    hook = layer.register_forward_hook(reader.keep)
    try:
        yield reader
    finally:
        hook.remove()
