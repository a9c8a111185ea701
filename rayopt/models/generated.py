"""Rows made from an ONNX model's own inputs, for where there is no data: enough to prove equality and to time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from rayopt.data.dataset import Dataset, build
from rayopt.data.rows import Array, Columns
from rayopt.data.settings import SplitSettings
from rayopt.errors import StepError, input_error
from rayopt.models.onnx_model import DTYPES, predict, session
from rayopt.records import Artifact

ROWS = 64
SIZES = (32, 224, 64, 16, 128, 1)  # tried for the dimensions that a file leaves open
TOKENS = 100  # whole numbers stay below this: they may look up rows of a table


def generate(artifact: Artifact, seed: int, place: str) -> Dataset:
    """A data set without labels that the model runs on; raises InputError where none is found."""
    try:
        running = session(artifact)
    except StepError as error:
        raise input_error(place, str(error), "give `data:` if the model needs some; else export it again") from error
    inputs = running.get_inputs()
    generator = np.random.default_rng(seed)
    reason = "it has no inputs"
    for size, limit in itertools.product(SIZES, (TOKENS, 2)):
        arrays = {one.name: array for one in inputs for array in _array(one, size, limit, generator)}
        rows = Columns(arrays)
        if len(arrays) < len(inputs) or not arrays:
            break
        try:
            predict(running, rows[:2])
        except StepError as error:
            reason = str(error)
            continue
        return build("generated", rows, None, "unlabeled", SplitSettings(), seed, place, generated=True)
    raise input_error(place, f"no inputs could be made up for the model: {reason}", "give `data:`")


def _array(one: Any, size: int, limit: int, generator: np.random.Generator) -> Iterator[Array]:
    """Rows for one input; none for a type that cannot be made up."""
    if one.type not in DTYPES or not one.shape:
        return
    shape = (ROWS, *(dim if isinstance(dim, int) and dim > 0 else size for dim in one.shape[1:]))
    dtype = DTYPES[one.type]
    if dtype.startswith("float"):
        yield generator.normal(size=shape).astype(dtype)
    elif "mask" in one.name.lower():
        yield np.ones(shape, dtype)
    else:
        yield generator.integers(0, 2 if "type" in one.name.lower() else limit, shape).astype(dtype)
