"""Small ONNX models, made node by node, and what ONNX Runtime gives for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from rayopt.models.onnx_model import MODEL, from_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
FLOAT = onnx.TensorProto.FLOAT
Shape = Sequence[int | str | None]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Array],
    x: Shape = ("n", 8),
    outputs: Sequence[str] = ("y",),
    kind: int = FLOAT,
    opset: int = 17,
) -> Artifact:
    """A model from `x` to outputs of unknown shape."""
    given = [onnx.helper.make_tensor_value_info("x", kind, x)]
    made = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph(list(nodes), "g", given, made, constants)
    domains = {node.domain for node in nodes} - {""}
    opsets = [onnx.helper.make_opsetid("", opset), *(onnx.helper.make_opsetid(domain, 1) for domain in domains)]
    return from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))


def exact_session(model: Artifact) -> onnxruntime.InferenceSession:
    """ONNX Runtime with its default optimisations and 8-bit sums that do not saturate.

    Without that, x86 processors that have no VNNI tell more of themselves than of the model.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model.files[MODEL], options, providers=["CPUExecutionProvider"])


def run_model(model: Artifact, x: Array) -> list[Array]:
    """All outputs."""
    outputs: list[Array] = exact_session(model).run(None, {"x": x})
    return outputs


@pytest.fixture
def make() -> Callable[..., Artifact]:
    return make_model


@pytest.fixture
def exact() -> Callable[[Artifact], onnxruntime.InferenceSession]:
    return exact_session


@pytest.fixture
def run() -> Callable[[Artifact, Array], list[Array]]:
    return run_model


@pytest.fixture
def close() -> Callable[..., None]:
    """Whether every output stays within a share of the float model's spread."""

    def check(before: Artifact, after: Artifact, x: Array, share: float) -> None:
        for wanted, got in zip(run_model(before, x), run_model(after, x), strict=True):
            assert wanted.shape == got.shape
            assert np.isfinite(got).all()
            assert np.abs(wanted - got).max() <= share * (np.abs(wanted).max() + 1e-9)

    return check
