"""Numbers that stand in for the weights of a large model: views of one buffer, each beginning at a place of its own.

They take the memory of the largest weight alone. Those that are multiplied by are spread as a layer's are (LeCun et
al., 1998), so that no product grows or fades; vectors are positive, as variances and scales have to be.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PLACES = 65_521  # a prime number: weights begin at one of so many elements
VECTOR = -1


def stand_ins(weights: Iterable[tuple[str, str, tuple[int, ...]]], seed: int) -> dict[str, Array]:
    """By name the numbers for weights of a name, dtype and shape, the same on every machine."""
    kinds = {name: (dtype, shape, _spread(shape)) for name, dtype, shape in weights}
    longest: dict[tuple[str, int], int] = {}
    for dtype, shape, spread in kinds.values():
        longest[dtype, spread] = max(longest.get((dtype, spread), 0), math.prod(shape))
    return {
        name: _view(_numbers(dtype, spread, longest[dtype, spread] + PLACES), shape, f"{name}:{seed}")
        for name, (dtype, shape, spread) in kinds.items()
    }


def buffers_bytes(tensors: Mapping[str, Any]) -> int:
    """The memory that the numbers for these tensors of a file take."""
    from onnx import helper

    longest: dict[tuple[int, int], int] = {}
    for one in tensors.values():
        kind = (one.data_type, _spread(tuple(one.dims)))
        longest[kind] = max(longest.get(kind, 0), math.prod(one.dims))
    return sum(helper.tensor_dtype_to_np_dtype(kind).itemsize * size for (kind, _), size in longest.items())


def _view(numbers: Array, shape: tuple[int, ...], place: str) -> Array:
    start = zlib.crc32(place.encode()) % PLACES
    return numbers[start : start + math.prod(shape)].reshape(shape)


def _spread(shape: tuple[int, ...]) -> int:
    """Of how many products a sum is, as a power of 4; VECTOR where none are summed."""
    if sum(dim != 1 for dim in shape) < 2:
        return VECTOR
    summed = math.prod(shape[1:]) if len(shape) > 3 else shape[-2]
    return round(math.log(max(1, summed), 4))


@lru_cache(maxsize=8)
def _numbers(dtype: str, spread: int, count: int) -> Array:
    generator = np.random.default_rng(0)
    if not dtype.startswith("float"):
        return generator.integers(0, 4, count, dtype)
    found = np.empty(count, dtype)
    for start in range(0, count, 1 << 20):  # a piece at a time, for what is not float32
        piece = found[start : start + (1 << 20)]
        if spread == VECTOR:
            piece[:] = generator.random(piece.size, np.float32) + np.float32(0.5)
        else:
            piece[:] = generator.standard_normal(piece.size, np.float32) * np.float32(2.0**-spread)
    return found
