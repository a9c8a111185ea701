"""What a user may say about quantisation and float16; the methods' parameters are these classes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from rayopt.spec import Settings

Calibration = Literal["minmax", "entropy", "percentile"]
DynamicOperator = Literal["MatMul", "Gemm", "Attention", "LSTM", "Gather", "Conv"]
StaticOperator = Literal["Conv", "Gemm", "MatMul", "ConvTranspose", "Gather"]

PER_CHANNEL = "a scale for each output channel instead of one for the tensor"
EXCLUDE = "names or patterns (`*`, `?`) of nodes that stay in float"
REDUCE_RANGE = "7-bit weights: for x86 without VNNI, where sums of 8-bit products saturate"


class DynamicSettings(Settings):
    """Quantisation that needs no data: activations get their ranges as they come."""

    operators: tuple[DynamicOperator, ...] = Field(
        ("MatMul", "Gemm", "Attention", "LSTM"),
        min_length=1,
        description="layers to quantise; Gather (embeddings) is for size alone, and Conv gets many times slower",
    )
    weights: Literal["int8", "uint8"] = Field("int8", description="type of the weights")
    per_channel: bool = Field(True, description=PER_CHANNEL)
    reduce_range: bool = Field(False, description=REDUCE_RANGE)
    exclude: tuple[str, ...] = Field((), description=EXCLUDE)


class StaticSettings(Settings):
    """Quantisation whose activation ranges come from calibration rows.

    `reduce_range` is not found out from this machine's processor: the same job gives the same file on every machine.
    """

    operators: tuple[StaticOperator, ...] = Field(
        ("Conv", "Gemm", "MatMul"),
        min_length=1,
        description="layers to quantise; ConvTranspose is for size, it gets slower",
    )
    format: Literal["qdq", "qoperator"] = Field("qdq", description="how the file says what is quantised")
    activations: Literal["uint8", "int8", "uint16"] = Field(
        "uint8", description="type of the activations; int8 is for ARM, uint16 exact but run in float"
    )
    weights: Literal["int8", "uint8"] = Field("int8", description="type of the weights; uint8 never saturates")
    per_channel: bool = Field(True, validate_default=True, description=PER_CHANNEL)
    reduce_range: bool = Field(False, description=REDUCE_RANGE)
    symmetric: bool = Field(False, description="activation ranges symmetric about zero, as some accelerators want")
    calibration: Calibration = Field("minmax", description="how ranges are found")
    percentile: float = Field(99.99, gt=50, le=100, description="share of the values inside the range, in percent")
    exclude: tuple[str, ...] = Field((), description=EXCLUDE)

    @field_validator("activations")
    @classmethod
    def _only_qdq_has_16_bits(cls, value: str, info: ValidationInfo) -> str:
        if value == "uint16" and info.data.get("format") == "qoperator":
            raise ValueError("uint16 needs format: qdq")
        return value

    @field_validator("per_channel")
    @classmethod
    def _only_qdq_has_unsigned_channels(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("weights") == "uint8" and info.data.get("format") == "qoperator":
            raise ValueError("uint8 weights per channel need format: qdq")
        return value

    @field_validator("weights")
    @classmethod
    def _signs_fit(cls, value: str, info: ValidationInfo) -> str:
        if value == "uint8" and info.data.get("activations") == "int8":
            raise ValueError("int8 activations need int8 weights")
        return value


class BlockSettings(Settings):
    """Weight-only quantisation in blocks along the inner dimension."""

    bits: Literal[4, 8] = Field(4, description="bits of a weight")
    block_size: Literal[16, 32, 64, 128] = Field(32, description="weights that share a scale")
    symmetric: bool = Field(True, description="no zero points")
    accuracy_level: Literal[0, 1, 4] = Field(4, description="computes in: 4 int8 (fastest), 1 float32, 0 as it likes")
    exclude: tuple[str, ...] = Field((), description=EXCLUDE)


class HalfSettings(Settings):
    """Conversion to float16."""

    weights_only: bool = Field(
        False, description="weights are stored in float16 and computed with in float32: half the file at the same speed"
    )
    exclude: tuple[str, ...] = Field((), description=EXCLUDE)
