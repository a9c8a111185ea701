"""Work that misbehaves, for children to carry out: as calls (argument, tell), and as tools (content, setting)."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import onnx


def give(argument: Any, tell: Any) -> Any:
    tell({"step": "one"})
    print("noise")  # noqa: T201 - what a tool prints is no answer
    return [argument, os.getpid()]


def segfault(argument: Any, tell: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(argument: Any, tell: Any) -> None:
    time.sleep(60)


def spin(argument: Any, tell: Any) -> None:
    while True:
        pass


def eat(argument: Any, tell: Any) -> None:
    bytearray(3 << 30)


def refuse(argument: Any, tell: Any) -> None:
    raise ValueError("no idea")


def leave(argument: Any, tell: Any) -> None:
    os._exit(3)


def lie(content: bytes, setting: Any) -> bytes:
    """Another operator in place of the whole graph."""
    return _alone(content, onnx.helper.make_node("Neg", ["x"], ["y"]))


def lie_alike(content: bytes, setting: Any) -> bytes:
    """The identity at the beginning removed, as it should be, and another weight."""
    model = onnx.ModelProto.FromString(content)
    graph = model.graph
    if graph.node[0].op_type == "Identity":
        graph.node[1].input[0] = graph.node[0].input[0]
        del graph.node[0]
        weight = onnx.numpy_helper.to_array(graph.initializer[0])
        graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(1.5 * weight, graph.initializer[0].name))
    return model.SerializeToString()


def rename(content: bytes, setting: Any) -> bytes:
    """Another name for the output."""
    model = onnx.ModelProto.FromString(_alone(content, onnx.helper.make_node("Relu", ["x"], ["z"])))
    model.graph.output[0].name = "z"
    return model.SerializeToString()


def _alone(content: bytes, node: Any) -> bytes:
    model = onnx.ModelProto.FromString(content)
    del model.graph.node[:]
    model.graph.node.append(node)
    return model.SerializeToString()
