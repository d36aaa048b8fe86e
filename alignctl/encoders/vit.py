"""timm's vision transformer, for any size of image and patch."""

from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionsTransformer

from alignctl.config.encoder_configs import ViTConfig
from alignctl.encoders.torchvision_names import with_timm_names


class ViT(VisionTransformer):
    """Images (B, 3, image_size, image_size) to class tokens (B, feature_dim); names as in timm.

    Without dropout: the forward pass has no randomness of its own.
    Source: Dosovitskiy et al. 2021; ViT-B/16 where sizes are its own.
    """

    def __init__(self, config: ViTConfig) -> None:
        with torch.device("meta"):  # its initial weights are made below
            super().__init__(
                img_size=config.image_size,
                patch_size=config.patch_size,
                depth=config.num_layers,
                num_heads=config.num_heads,
                embed_dim=config.hidden_dim,
                # timm rounds the product of width and ratio down
                mlp_ratio=(config.mlp_dim + 0.5) / config.hidden_dim,
                num_classes=0,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                act_layer=nn.GELU,
                weight_init="skip",
            )
        self.feature_dim = config.hidden_dim
        self.load_state_dict(_initial_weights(config), assign=True)


def _initial_weights(config: ViTConfig) -> dict[str, Tensor]:
    """torchvision's for its own transformer, of which the original study's networks are made.

    Xavier for Q, K and V together and for the MLP, whose biases have a deviation of 1e-6; a normal
    distribution, truncated at 2, of variance 1 / (3 patch_size^2) for patches, and one of deviation
    0.02 for positions; zero for the class token. timm draws other ones.
    """
    transformer = TorchvisionsTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        mlp_dim=config.mlp_dim,
        num_classes=1,
    )
    transformer.heads = nn.Identity()
    return with_timm_names(transformer.state_dict())
