"""What the inputs of a model may be fed with: types, shapes with named axes, and the range of whole numbers.

A number that is looked up in a table must lie within it, and one that conditions compare takes the values that they
name: what the graph says decides.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt.graph.edges import thresholds, values
from rayopt.graph.structure import graphs_of
from rayopt.graph.verdicts import Refused
from rayopt.graph.weight_numbers import stand_ins

Array = np.ndarray[Any, Any]
DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "int64": "int64", "int32": "int32",
    "int16": "int16", "int8": "int8", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "bool": "bool", "string": "str",
}  # fmt: skip
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
PASSING = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Expand", "Concat")
MAX_ELEMENTS = 1 << 22  # of an input whose axes we choose
VALUES = (8, 32, 5, 16, 64, 128, 224, 256, 320, 512, 640, 1024, 2048, 1536, 3, 2, 1, 4, 7, 10, 12, 24, 48, 76, 80,
          96, 100, 160, 384, 400, 480, 1280, 4096, 16000)  # fmt: skip
BATCHES = (2, 1, 3)


@dataclass(frozen=True)
class Input:
    """One input: a symbol in `shape` is an axis of any size. Whole numbers lie in [0, high), or are one of `pool`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    high: int | None = None
    pool: tuple[int, ...] = ()
    default: Array | None = None  # of an initialiser that callers may override
    near: tuple[float, ...] = ()  # thresholds of the model
    weight: bool = False  # of a large model: other numbers stand in for it


@dataclass(frozen=True)
class Probe:
    """All that decides what a model is fed with; JSON-able as it is."""

    seed: int
    dims: Mapping[str, int]
    picks: int = 0  # which of the pool
    high: int = 10  # of whole numbers about which the graph says nothing
    edge: str = ""  # of its values, see `edges`


def inputs_of(
    running: Any, model: Any, defaults: Mapping[str, Array], weights: frozenset[str] = frozenset()
) -> tuple[Input, ...]:
    """The inputs of a session of `model`; raises Refused for what cannot be made up."""
    graphs = list(graphs_of(model))
    highs, near = _table_sizes(model.graph.input, graphs), thresholds(graphs)
    compared = _compared(graphs) if any("int" in one.type for one in running.get_inputs()) else ()
    found = []
    for one in running.get_inputs():
        kind = one.type.removeprefix("tensor(").removesuffix(")")
        if not one.type.startswith("tensor(") or kind not in DTYPES:
            raise Refused("not_comparable", f"the input {one.name!r} is of type {one.type}")
        shape = tuple(
            dim if isinstance(dim, int) and dim >= 0 else (dim if isinstance(dim, str) else f"{one.name}#{axis}")
            for axis, dim in enumerate(one.shape)
        )
        single = all(dim == 1 for dim in shape)
        pool = _held(compared, DTYPES[kind]) if single and DTYPES[kind].startswith(("int", "uint")) else ()
        given = defaults.get(one.name)
        high, weight = highs.get(one.name), one.name in weights
        found.append(Input(one.name, DTYPES[kind], shape, high, pool, given, near, weight))
    return tuple(found)


def feed(inputs: Sequence[Input], probe: Probe) -> dict[str, Any]:
    """Values for every input, the same on every machine."""
    weights = ((one.name, one.dtype, tuple(map(int, one.shape))) for one in inputs if one.weight)
    return {one.name: _values(one, probe) for one in inputs if not one.weight} | stand_ins(weights, probe.seed)


def _values(one: Input, probe: Probe) -> Any:
    generator = np.random.default_rng([probe.seed, zlib.crc32(one.name.encode())])
    shape = tuple(probe.dims[dim] if isinstance(dim, str) else dim for dim in one.shape)
    if probe.edge and one.default is None and not one.weight and one.dtype != "str":
        found = values(probe.edge, one, shape, generator)
        if found is not None:
            return found
    if one.default is not None and (probe.seed == 0 or one.default.dtype.kind not in "f"):
        return one.default
    if one.default is not None:
        return (one.default * generator.uniform(0.5, 1.5, one.default.shape)).astype(one.default.dtype)
    if one.dtype == "bool":
        return np.asarray(generator.random(shape) < 0.5)
    if one.dtype == "str":
        return np.asarray(generator.choice(["", "a", "rayopt", "Zürich", "0"], shape), dtype=object)
    if one.dtype.startswith(("int", "uint")):
        if one.pool:
            return np.full(shape, one.pool[(probe.picks + probe.seed) % len(one.pool)], one.dtype)
        high = one.high or (256 if one.dtype == "uint8" else probe.high)
        return generator.integers(0, min(high, np.iinfo(one.dtype).max), shape).astype(one.dtype)
    if probe.seed % 3 == 0:
        return generator.random(shape).astype(one.dtype)
    return (generator.normal(size=shape) * (1 if probe.seed % 3 == 1 else 3)).astype(one.dtype)


