"""ResNets of torchvision's blocks: any width, with a stem for small images."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from alignctl.config.encoder_configs import ResNetConfig

_LAYOUTS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """Images (B, 3, H, W) to pooled features (B, feature_dim); names as in torchvision.

    Source: He et al. 2016; stem for small images as in Chen et al. 2020 (SimCLR), appendix B.9.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        block, depths = _LAYOUTS[config.name]
        planes = [max(1, round(base * config.width)) for base in (64, 128, 256, 512)]
        self.feature_dim = planes[3] * block.expansion
        small = config.stem == "small_image"
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        self.conv1 = nn.Conv2d(3, planes[0], kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        inputs = planes[0]
        for index, (width, depth) in enumerate(zip(planes, depths, strict=True)):
            stage = _stage(block, inputs, width, depth, stride=1 if index == 0 else 2)
            self.add_module(f"layer{index + 1}", stage)
            inputs = width * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features, (B, feature_dim)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for index in range(1, 5):
            maps = self.get_submodule(f"layer{index}")(maps)
        pooled: Tensor = torch.flatten(self.avgpool(maps), 1)
        return pooled


def _stage(
    block: type[BasicBlock | Bottleneck], inputs: int, planes: int, depth: int, *, stride: int
) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    first = block(inputs, planes, stride, shortcut)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(depth - 1)))


def _initialise(module: nn.Module) -> None:
    """torchvision's: He for convolutions; batch norms start as the identity by themselves."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
