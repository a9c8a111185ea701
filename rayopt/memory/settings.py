"""What a user may say about a step whose memory is to be planned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rayopt.errors import InputError
from rayopt.runs.cache import parse_size
from rayopt.spec import Settings


def _parsed(given: int | str) -> int:
    if isinstance(given, int):
        size = given
    else:
        try:
            size = parse_size(given, "budget")
        except InputError as error:
            raise ValueError(f"{error.faults[0].problem}; {error.faults[0].remedy}") from error
    if size <= 0:
        raise ValueError("a budget is more than 0 bytes; write a size such as 800MB or 8GiB")
    return size


Budget = Annotated[int | str, AfterValidator(_parsed)]  # bytes, or a size such as 8GiB; bytes once it is checked


class OptimizerSettings(Settings):
    """`use`: sgd, adamw, or `package.module:factory`, which is called with the parameters and `args`."""

    use: str = Field("sgd", pattern=r"^(sgd|adamw|[\w.]+:\w+)$")
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    args: dict[str, float | int | bool | str] = Field({})


class StepSettings(Settings):
    """An optimizer's step: its rows over all workers, and what is given rather than planned."""

    batch_size: int = Field(32, ge=1)
    workers: int = Field(1, ge=1, le=4096)
    micro_batch: int | None = Field(None, ge=1)
    optimizer: OptimizerSettings = OptimizerSettings()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    activation_checkpointing: Literal["auto"] | bool = "auto"
