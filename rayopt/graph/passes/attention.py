"""softmax(q k^T * scale + mask) v of four axes becomes Attention (Vaswani et al., 2017).

Where q, k and v are heads cut out of (batch, tokens, width) and the result is put together again, the operator does
that as well. The scale may be a number on q, on k or on their product; inner results may be used here alone.

A mask must be a constant that leaves each token something to look at: of a row that is masked altogether the runtime's
operator makes zeros, softmax a mean or NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from rayopt.graph.passes import facts, match, rewrite

opset, dims = 23, True
needs = ("Softmax", "Attention")
FLOATS = (ir.DataType.FLOAT,)
HEADS = [0, 2, 1, 3]
MASKED = -1e30  # what is as low as that may be a masked place


class Parts(NamedTuple):
    q: ir.Value  # (batch, heads, tokens, size)
    k: ir.Value  # (batch, heads, size, tokens)
    v: ir.Value  # (batch, heads, tokens, size)
    scale: float
    mask: ir.Value | None


def apply(model: ir.Model, limits: object) -> int:
    count = sum(_apply(node) for node in facts.nodes(model) if facts.is_op(node, "MatMul"))
    found = [node for node in facts.nodes(model) if facts.is_op(node, "Attention") and len(node.outputs) == 1]
    return count + sum(_scales(node) + _widened(node) for node in found)


def _scales(node: ir.Node) -> int:
    """A number on q or k that was not seen as one when the attention was made goes into its scale."""
    count = 0
    for place in (0, 1):
        turned = facts.made_by(node.inputs[place], "Transpose")
        turned = turned if turned is not None and facts.used_once(turned.outputs[0]) else None
        holder, at = (node, place) if turned is None else (turned, 0)
        value, scale = node.inputs[place] if turned is None else turned.inputs[0], facts.attribute(node, "scale")
        if value is None or scale is None:
            continue
        inner, factor = _scaled(value)
        if inner is not value and factor > 0:
            holder.replace_input_with(at, inner)
            node.attributes["scale"] = ir.AttrFloat32("scale", scale * factor)
            rewrite.remove(value.producer() or node)
            count += 1
    return count


def _widened(node: ir.Node) -> bool:
    """An attention of four axes takes three where that is what its heads are cut from."""
    if node.attributes.keys() != {"scale"} or any(value is None for value in node.inputs):
        return False
    wide = [_width(value, HEADS) for value in node.inputs[:3] if value is not None]
    joined = _joined(node)
    if None in wide or joined is None:
        return False
    heads = (facts.dims(node.inputs[0]) or (0, 0))[1]
    attributes = {"scale": facts.attribute(node, "scale"), "q_num_heads": heads, "kv_num_heads": heads}
    return rewrite.put(joined, "Attention", [*wide, *node.inputs[3:]], attributes)


def _apply(node: ir.Node) -> bool:
    found = _parts(node)
    if found is None or facts.dtype(found.q) not in FLOATS or not _shapes_fit(found):
        return False
    inputs, heads, last = _from_width(node, found)
    attributes = {"scale": found.scale} | ({"q_num_heads": heads, "kv_num_heads": heads} if heads else {})
    if found.mask is not None:
        inputs.append(_full(node, found))
    return rewrite.put(last, "Attention", inputs, attributes)


def _parts(node: ir.Node) -> Parts | None:
    softmax = facts.made_by(node.inputs[0], "Softmax")
    rank = facts.rank(node.outputs[0])
    if softmax is None or rank != 4 or not facts.used_once(softmax.outputs[0]) or node.inputs[1] is None:
        return None
    if facts.attribute(softmax, "axis", -1) not in (-1, 3) or softmax.inputs[0] is None:
        return None
    scores, mask = _masked(softmax.inputs[0])
    scores, scale = _scaled(scores)
    product = facts.made_by(scores, "MatMul")
    if product is None or not facts.used_once(scores) or product.inputs[0] is None or product.inputs[1] is None:
        return None
    (q, on_q), (k, on_k) = _scaled(product.inputs[0]), _scaled(product.inputs[1])
    total = scale * on_q * on_k
    return Parts(q, k, node.inputs[1], total, mask) if total > 0 else None


def _masked(value: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """The scores and what is added to them."""
    node = facts.made_by(value, "Add")
    if node is None or not facts.used_once(value):
        return value, None
    for scores, mask in match.pairs(node):
        inner = scores.producer()
        if facts.is_op(inner, "MatMul", "Mul", "Div") and facts.rank(scores) == 4 and facts.rank(mask) in (2, 4):
            return scores, mask
    return value, None


def _scaled(value: ir.Value) -> tuple[ir.Value, float]:
    node = facts.made_by(value, "Mul", "Div")
    found = match.with_number(node) if facts.used_once(value) else None
    if node is None or found is None or not found[1]:
        return value, 1.0
    return found[0], found[1] if node.op_type == "Mul" else 1 / found[1]


def _shapes_fit(found: Parts) -> bool:
    """No broadcasting: all have the same batch and heads, and a mask the scores' sizes or 1."""
    q, k, v = facts.dims(found.q), facts.dims(found.k), facts.dims(found.v)
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 4:
        return False
    fits = q[:2] == k[:2] == v[:2] and q[3] == k[2] and k[3] == v[2] and isinstance(q[1], int)
    if found.mask is None or not fits:
        return fits
    mask = facts.dims(found.mask) or ()
    if len(mask) < 2 or not _sees(found.mask):
        return False
    scores = (*q[:3], k[3])[-len(mask) :]
    if mask[-1] != k[3] or (mask[-2] != q[2] and not isinstance(q[2], int)):
        return False
    return facts.dtype(found.mask) == facts.dtype(found.q) and all(
        one in (1, other) for one, other in zip(mask, scores, strict=True)
    )


