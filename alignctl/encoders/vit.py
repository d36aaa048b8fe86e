"""torchvision's vision transformer, for any size of image and patch."""

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from alignctl.config.models import ViTConfig


class ViT(VisionTransformer):  # type: ignore[misc]
    """Images (B, 3, image_size, image_size) to class tokens (B, feature_dim); names as torchvision.

    Without dropout, as there: the forward pass has no randomness of its own.
    Source: Dosovitskiy et al. 2021.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(
            image_size=config.image_size,
            patch_size=config.patch_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            mlp_dim=config.mlp_dim,
            num_classes=1,
        )
        self.heads = nn.Identity()
        self.feature_dim = config.hidden_dim
