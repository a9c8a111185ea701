"""The torch networks that the graph corpus exports: seeded, in evaluation mode, with a dynamic batch."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSETS = {"ts": 17, "dynamo": 18}


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., 2018): widen, filter each channel by itself, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        inner = inputs * widen
        layers: list[nn.Module] = [] if widen == 1 else [*_conv(inputs, inner, 1)]
        layers += [*_conv(inner, inner, 3, stride, inner), nn.Conv2d(inner, outputs, 1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:  # (batch, inputs, height, width)
        return x + self.layers(x) if self.shortcut else self.layers(x)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:  # (batch, steps, features)
        return self.head(self.lstm(x)[0][:, -1])


def mlp() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(
        nn.Linear(32, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.GELU(),
        nn.LayerNorm(64), nn.Linear(64, 10),
    ), torch.randn(2, 32)  # fmt: skip


def lenet() -> tuple[nn.Module, Tensor]:
    """LeCun et al. (1998), with rectified units."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ), torch.randn(2, 1, 28, 28)  # fmt: skip


def mobilenetv2() -> tuple[nn.Module, Tensor]:
    blocks = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers, width = [*_conv(3, 32, 3, 2)], 32
    for widen, outputs, count, stride in blocks:
        for turn in range(count):
            layers.append(InvertedResidual(width, outputs, stride if turn == 0 else 1, widen))
            width = outputs
    layers += [*_conv(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers), torch.randn(2, 3, 96, 96)


def encoder4() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.randn(2, 12, 64)


def lstm() -> tuple[nn.Module, Tensor]:
    return Lstm(), torch.randn(2, 8, 16)


def export(name: str, exporter: str, path: Path) -> None:
    """Writes the network `name` as one ONNX file, its weights inside."""
    torch.manual_seed(0)
    build: Any = globals()[name]
    module, example = build()
    module = _settled(module).eval()
    common: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "opset_version": OPSETS[exporter]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "ts":
            axes = {"input": {0: "batch"}, "output": {0: "batch"}}
            torch.onnx.export(module, (example,), str(path), dynamo=False, dynamic_axes=axes, **common)
        else:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                module, (example,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False,
                **common,
            )  # fmt: skip


def _settled(module: nn.Module) -> nn.Module:
    """Batch norms with statistics that change something, as after training."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[operator,union-attr]
            part.running_var.uniform_(0.7, 1.3)  # type: ignore[operator,union-attr]
    return module


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU6()