def _sees(mask: ir.Value) -> bool:
    """Whether a constant mask leaves something of each row."""
    known = facts.constant(mask)
    return known is not None and bool(np.all(known.max(axis=-1, initial=-np.inf) > MASKED))


def _full(node: ir.Node, found: Parts) -> ir.Value | None:
    """The mask with a row for each token of q: the runtime's operator does not repeat a single one."""
    tokens, rows = (facts.dims(found.q) or ())[2], (facts.dims(found.mask) or ())[-2]
    if found.mask is None or rows == tokens or not isinstance(tokens, int):
        return found.mask
    return rewrite.insert(node, "Expand", [found.mask, rewrite.store_ints(node, [tokens, 1])]).outputs[0]


def _from_width(node: ir.Node, found: Parts) -> tuple[list[ir.Value | None], int, ir.Node]:
    """Inputs, the number of heads where they are of three axes, and the node whose result is the attention's."""
    wide = [_width(found.q, HEADS), _width(found.k, [0, 2, 3, 1]), _width(found.v, HEADS)]
    joined = _joined(node)
    heads = (facts.dims(found.q) or (0, 0))[1]
    if None not in wide and joined is not None:
        return list(wide), int(heads), joined
    k = facts.made_by(found.k, "Transpose")
    if k is not None and facts.attribute(k, "perm") == [0, 1, 3, 2]:
        return [found.q, k.inputs[0], found.v], 0, node
    turned = rewrite.insert(node, "Transpose", [found.k], {"perm": [0, 1, 3, 2]})
    return [found.q, turned.outputs[0], found.v], 0, node


def _joined(node: ir.Node) -> ir.Node | None:
    """The Reshape that puts heads together again after a Transpose."""
    moved = facts.only_user(node.outputs[0], "Transpose")
    joined = facts.only_user(moved.outputs[0], "Reshape") if moved is not None else None
    if moved is None or joined is None or facts.attribute(moved, "perm") != HEADS:
        return None
    return joined if _joins(facts.dims(moved.outputs[0]) or (), facts.dims(joined.outputs[0])) else None


def _width(value: ir.Value, perm: list[int]) -> ir.Value | None:
    """The (batch, tokens, heads * size) of which the heads are cut by Reshape and Transpose; k may be turned in two."""
    node = facts.made_by(value, "Transpose")
    if node is not None and perm != HEADS and facts.attribute(node, "perm") == [0, 1, 3, 2]:
        return _width(node.inputs[0], HEADS) if node.inputs[0] is not None else None
    cut = facts.made_by(node.inputs[0], "Reshape") if node is not None else None
    if node is None or cut is None or facts.attribute(node, "perm") != perm:
        return None
    sizes, wide = facts.dims(cut.outputs[0]), facts.dims(cut.inputs[0])
    return cut.inputs[0] if sizes is not None and _joins(sizes, wide) else None


def _joins(sizes: tuple[facts.Dim, ...], wide: tuple[facts.Dim, ...] | None) -> bool:
    """Whether (batch, tokens, heads, size) are (batch, tokens, width) with the last axis cut."""
    if wide is None or len(wide) != 3 or len(sizes) != 4 or sizes[:2] != wide[:2]:
        return False
    return all(isinstance(one, int) for one in sizes[2:]) and int(sizes[2]) * int(sizes[3]) == wide[2]
