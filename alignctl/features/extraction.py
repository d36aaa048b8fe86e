"""Features of un-augmented images, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from alignctl.config.training_config import AugmentationConfig
from alignctl.encoders import Network
from alignctl.encoders.activations import layer_of
from alignctl.encoders.network import Representations
from alignctl.errors import ConfigError
from alignctl.features.evaluation_images import IMAGES_PER_PASS
from alignctl.features.pooling import pooled
from alignctl.views.augmentations import normalise


@torch.inference_mode()
def features(
    networks: Sequence[Network],
    images: Tensor,
    representations: Sequence[str],
    augmentation: AugmentationConfig,
) -> list[list[Tensor]]:
    """For each network one (n, d) float32 matrix by representation, on the device of the images.

    One forward pass per network gives all of them.
    images: (n, H, W, 3) uint8. Every network sees the same normalised, un-augmented images.
    representations: `h`, the encoder's output; `g`, the projector's; or the name of a layer, whose
    output is averaged over positions. Raises ConfigError for a layer that has no such output.
    """
    parts: list[list[list[Tensor]]] = [[] for _ in networks]
    with ExitStack() as stack:
        readers = [stack.enter_context(_reader(network, representations)) for network in networks]
        for chunk in images.split(IMAGES_PER_PASS):  # type: ignore[no-untyped-call]
            pixels = normalise(chunk, augmentation)
            for part, read in zip(parts, readers, strict=True):
                part.append(read(pixels))
    return [[torch.cat(each) for each in zip(*part, strict=True)] for part in parts]


class _Reader:
    """Calls a network and returns its representations of a batch of pixels."""

    def __init__(self, network: Network, representations: Sequence[str]) -> None:
        self._network = network
        self._representations = representations
        # Models of timm have maps with channels first, last, or both in turn.
        self._any_layout = getattr(getattr(network, "encoder", None), "any_layout", False)
        self._pixels: Tensor | None = None
        self._seen: dict[str, Tensor] = {}

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        self._pixels, self._seen = pixels, {}
        found: Representations = self._network(pixels)
        self._seen |= {"h": found.h, "g": found.g}
        for name in self._representations:
            if name not in self._seen:
                raise ConfigError(
                    f"--representation: '{name}' is computed inside another layer, which does not "
                    "give its output"
                )
        return [self._seen[name] for name in self._representations]

    def keep(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        """Remember the output of a layer; a forward hook."""
        assert self._pixels is not None
        try:
            vectors = pooled(output, self._pixels.shape, any_layout=self._any_layout)
        except ValueError as error:
            raise ConfigError(f"--representation: '{name}' {error}") from error
        # At once and as a copy: what comes next may work in place.
        self._seen[name] = vectors.float().clone()


@contextmanager
def _reader(network: Network, representations: Sequence[str]) -> Iterator[_Reader]:
    reader = _Reader(network, representations)
    with ExitStack() as hooks:
        for name in set(representations) - {"h", "g"}:
            layer = layer_of(network, name)
            assert layer is not None  # `layers_asked` comes first
            hooks.callback(layer.register_forward_hook(partial(reader.keep, name)).remove)
        yield reader
