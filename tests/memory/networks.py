"""Small models of the kinds that predictions are held against the allocator on, and their steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rayopt.memory.steps import TrainingSteps, steps_of
from rayopt.models import zoo
from rayopt.training.learner import TaskObjective
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays

CPU = torch.device("cpu")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embed(tokens)).mean(1))
        return logits


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(x)[0][:, -1])
        return logits


class Picky(nn.Module):
    """What it does depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits if int((x > 0).sum().item()) % 2 else logits * 1


def steps(name: str, settings: TrainSettings | None = None) -> TrainingSteps:
    """A model's training on random rows."""
    build, rows = MODELS[name]
    torch.manual_seed(0)
    x = rows(80)
    data = Arrays(x.numpy(), (torch.arange(80) % 3).numpy())
    return steps_of(build(), TaskObjective(), data, settings or TrainSettings(optimizer={"use": "adamw"}), CPU)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (lambda: zoo.mlp(6, 3, 32), lambda rows: torch.rand(rows, 6)),
    "resnet": (lambda: zoo.resnet(1, 3, (8, 16)), lambda rows: torch.rand(rows, 1, 8, 8)),
    "attention": (Attention, lambda rows: torch.randint(0, 50, (rows, 7))),
    "recurrent": (Recurrent, lambda rows: torch.rand(rows, 5, 8)),
    "picky": (Picky, lambda rows: torch.rand(rows, 6)),
}
