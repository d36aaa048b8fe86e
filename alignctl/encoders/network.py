"""Encoder plus projector: the part of a model that every objective starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alignctl.encoders.projector import Projector
from alignctl.encoders.tokens import tokens


@dataclass(frozen=True)
class Representations:
    """h (N, feature_dim), the encoder's output, and g (N, output_dim), the projector's."""

    h: Tensor
    g: Tensor


class Network(nn.Module):
    """Images (N, 3, H, W) to representations, encoder and projector under one precision."""

    def __init__(
        self, encoder: nn.Module, projector: Projector, *, bfloat16: bool, channels_last: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self._bfloat16 = bfloat16
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, images: Tensor) -> Representations:
        """h and g in at least float32, computed under bfloat16 autocast where the study says so."""
        with self._precision(images):
            h = self.encoder(images.contiguous(memory_format=self._format))
            g = self.projector(h)
        return Representations(h=_at_least_float32(h), g=_at_least_float32(g))

    def tokens(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """The encoder's tokens (N, 1 + k, width) in at least float32, computed as `forward` does.

        keep: (N, k) int64, the patches that the encoder sees; see `alignctl.encoders.tokens`.
        Raises ConfigError for an encoder without tokens.
        """
        with self._precision(images):
            found = tokens(self.encoder, images.contiguous(memory_format=self._format), keep)
        return _at_least_float32(found)

    def _precision(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self._bfloat16)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
