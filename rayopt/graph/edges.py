"""Values at the edges of what an input may be: where rewrites go wrong that likely values do not show.

Zeros, ones, large and negative numbers, those beside the thresholds of the model, NaN and infinity, the lowest finite
number (what masks are made of), and axes without an element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rayopt.graph.inputs import Input

Array = np.ndarray[Any, Any]
Generator = np.random.Generator
OFF, ZEROS, ONES, LARGE, NEAR, SPECIAL, LOWEST, LOW, EMPTY, BESIDE = (
    "off", "zeros", "ones", "large", "near", "special", "lowest", "rather low", "empty", "beside",
)  # fmt: skip
BOUNDING = ("Clip", "Min", "Max", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
MANY_WHOLE = 1000  # how far from 0 whole numbers lie about which the graph says nothing
FARTHEST = 1e6  # a threshold that counts
MOST_THRESHOLDS = 32
LESS = 2.0**-10  # of the lowest number: as low to a mask, but sums of it do not overflow
DROWNED = 1e30  # beside the lowest numbers nothing larger than this is compared: what overflows depends on the order


def edges(inputs: Sequence[Input]) -> Iterator[str]:
    """The edges at which inputs have other values than elsewhere."""
    floats = [one for one in inputs if one.dtype.startswith("float") and one.default is None and not one.weight]
    whole = [one for one in inputs if one.dtype.startswith(("int", "uint"))]
    if whole or any(one.dtype == "bool" for one in inputs):
        yield OFF
    if floats:
        yield from (ZEROS, ONES, SPECIAL)
    if floats or whole:
        yield LARGE
    if any(one.near for one in (*floats, *whole)):
        yield NEAR
    if len(floats) > 1:
        yield from (f"{LOWEST} {one.name}" for one in floats[:4])
    elif floats:
        yield f"{LOWEST} {floats[0].name}"


def values(edge: str, one: Input, shape: tuple[int, ...], generator: Generator) -> Array | None:
    """What an input is at an edge; None where that is nothing special."""
    if one.dtype == "bool":
        return {OFF: np.zeros, ZEROS: np.ones}[edge](shape, bool) if edge in (OFF, ZEROS) else None
    if edge.startswith((LOWEST, LOW)):
        share = {f"{LOWEST} {one.name}": 1.0, f"{LOW} {one.name}": LESS}.get(edge)
        return None if share is None else _low(one, shape, generator, share * float(np.finfo(one.dtype).min))
    if edge.startswith(BESIDE):
        number = float(edge.removeprefix(BESIDE))
        return np.full(shape, number, one.dtype) if one.dtype.startswith("float") else None
    makers = FLOATS if one.dtype.startswith("float") else SWITCH if one.pool else WHOLE
    maker = makers.get(edge)
    found = maker(one, shape, generator) if maker is not None else None
    return None if found is None else np.asarray(found).astype(one.dtype)


def all_beside(inputs: Sequence[Input]) -> Iterator[str]:
    """The edges at which every number is one beside a threshold."""
    near = next((one.near for one in inputs if one.dtype.startswith("float")), ())
    yield from (f"{BESIDE} {number + step}" for number in near for step in (-1, 1))


def moderate(wanted: Any) -> Any:
    """Where an output of a probe of the lowest numbers is worth comparing."""
    return np.abs(wanted, where=np.isfinite(wanted), out=np.full(np.shape(wanted), np.inf, wanted.dtype)) < DROWNED


def thresholds(graphs: Sequence[Any]) -> tuple[float, ...]:
    """The numbers that bounds and comparisons of a model's graphs name, from those nearest to 0 on."""
    from onnx import numpy_helper

    tensors: dict[str, Any] = {}
    named: set[str] = set()
    for graph in graphs:
        tensors.update((one.name, one) for one in getattr(graph, "initializer", ()))
        for node in graph.node:
            if node.op_type == "Constant":
                tensors.update((node.output[0], one.t) for one in node.attribute if one.name == "value")
            elif node.op_type in BOUNDING:
                named.update(node.input)
    found: set[float] = set()
    for name in sorted(named & tensors.keys()):
        tensor = tensors[name]
        if (
            tensor.data_location != 1
            and np.prod(tensor.dims, dtype=np.int64) <= 8
            and tensor.data_type in (1, 6, 7, 10, 11)
        ):
            found.update(float(number) for number in numpy_helper.to_array(tensor).ravel())
    return tuple(sorted((one for one in found if abs(one) <= FARTHEST), key=lambda one: (abs(one), one)))[
        :MOST_THRESHOLDS
    ]


def _low(one: Input, shape: tuple[int, ...], generator: Generator, low: float) -> Array:
    found = generator.normal(size=shape).astype(one.dtype)
    rows = generator.random((*shape[:-1], 1)[: len(shape)]) < 0.5
    rows.flat[:1] = True
    return np.where(rows, low, found).astype(one.dtype)


def _large(one: Input, shape: tuple[int, ...], generator: Generator) -> Array:
    return generator.normal(size=shape) * (100 if one.dtype == "float16" else 1e4)


def _near(one: Input, shape: tuple[int, ...], generator: Generator) -> Array | None:
    if not one.near:
        return None
    around = np.array([number + step for number in one.near for step in (-1, 0, 1)])
    return _within(one, generator.choice(around, shape))


def _special(one: Input, shape: tuple[int, ...], generator: Generator) -> Array:
    """Every eighth number is NaN, infinite, or a zero of either sign."""
    kinds = generator.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], shape)
    found = np.where(generator.random(shape) < 0.125, kinds, generator.normal(size=shape))
    few = (np.nan, np.inf, -np.inf, -0.0)[: max(1, found.size // 2)]
    found.flat[: len(few)] = few[: found.size]
    return found


def _negative(one: Input, shape: tuple[int, ...], generator: Generator) -> Array:
    high = one.high or min(MANY_WHOLE, np.iinfo(one.dtype).max)
    low = -high if one.dtype.startswith("int") else 0
    return generator.integers(low, high, shape)


def _within(one: Input, numbers: Array) -> Array:
    """The numbers that the type can hold, and the table that they are looked up in."""
    if one.dtype.startswith("float"):
        return numbers
    info = np.iinfo(one.dtype)
    low, high = (0, one.high - 1) if one.high else (info.min, info.max)
    return np.clip(numbers, low, high)


def _all(number: float) -> Callable[[Input, tuple[int, ...], Generator], Array]:
    return lambda one, shape, generator: np.full(shape, number)


Maker = Callable[["Input", tuple[int, ...], Generator], Array | None]
FLOATS: dict[str, Maker] = {ZEROS: _all(0.0), ONES: _all(1.0), LARGE: _large, NEAR: _near, SPECIAL: _special}
SWITCH: dict[str, Maker] = {
    OFF: lambda one, shape, _: np.full(shape, min(one.pool)),
    LARGE: lambda one, shape, _: np.full(shape, max(one.pool)),
}
WHOLE: dict[str, Maker] = {OFF: _all(0), LARGE: _negative, NEAR: _near}
