"""Rewrites of layers before a tool sees them: what ONNX Runtime's tools do not know or get wrong without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rayopt.compress.onnx_layers import WEIGHTS, graphs

Made = dict[tuple[str, float, bool], str]


def gemm_to_matmul(proto: Any) -> None:
    """Rewrites Gemm with a constant B as MatMul, which keeps the node's name, and Add, in place.

    The dynamic and the blockwise tool know MatMul alone. alpha is multiplied into B and beta into C.
    """
    for graph in graphs(proto.graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        made: Made = {}
        nodes = []
        for node in graph.node:
            nodes += _as_matmul(node, graph, constants, made) if node.op_type == "Gemm" else [node]
        _replace_nodes(graph, nodes)
        drop_unused(graph)


def fold_gemm_factors(proto: Any) -> list[str]:
    """Multiplies alpha into a constant B and beta into a constant C, in place; gives the names of Gemm that keep them.

    ONNX Runtime's static tool scales the bias without alpha: the outputs are wrong by that factor.
    """
    from onnx import helper

    kept = []
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    made: Made = {}
    for node in proto.graph.node:
        told = {one.name: helper.get_attribute_value(one) for one in node.attribute} if node.op_type == "Gemm" else {}
        factors = float(told.get("alpha", 1.0)), float(told.get("beta", 1.0))
        if factors == (1.0, 1.0):
            continue
        if any(name and name not in constants for name in node.input[1:]):
            kept.append(node.name)
            continue
        scaled = _Scaled(node, proto.graph, constants, made)
        for index, factor in zip((1, 2), factors, strict=True):
            if index < len(node.input) and node.input[index]:
                node.input[index] = scaled(node.input[index], factor, False)
        for one in node.attribute:
            if one.name in ("alpha", "beta"):
                one.f = 1.0
    drop_unused(proto.graph)
    return kept


def untie(proto: Any) -> None:
    """Gives each bias, and weights that are used in several ways, a copy for each use, in place.

    The static tool keeps one scale for a tensor: that of a bias depends on its node, that of weights on the axis.
    """
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    first: dict[str, tuple[Any, ...]] = {}
    copies: dict[tuple[str, tuple[Any, ...]], str] = {}
    for node in proto.graph.node:
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        for index, name in enumerate(node.input):
            if name not in constants:
                continue
            bias = node.op_type in WEIGHTS and index not in WEIGHTS[node.op_type]
            use = (node.name, index) if bias else (node.op_type, index, transposed)
            if first.setdefault(name, use) == use:
                continue
            if (name, use) not in copies:
                copy = proto.graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = copies[name, use] = f"{name}_of_{node.name}_{index}"
            node.input[index] = copies[name, use]


def _as_matmul(node: Any, graph: Any, constants: Mapping[str, Any], made: Made) -> list[Any]:
    from onnx import helper

    told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    weight = constants.get(node.input[1])
    bias = node.input[2] if len(node.input) > 2 else ""
    alpha, beta = float(told.get("alpha", 1.0)), float(told.get("beta", 1.0))
    if weight is None or told.get("transA", 0) or (bias and beta != 1 and bias not in constants):
        return [node]

    scaled = _Scaled(node, graph, constants, made)
    matrix = scaled(node.input[1], alpha, bool(told.get("transB", 0)))
    product = f"{node.output[0]}_product" if bias and beta != 0 else node.output[0]
    nodes = [helper.make_node("MatMul", [node.input[0], matrix], [product], name=node.name)]
    if product != node.output[0]:
        added = scaled(bias, beta, False) if bias in constants else bias
        nodes.append(helper.make_node("Add", [product, added], [node.output[0]], name=f"{node.name}_bias"))
    return nodes


def _replace_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    copies = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def drop_unused(graph: Any) -> None:
    """Removes initialisers that neither this graph nor one nested in it reads."""
    used = {name for inner in graphs(graph) for node in inner.node for name in node.input}
    used |= {value.name for inner in graphs(graph) for value in inner.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)


class _Scaled:
    """Constants of a graph multiplied and transposed, each made once."""

    def __init__(self, node: Any, graph: Any, constants: Mapping[str, Any], made: Made) -> None:
        self._node, self._graph, self._constants, self._made = node, graph, constants, made

    def __call__(self, name: str, factor: float, transposed: bool) -> str:
        from onnx import numpy_helper

        key = (name, factor, transposed)
        if factor == 1 and not transposed:
            return name
        if key not in self._made:
            array = numpy_helper.to_array(self._constants[name])
            array = np.ascontiguousarray(array.T if transposed else array) * np.float32(factor).astype(array.dtype)
            self._made[key] = f"{name}_{self._node.name}_rewritten"
            self._graph.initializer.append(numpy_helper.from_array(array, self._made[key]))
        return self._made[key]
