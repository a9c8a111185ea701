"""What a user may say about training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rayopt.spec import Settings

Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["contiguous", "channels_last"]


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


class OptimizerSettings(Settings):
    """`sgd` (Nesterov momentum), `adamw`, or `package.module:factory`, called `(parameters, lr=..., **args)`.

    lr: the peak of the schedule; 0.1 of `sgd` and 0.002 of `adamw` where nothing is said. foreach: whether a step takes
    all parameters at once, which is faster and takes more memory; None leaves it to torch.
    """

    use: str = "sgd"
    lr: float | None = Field(None, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(5e-4, ge=0)
    foreach: bool | None = None
    args: dict[str, Any] = Field({})

    @property
    def peak_lr(self) -> float:
        return self.lr or (2e-3 if self.use == "adamw" else 0.1)


class ScheduleSettings(Settings):
    """How the learning rate goes: up over the share `warmup` of all steps, then down by `use`."""

    use: Literal["one_cycle", "cosine", "linear", "constant"] = "one_cycle"
    warmup: float = Field(0.3, ge=0, lt=1)


class EarlyStopSettings(Settings):
    """Ends after `patience` epochs in which the selection split's metric got no better by more than `min_delta`."""

    patience: int = Field(5, ge=1)
    min_delta: float = Field(0.0, ge=0)


class CheckpointSettings(Settings):
    """After how many steps or seconds a checkpoint is written, whichever comes first; neither: at the end of epochs."""

    every_steps: int | None = Field(None, ge=1)
    every_s: float | None = Field(None, gt=0)


class MemorySettings(Settings):
    """What a step may take on one device, such as `8GiB`; how it is kept is planned before training begins."""

    budget: str | int


class TrainSettings(Settings):
    """A whole training. `batch_size` rows make a step of the optimizer, over all workers; `micro_batch` is how many a
    worker takes at once (None: all of its share).

    precision, layout: `auto` takes what a short measured probe finds fastest and the loss allows. ema: the decay of
    an average of the weights, which is then what is kept. keep: the weights of the epoch that did best on the
    selection split, or the last ones.
    """

    epochs: int = Field(8, ge=1, le=100_000)
    steps: int | None = Field(None, ge=1, description="ends after so many steps, whatever the epochs")
    batch_size: int = Field(32, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    precision: Literal["auto"] | Precision = "auto"
    layout: Literal["auto"] | Layout = "auto"
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    activation_checkpointing: bool = False
    compile: bool = False
    early_stop: EarlyStopSettings | None = None
    keep: Literal["best", "last"] = "best"
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    memory: MemorySettings | None = None

    @model_validator(mode="after")
    def _one_micro_batch(self) -> TrainSettings:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} is more than batch_size {self.batch_size}")
        return self
