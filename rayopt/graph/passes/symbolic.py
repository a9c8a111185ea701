"""Arithmetic on sizes: what a small integer tensor holds, number by number, as products of symbols.

A size is (factor, symbols): (12, ("i0d0",)) is 12 times the first size of the first input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import onnx_ir as ir

from rayopt.graph.passes import facts

Size = tuple[int, tuple[str, ...]]
Elements = list[Size | None] | None
Known = dict[tuple[ir.Value, int], Elements]
Of = Callable[[ir.Value | None], Elements]
TIMES = "·"  # no other symbol contains it
DEPTH = 40  # how far a chain of shape arithmetic is followed
MOST = 64  # numbers in a list, and symbols in a product


def size(dim: facts.Dim) -> Size:
    if isinstance(dim, int):
        return dim, ()
    factor, _, rest = dim.partition(TIMES)
    return (int(factor), tuple(rest.split(TIMES))) if rest else (1, (dim,))


def dim(one: Size) -> facts.Dim:
    """A size as a dim: the same product is the same symbol."""
    factor, symbols = one
    if not symbols:
        return factor
    return symbols[0] if one == (1, symbols[:1]) else TIMES.join((str(factor), *symbols))


def elements(value: ir.Value | None, depth: int = DEPTH, known: Known | None = None) -> Elements:
    """What a scalar or list of integers holds, None for an unknown number; None where its length is unknown.

    What was found on the way is `known`: a value that is used twice is followed once.
    """
    if value is None or depth == 0:
        return None
    known = {} if known is None else known
    if (value, depth) not in known:
        known[value, depth] = _elements(value, partial(elements, depth=depth - 1, known=known))
    return known[value, depth]


def _elements(value: ir.Value, of: Of) -> Elements:
    numbers = facts.ints(value)
    if numbers is not None:
        return [(one, ()) for one in numbers]
    node = value.producer()
    if node is None or node.domain or node.op_type not in RULES:
        return None
    found = RULES[node.op_type](node, of)
    return found if found is None or len(found) <= MOST else None


def times(left: Size | None, right: Size | None) -> Size | None:
    if left is None or right is None:
        return None
    return left[0] * right[0], tuple(sorted(left[1] + right[1]))


def product(sizes: Sequence[facts.Dim]) -> Size:
    parts = [size(one) for one in sizes]
    return math.prod(one[0] for one in parts), tuple(sorted(symbol for one in parts for symbol in one[1]))


def quotient(left: Size | None, right: Size | None) -> Size | None:
    """`left / right` where that is whole by its factors alone."""
    if left is None or right is None or right[0] == 0 or left[0] % right[0]:
        return None
    symbols = list(left[1])
    for one in right[1]:
        if one not in symbols:
            return None
        symbols.remove(one)
    return left[0] // right[0], tuple(symbols)


def target(
    source: Sequence[facts.Dim] | None, wanted: Sequence[facts.Dim] | None, filled: Collection[str]
) -> list[int] | None:
    """What Reshape must be told to make `wanted` of `source`, in numbers with 0 (as it is) and one -1.

    None where that takes more than one -1. An empty batch beside a -1 is the one thing that it cannot say: `filled` are
    the symbols that need not be 0.
    """
    if wanted is None or 0 in wanted:
        return None
    found = []
    for place, one in enumerate(wanted):
        if isinstance(one, int):
            found.append(one)
        else:
            found.append(0 if source is not None and place < len(source) and source[place] == one else -1)
    if -1 in found:
        kept = product([one for one, number in zip(wanted, found, strict=True) if number == 0])
        if not set(kept[1]) <= set(filled):
            return None
    return found if found.count(-1) <= 1 else None


def never_empty(node: ir.Node) -> set[str]:
    """The symbols in sizes that a Reshape names beside a -1, where it fails itself should one of them be 0.

    A 0 that it is told is the source's size at that place, which must then be 0 too.
    """
    told = elements(facts.given(node, 1)) if node.op_type == "Reshape" else None
    if told is None or (-1, ()) not in told:
        return set()
    found: set[str] = set()
    for one, old in zip(told, facts.dims(node.inputs[0]) or (), strict=False):
        symbols = set(size(old)[1])
        if one == (0, ()):
            found |= symbols
        elif one is not None and set(one[1]) <= symbols:
            found |= set(one[1])
    return found


def reshaped(source: Sequence[facts.Dim] | None, told: list[Size | None]) -> list[facts.Dim] | None:
    """The sizes that the Reshape makes; a -1 is what is left over."""
    found: list[facts.Dim | None] = []
    for place, one in enumerate(told):
        if one == (0, ()):
            found.append(source[place] if source is not None and place < len(source) else None)
        else:
            found.append(None if one is None or one == (-1, ()) else dim(one))
    if any(isinstance(one, int) and one <= 0 for one in found) or found.count(None) > 1:
        return None
    if None in found:
        place = found.index(None)
        if told[place] == (0, ()):
            return None
        rest = product([one for one in found if one is not None])
        left = quotient(product(source), rest) if source is not None and 0 not in source else None
        found[place] = f"?{next(facts.UNKNOWN)}" if left is None else dim(left)
    return [one for one in found if one is not None]


def _shape(node: ir.Node, of: Of) -> Elements:
    found = facts.dims(node.inputs[0])
    if found is None:
        return None
    start, end = facts.attribute(node, "start", 0), facts.attribute(node, "end", len(found))
    return [size(one) for one in found[start:end]]


def _gather(node: ir.Node, of: Of) -> Elements:
    data, places = of(node.inputs[0]), facts.ints(node.inputs[1])
    if data is None or places is None or facts.rank(node.inputs[0]) != 1:
        return None
    if any(not -len(data) <= one < len(data) for one in places):
        return None
    return [data[one] for one in places]


def _slice(node: ir.Node, of: Of) -> Elements:
    data = of(node.inputs[0])
    starts, ends = facts.ints(facts.given(node, 1)), facts.ints(facts.given(node, 2))
    steps = [1] if facts.given(node, 4) is None else facts.ints(node.inputs[4])
    if data is None or not starts or not ends or not steps or facts.rank(node.inputs[0]) != 1 or len(starts) != 1:
        return None
    return data[starts[0] : ends[0] : steps[0]] if steps[0] > 0 else None


def _concat(node: ir.Node, of: Of) -> Elements:
    parts = [of(value) for value in node.inputs]
    if any(part is None for part in parts):
        return None
    return [one for part in parts for one in part or []]


def _same(node: ir.Node, of: Of) -> Elements:
    if node.op_type == "Cast" and facts.attribute(node, "to") not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    if facts.rank(node.inputs[0]) not in (0, 1):
        return None
    return of(node.inputs[0])


def _mul(node: ir.Node, of: Of) -> Elements:
    return _both(node, of, _times)


def _times(left: Size | None, right: Size | None) -> Size | None:
    """A product that is no longer than a product of sizes is: squares of squares soon fill the memory."""
    if left is None or right is None or len(left[1]) + len(right[1]) > MOST or abs(left[0] * right[0]) >> 63:
        return None
    return times(left, right)


def _div(node: ir.Node, of: Of) -> Elements:
    return _both(node, of, quotient)


def _add(node: ir.Node, of: Of) -> Elements:
    sign = -1 if node.op_type == "Sub" else 1

    def plus(left: Size | None, right: Size | None) -> Size | None:
        if left is None or right is None or left[1] != right[1]:
            return None
        return left[0] + sign * right[0], left[1] if left[0] + sign * right[0] else ()

    return _both(node, of, plus)


def _both(node: ir.Node, of: Of, rule: Callable[[Size | None, Size | None], Size | None]) -> Elements:
    left, right = of(node.inputs[0]), of(node.inputs[1])
    if left is None or right is None or facts.dtype(node.outputs[0]) not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    count = max(len(left), len(right))
    if len(left) not in (1, count) or len(right) not in (1, count):
        return None
    return [rule(left[at % len(left)], right[at % len(right)]) for at in range(count)]


RULES = {
    "Shape": _shape, "Gather": _gather, "Slice": _slice, "Concat": _concat, "Cast": _same, "Unsqueeze": _same,
    "Squeeze": _same, "Reshape": _same, "Identity": _same, "Mul": _mul, "Div": _div, "Add": _add, "Sub": _add,
}  # fmt: skip
