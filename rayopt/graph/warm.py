"""A small model through all that the work does, for what tools and the runtime make only when they are first used."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rayopt.graph import working
from rayopt.graph.order import Order
from rayopt.graph.tools import TOOLS


def warm() -> None:
    """Does it, whatever comes of it."""
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder, contextlib.suppress(Exception):
        path = Path(folder) / "small.onnx"
        path.write_bytes(_small().SerializeToString())
        order = Order(str(path), folder, tuple(TOOLS), timing_s=1e-3)
        working.optimize({"order": asdict(order), "known": {}}, lambda line: None)


def _small() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "v"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
               numpy_helper.from_array(np.ones(4, np.float32), "v")]  # fmt: skip
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
