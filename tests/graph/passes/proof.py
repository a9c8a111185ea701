"""How a pass is tested: it rewrites what it should, leaves its near misses alone, and whatever it does is equal.

Equal means run by ONNX Runtime without its own optimizations, over several sizes and seeds, NaN and infinity included.
Each example is also tried in every form that makes a pattern a near miss: each inner value as an output, each inner
value used by a body, every constant only a default that is overridden, and all of it inside a branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from rayopt.graph import passes
from rayopt.models.onnx_model import node_count

SIZES = (1, 3)  # what each unknown size of an input becomes, in turns
RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True)
class Example:
    """A graph in onnx's text form; `leaves` are the operators that must be left once the pass has run."""

    text: str
    leaves: Mapping[str, int] = field(default_factory=dict)
    opset: int = 20
    sizes: tuple[int, ...] = SIZES
    low: float = -2.0
    high: float = 2.0
    special: bool = False  # inputs with NaN and infinity as well
    target_opset: int = 24
    also: tuple[str, ...] = ()  # passes that tidy up after this one

    def model(self) -> Any:
        model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {self.opset}]> g {self.text}')
        onnx.checker.check_model(model)
        return model


def checks(name: str, fires: Mapping[str, Example], stays: Mapping[str, Example]) -> tuple[Callable[..., None], ...]:
    """The tests of a pass: that it rewrites, that it is equal in every form, and that it leaves near misses alone."""

    @pytest.mark.parametrize("case", fires)
    def test_rewrites(case: str) -> None:
        example = fires[case]
        model = example.model()
        after, count = rewritten(model, name, example)
        assert count > 0
        assert dict(Counter(node.op_type for node in after.graph.node if node.op_type != "Constant")) == example.leaves
        assert [one.name for one in after.graph.output] == [one.name for one in model.graph.output]
        assert rewritten(after, name, example)[1] == 0, "it finds something in what it wrote"
        same(model, after, example)

    @pytest.mark.parametrize("case", fires)
    def test_is_equal_in_every_form(case: str) -> None:
        example = fires[case]
        for form, model in forms(example.model()):
            after, _ = rewritten(model, name, example)
            assert node_count(after) <= node_count(model), form
            same(model, after, example, form)

    @pytest.mark.parametrize("case", stays)
    def test_leaves_alone(case: str) -> None:
        example = stays[case]
        model = example.model()
        after, count = rewritten(model, name, example)
        assert count == 0
        same(model, after, example)

    return test_rewrites, test_is_equal_in_every_form, test_leaves_alone


def rewritten(model: Any, name: str, example: Example) -> tuple[Any, int]:
    inner = ir.from_proto(model)
    limits = passes.Limits(target_opset=example.target_opset)
    count = passes.run(inner, [name, *example.also], limits)[name]
    after = ir.to_proto(inner)
    onnx.checker.check_model(after, full_check=False)
    return after, count


def same(before: Any, after: Any, example: Example, form: str = "") -> None:
    """Both models give the same; inputs that the first does not take prove nothing and are left out."""
    left, right = session(before), session(after)
    described = [[(one.name, one.type) for one in running.get_inputs()] for running in (left, right)]
    assert described[0] == described[1], form
    compared = 0
    for seed, size in enumerate(example.sizes):
        fed = inputs(before, left, seed, size, example)
        try:
            wanted = left.run(None, fed)
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            continue
        got = right.run(None, fed)
        for one, other in zip(wanted, got, strict=True):
            assert one.dtype == other.dtype, form
            assert one.shape == other.shape, form
            np.testing.assert_allclose(other, one, RTOL, ATOL, equal_nan=True, err_msg=form)
        compared += 1
    assert compared or form, "no input proves anything"


