"""Reading patterns: operands in either order, numbers beside values, products of several factors."""

from __future__ import annotations

import onnx_ir as ir

from rayopt.graph.passes import facts


def with_number(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """The value and the number of an operator of two inputs: either order for Mul and Add, else the number second."""
    if node is None or len(node.inputs) != 2:
        return None
    for place in (1, 0) if node.op_type in ("Mul", "Add", "Max", "Min") else (1,):
        number, value = facts.scalar(node.inputs[place]), node.inputs[1 - place]
        if number is not None and value is not None and _is_plain(node.inputs[place], value):
            return value, number
    return None


def _is_plain(number: ir.Value | None, value: ir.Value) -> bool:
    """Whether a number adds no axis to what it is beside: a list of one does to a scalar."""
    sizes = facts.dims(number)
    return sizes == () or (sizes == (1,) and bool(facts.rank(value)))


def inverted(value: ir.Value | None) -> ir.Value | None:
    """The x of 1 / x."""
    node = facts.made_by(value, "Reciprocal", "Div")
    if node is None or node.op_type == "Reciprocal":
        return None if node is None else node.inputs[0]
    one, below = node.inputs
    return below if below is not None and facts.scalar(one) == 1.0 and _is_plain(one, below) else None


def is_number(found: tuple[ir.Value, float] | None, number: float) -> bool:
    """Whether the number is this one, but for its rounding to half or single precision."""
    return found is not None and close(found[1], number)


def close(found: float | None, number: float) -> bool:
    return found is not None and abs(found - number) <= 5e-4 * abs(number) * (1 if abs(number) < 1e-4 else 0.01) + 1e-12


def pairs(node: ir.Node | None) -> list[tuple[ir.Value, ir.Value]]:
    """The two operands in both orders."""
    if node is None or len(node.inputs) != 2:
        return []
    first, second = node.inputs
    if first is None or second is None:
        return []
    return [(first, second), (second, first)]


def product(node: ir.Node) -> tuple[list[ir.Value], float]:
    """The factors of a tree of Mul and Div by numbers, whose inner results are used there alone, and their number."""
    factors, number, waiting = [], 1.0, [node]
    while waiting:
        one = waiting.pop()
        found = with_number(one)
        if found is not None:
            number *= found[1] if one.op_type == "Mul" else 1 / found[1] if found[1] else float("nan")
            parts = [found[0]]
        else:
            parts = [value for value in one.inputs if value is not None]
        for value in parts:
            inner = facts.made_by(value, "Mul", "Div")
            plain = inner is not None and (inner.op_type == "Mul" or with_number(inner) is not None)
            if inner is not None and plain and facts.used_once(value) and inner.graph is node.graph:
                waiting.append(inner)
            else:
                factors.append(value)
    return factors, number


def clip_range(node: ir.Node | None) -> tuple[float | None, float | None] | None:
    """The constant bounds of a Clip, None for one that it has not; None where a bound is no constant."""
    if not facts.is_op(node, "Clip") or node is None:
        return None
    if "min" in node.attributes or "max" in node.attributes:
        return facts.attribute(node, "min"), facts.attribute(node, "max")
    bounds = []
    for place in (1, 2):
        value = facts.given(node, place)
        number = facts.scalar(value)
        if value is not None and number is None:
            return None
        bounds.append(number)
    return bounds[0], bounds[1]
