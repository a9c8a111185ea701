"""The model: any function that returns a torch.nn.Module will do."""

from torch import nn


def build(hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(30, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 2),
    )
