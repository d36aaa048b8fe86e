"""The projection head between an encoder and an objective."""

from torch import nn

from alignctl.config.encoder_configs import ProjectorConfig


class Projector(nn.Sequential):
    """Features (B, d) to projections (B, output_dim): linear, norm, ReLU, linear, norm.

    Neither linear map has a bias, and the last batch norm's bias stays zero.
    """

    def __init__(self, feature_dim: int, config: ProjectorConfig) -> None:
        last = nn.BatchNorm1d(config.output_dim)
        last.bias.requires_grad_(False)
        super().__init__(
            nn.Linear(feature_dim, config.hidden_dim, bias=False),
            nn.BatchNorm1d(config.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden_dim, config.output_dim, bias=False),
            last,
        )