def session(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def inputs(model: Any, running: Any, seed: int, size: int, example: Example) -> dict[str, Any]:
    """Seeded inputs, and another value for each default that can be overridden."""
    generator = np.random.default_rng(seed)
    fed = {}
    for one in running.get_inputs():
        shape = [dim if isinstance(dim, int) else size for dim in one.shape]
        fed[one.name] = _numbers(one.type, shape, generator, example)
    defaults = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for info in model.graph.input:
        if info.name in defaults:
            fed[info.name] = _other(defaults[info.name], generator)
    return fed


def _numbers(kind: str, shape: list[int], generator: np.random.Generator, example: Example) -> Any:
    if kind == "tensor(bool)":
        return np.asarray(generator.random(shape) < 0.7)
    if "int" in kind:
        return generator.integers(0, 4, shape).astype(kind[7:-1])
    dtype = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2"}[kind]
    found = np.asarray(generator.uniform(example.low, example.high, shape), dtype)
    if example.special and found.size > 2:
        found.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    return found


def _other(default: Any, generator: np.random.Generator) -> Any:
    """Another value of the same shape; whole numbers, which mostly say sizes and axes, stay as they are."""
    if default.dtype.kind != "f":
        return default
    return np.asarray(default + generator.uniform(0.1, 0.4, default.shape), default.dtype)


def forms(model: Any) -> Iterator[tuple[str, Any]]:
    inner = [name for node in model.graph.node for name in node.output if name]
    outputs = {one.name for one in model.graph.output}
    for name in inner:
        if name not in outputs:
            yield f"{name} is an output", _with_output(model, name)
            yield f"{name} is used by a body", _with_body(model, name)
    yield "defaults that are overridden", _overridable(model)
    yield "inside a branch", _in_branch(model)


def _copy(model: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _with_output(model: Any, name: str) -> Any:
    copy = _copy(model)
    copy.graph.output.append(_described(model, name, name))
    return copy


def _with_body(model: Any, name: str) -> Any:
    copy = _copy(model)
    bodies = {
        branch: helper.make_graph(
            [helper.make_node("Identity", [name], [branch])], branch, [], [_described(model, name, branch)]
        )
        for branch in ("then_branch", "else_branch")
    }
    copy.graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    copy.graph.node.append(helper.make_node("If", ["condition"], ["seen"], **bodies))
    copy.graph.output.append(_described(model, name, "seen"))
    return copy


def _described(model: Any, name: str, called: str) -> Any:
    """What inference says of a value, under another name."""
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = next(one for one in (*known.value_info, *known.output) if one.name == name)
    info = onnx.ValueInfoProto(name=called)
    info.type.CopyFrom(found.type)
    for dim in info.type.tensor_type.shape.dim:
        if not dim.HasField("dim_value"):
            dim.Clear()
    return info


def _overridable(model: Any) -> Any:
    copy = _copy(model)
    for one in copy.graph.initializer:
        if all(info.name != one.name for info in copy.graph.input):
            copy.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
    return copy


def _in_branch(model: Any) -> Any:
    """The whole graph as the then-branch of an If, its constants outside."""
    copy = _copy(model)
    graph = copy.graph
    names = [one.name for one in graph.output]
    kinds = [one.type.tensor_type.elem_type for one in graph.output]
    nothing = [numpy_helper.from_array(np.zeros(1, helper.tensor_dtype_to_np_dtype(kind))) for kind in kinds]
    made = [
        helper.make_node("Constant", [], [f"no_{name}"], value=one) for name, one in zip(names, nothing, strict=True)
    ]
    then = helper.make_graph(list(graph.node), "then", [], [_described(model, name, name) for name in names])
    loose = [helper.make_tensor_value_info(f"no_{name}", kind, [None]) for name, kind in zip(names, kinds, strict=True)]
    other = helper.make_graph(made, "other", [], loose)
    results = [_described(model, name, f"{name}_result") for name in names]
    del graph.node[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    outputs = [one.name for one in results]
    graph.node.append(helper.make_node("If", ["condition"], outputs, then_branch=then, else_branch=other))
    graph.output.extend(results)
    return copy
