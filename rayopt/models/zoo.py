"""Models that ship with rayopt, for examples and tests; each is a plain factory, named in a job as any other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def resnet(channels: int = 1, classes: int = 10, widths: Sequence[int] = (48, 64, 64)) -> nn.Module:
    """A residual CNN for small images (He et al., 2016, section 4.2): two blocks for each width.

    In: `(batch, channels, height, width)`, 8 x 8 and larger. Out: logits `(batch, classes)`.
    """
    return ResNet(channels, classes, widths)


def mlp(features: int, outputs: int, hidden: int = 128, layers: int = 2) -> nn.Module:
    """A perceptron with ReLU: `(batch, features)` to `(batch, outputs)`."""
    sizes = [features, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], outputs))


class ResNet(nn.Module):
    """A stem, one pair of blocks per width (halving the image at each new width), and a linear head."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = _convolution(channels, widths[0])
        blocks: list[nn.Module] = []
        before = widths[0]
        for index, width in enumerate(widths):
            blocks += [Block(before, width, stride=1 if index == 0 else 2), Block(width, width)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(torch.relu(self.stem(images)))  # (batch, width, h, w)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))  # (batch, classes)
        return logits


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(before, width, stride)
        self.second = _convolution(width, width)
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(before, width, stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def _convolution(before: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Module:
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))