def assignments(inputs: Sequence[Input]) -> Iterator[dict[str, int]]:
    """Sizes for all axes that have none, likely ones first: batches of two, other axes of different sizes."""
    symbols = list(dict.fromkeys(dim for one in inputs for dim in one.shape if isinstance(dim, str)))
    if not symbols:
        yield {}
        return
    batches = {one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], str)}
    others = [name for name in symbols if name not in batches]
    seen = set()
    for size in VALUES:
        for batch in BATCHES:
            for pattern in _patterns(others, size, batch):
                dims = dict.fromkeys(batches, batch) | pattern
                key = tuple(sorted(dims.items()))
                if key not in seen and _elements(inputs, dims) <= MAX_ELEMENTS:
                    seen.add(key)
                    yield dims
    for size in VALUES:  # all axes alike, first ones too
        if _elements(inputs, dict.fromkeys(symbols, size)) <= MAX_ELEMENTS:
            yield dict.fromkeys(symbols, size)


def emptied(inputs: Sequence[Input], dims: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The same sizes with no batch, and then with nothing along the other axes."""
    batches = {one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], str)}
    for gone in (batches, dims.keys() - batches):
        if gone:
            yield {name: 0 if name in gone else size for name, size in dims.items()}


def enlarged(inputs: Sequence[Input], dims: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The same sizes with all axes but the batch's 8, 4 and 2 times as long, multiples of what they were."""
    batches = {one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], str)}
    for factor in (8, 4, 2):
        larger = {name: size if name in batches else factor * size for name, size in dims.items()}
        if larger != dict(dims) and _elements(inputs, larger) <= MAX_ELEMENTS // 4:
            yield larger


def resized(inputs: Sequence[Input], dims: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The same sizes, but each likely one for all axes that are not as long as the batch; as they are without those."""
    batches = {dims[one.shape[0]] for one in inputs if one.shape and isinstance(one.shape[0], str)}
    others = [name for name, size in dims.items() if size not in batches]
    for size in sorted(VALUES) if others else ():
        found = {**dims, **dict.fromkeys(others, size)}
        if _elements(inputs, found) <= MAX_ELEMENTS // 16:
            yield found
    if not others:
        yield dict(dims)


def _patterns(others: Sequence[str], size: int, batch: int) -> Iterator[dict[str, int]]:
    yield {name: size * (index + 1) for index, name in enumerate(others)}
    yield dict.fromkeys(others, size)
    for mask in range(1, min(1 << len(others), 16)):  # some of them are the batch under another name
        yield {name: batch if mask >> index & 1 else size for index, name in enumerate(others)}


def _elements(inputs: Sequence[Input], dims: Mapping[str, int]) -> int:
    shapes = [[dims[dim] if isinstance(dim, str) else dim for dim in one.shape] for one in inputs if not one.weight]
    return max(map(math.prod, shapes), default=0)


def _table_sizes(inputs: Sequence[Any], graphs: Sequence[Any]) -> dict[str, int]:
    """How large the smallest table is that each input is looked up in, by the inputs that are."""
    rows = {}
    for graph in graphs:
        for one in getattr(graph, "initializer", ()):
            rows[one.name] = tuple(one.dims)
    found: dict[str, int] = {}
    sources = {one.name: {one.name} for one in inputs}
    for graph in graphs:
        for node in graph.node:
            operator = node.op_type
            if operator in PASSING:
                reached = set().union(*(sources.get(name, set()) for name in node.input[:1] if name))
                for name in node.output[:]:
                    sources[name] = sources.get(name, set()) | reached
            elif operator in ("Gather", "GatherND") and len(node.input) > 1 and node.input[0] in rows:
                axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
                shape = rows[node.input[0]]
                for name in sources.get(node.input[1], ()):
                    if -len(shape) <= axis < len(shape):
                        found[name] = min(found.get(name, 1 << 62), shape[axis])
    return found


def _held(numbers: Sequence[int], dtype: str) -> tuple[int, ...]:
    """Those that a type can hold."""
    info = np.iinfo(dtype)
    return tuple(one for one in numbers if info.min <= one <= info.max)


def _compared(graphs: Sequence[Any]) -> tuple[int, ...]:
    """Whole numbers that conditions compare something with, the likeliest values of a switch; then small ones."""
    from onnx import numpy_helper

    constants: dict[str, int] = {}
    for graph in graphs:
        tensors = [(one.name, one) for one in getattr(graph, "initializer", ())]
        for node in graph.node:
            if node.op_type == "Constant":
                name = node.output[0]
                tensors += [(name, one.t) for one in node.attribute if one.name == "value"]
                constants.update((name, one.i) for one in node.attribute if one.name == "value_int")
        for name, tensor in tensors:
            if tensor.data_type in (6, 7, 1, 11) and tensor.data_location != 1 and math.prod(tensor.dims) == 1:
                number = float(numpy_helper.to_array(tensor).ravel()[0])
                if number == number and abs(number) < 1 << 31 and number == int(number):
                    constants[name] = int(number)
    found = []
    for graph in graphs:
        for node in graph.node:
            if node.op_type in COMPARISONS:
                found += [constants[name] for name in node.input if name in constants]
    beside = [number + step for number in found for step in (1, -1)]
    return tuple(dict.fromkeys([*found, 1, 2, 0, 16, *beside]))[:24]
