"""What a user may say about training."""

from __future__ import annotations

from pydantic import Field

from rayopt.spec import Settings


class FitSettings(Settings):
    """How long and how fast to train; `lr` is the peak of the one-cycle schedule (Smith and Topin, 2018)."""

    epochs: int = Field(8, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)


class RecoverySettings(FitSettings):
    """How a changed model is trained to follow the original again."""

    epochs: int = Field(12, ge=1, le=100_000)
    alpha: float = Field(
        0.5, ge=0, le=1, description="weight of following the original; the rest is the task's own loss"
    )
    temperature: float = Field(4.0, gt=0, description="softens both models' classes before they are compared")
