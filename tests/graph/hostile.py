"""Files that no tool should be given, each with the one verdict that it must end in. Written anew into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Nodes = Sequence[onnx.NodeProto]


@dataclass(frozen=True)
class Case:
    """Writes the file into a folder and gives its path; `verdict` is how it must end."""

    verdict: str
    write: Callable[[Path], Path]


CASES: dict[str, Case] = {}


def case(verdict: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Registers a function that gives a ModelProto or bytes."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        def write(folder: Path) -> Path:
            made = make()
            path = folder / f"{make.__name__}.onnx"
            path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
            return path

        CASES[make.__name__] = Case(verdict, write)
        return make

    return register


def in_folder(verdict: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Registers a function that writes files by itself."""

    def register(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        CASES[write.__name__] = Case(verdict, write)
        return write

    return register


def value(name: str, shape: Sequence[Any] | None = ("n", 4), kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None if shape is None else list(shape))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def model(
    nodes: Nodes,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    weights: Sequence[Any] = (),
    opset: int = 17,
    ir: int = 8,
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x")] if inputs is None else inputs,
        [value("y")] if outputs is None else outputs,
        list(weights),
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*one) for one in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def array(name: str, values: Any, kind: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def good() -> onnx.ModelProto:
    """x (n, 4) -> y (n, 4) by a matrix of 4x4, with an identity that is not needed."""
    weight = array("w", np.random.default_rng(0).normal(size=(4, 4)))
    return model([node("Identity", "x", "i"), node("MatMul", "i w", "h"), node("Relu", "h", "y")], weights=[weight])


# Bytes


@case("empty_file")
def empty() -> bytes:
    return b""


@case("unreadable")
def truncated() -> bytes:
    return good().SerializeToString()[:-40]


@case("unreadable")
def noise() -> bytes:
    return np.random.default_rng(1).bytes(4000)


@case("unreadable")
def text() -> bytes:
    return b"this is no model, only a text that somebody renamed\n" * 20


@case("unreadable")
def length_beyond_the_end() -> bytes:
    return b"\x08\x08\x3a\xff\xff\xff\xff\x07" + bytes(100)


@case("empty_graph")
def only_zeros_of_fields() -> bytes:
    return b"\x08\x08"


@in_folder("not_a_file")
def a_folder(folder: Path) -> Path:
    path = folder / "a_folder.onnx"
    path.mkdir()
    return path


@in_folder("not_a_file")
def a_pipe(folder: Path) -> Path:
    path = folder / "a_pipe.onnx"
    os.mkfifo(path)
    return path


# Graphs


@case("empty_graph")
def no_nodes() -> onnx.ModelProto:
    return model([], [], [])


@case("no_outputs")
def no_outputs() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], outputs=[])


@case("missing_output")
def output_that_nobody_gives() -> onnx.ModelProto:
    return model([node("Relu", "x", "h")])


@case("cycle")
def cycle() -> onnx.ModelProto:
    return model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")])


@case("cycle")
def own_output_as_input() -> onnx.ModelProto:
    return model([node("Add", "x y", "y")])


@case("unsorted")
def wrong_order() -> onnx.ModelProto:
    return model([node("Relu", "h", "y"), node("Neg", "x", "h")])


@case("undefined_input")
def undefined_input() -> onnx.ModelProto:
    return model([node("Add", "x nobody", "y")])


@case("undefined_input")
def undefined_input_in_a_branch() -> onnx.ModelProto:
    branch = helper.make_graph([node("Add", "x nobody", "t")], "b", [], [value("t")])
    return model([node("If", "c", "y", then_branch=branch, else_branch=branch)], [value("x"), value("c", (), 9)])


@case("duplicate_name")
def output_given_twice() -> onnx.ModelProto:
    return model([node("Relu", "x", "y"), node("Neg", "x", "y")])


@case("duplicate_name")
def two_inputs_of_one_name() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], [value("x"), value("x")])


@case("duplicate_name")
def two_initializers_of_one_name() -> onnx.ModelProto:
    return model([node("Add", "x w", "y")], weights=[array("w", [1.0]), array("w", [2.0])])


@case("duplicate_name")
def output_named_as_an_input() -> onnx.ModelProto:
    return model([node("Relu", "x", "x"), node("Relu", "x", "y")])


@case("recursive_function")
def function_that_calls_itself() -> onnx.ModelProto:
    made = model([node("F", "x", "y", domain="own")], domains=[("own", 1)])
    body = [node("F", "a", "b", domain="own")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, opsets))
    return made


@case("too_many_nodes")
def functions_that_double(levels: int = 30) -> onnx.ModelProto:
    made = model([node("F0", "x", "y", domain="own")], domains=[("own", 1)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for level in range(levels):
        last = level == levels - 1
        name, domain = ("Relu", "") if last else (f"F{level + 1}", "own")
        body = [node(name, "a", "h", domain=domain), node(name, "h", "b", domain=domain)]
        made.functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], body, opsets))
    return made


# Operators and versions


@case("unknown_operator")
def unknown_operator() -> onnx.ModelProto:
    return model([node("Frobnicate", "x", "y")])


@case("unknown_operator")
def operator_of_a_newer_opset() -> onnx.ModelProto:
    return model([node("Gelu", "x", "y")], opset=13)


@case("unknown_domain")
def unknown_domain() -> onnx.ModelProto:
    return model([node("Relu", "x", "y", domain="evil.corp")], domains=[("evil.corp", 1)])


@case("does_not_load")
def unknown_operator_of_the_runtime() -> onnx.ModelProto:
    return model([node("NoSuchKernel", "x", "y", domain="com.microsoft")], domains=[("com.microsoft", 1)])


@case("unsupported_opset")
def opset_99() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], opset=99)


@case("unsupported_opset")
def opset_0() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], opset=0)


@case("unsupported_opset")
def no_opset() -> onnx.ModelProto:
    made = model([node("Relu", "x", "y")])
    del made.opset_import[:]
    return made


@case("unsupported_ir")
def ir_99() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], ir=99)


@case("unsupported_ir")
def ir_0() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], ir=0)


@case("wrong_arity")
def gemm_with_one_input() -> onnx.ModelProto:
    return model([node("Gemm", "x", "y")])


@case("wrong_arity")
def relu_with_two_outputs() -> onnx.ModelProto:
    return model([node("Relu", "x", "y z")])


@case("invalid_model")
def attribute_that_the_operator_lacks() -> onnx.ModelProto:
    return model([node("Relu", "x", "y", slope=0.5)])


@case("does_not_run")
def shapes_that_do_not_fit() -> onnx.ModelProto:
    return model([node("MatMul", "x w", "y")], [value("x", ("n", "k"))], weights=[array("w", np.ones((0, 4)))])


# Tensors


@case("short_data")
def short_raw_data() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4, 4], raw_data=bytes(20))
    return model([node("MatMul", "x w", "y")], weights=[weight])


@case("short_data")
def too_few_numbers() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4, 4], float_data=[1.0, 2.0])
    return model([node("MatMul", "x w", "y")], weights=[weight])


@case("short_data")
def dimension_of_2_to_the_40() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1 << 40], raw_data=bytes(4))
    return model([node("Add", "x w", "y")], weights=[weight])


@case("short_data")
def dimensions_that_overflow() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1 << 32, 1 << 32], raw_data=b"")
    return model([node("Add", "x w", "y")], weights=[weight])


@case("bad_dimension")
def negative_dimension() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[-4], raw_data=bytes(16))
    return model([node("Add", "x w", "y")], weights=[weight])


@case("bad_dimension")
def input_of_2_to_the_40() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], [value("x", (1 << 40,))], [value("y", (1 << 40,))])


@case("bad_dimension")
def input_of_negative_size() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], [value("x", (-7, 4))])


@case("bad_tensor")
def type_that_does_not_exist() -> onnx.ModelProto:
    weight = TensorProto(name="w", dims=[4], raw_data=bytes(16))
    weight.data_type = 77
    return model([node("Add", "x w", "y")], weights=[weight])


# External data


def _external(folder: Path, name: str, **entries: str) -> Path:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, told in entries.items():
        weight.external_data.add(key=key, value=told)
    path = folder / f"{name}.onnx"
    path.write_bytes(model([node("MatMul", "x w", "y")], weights=[weight]).SerializeToString())
    return path


def _data(path: Path, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(0).normal(size=size // 4).astype(np.float32).tobytes())
    return path


@in_folder("external_absolute")
def external_absolute(folder: Path) -> Path:
    return _external(folder, "external_absolute", location="/etc/passwd")


@in_folder("external_absolute")
def external_absolute_of_windows(folder: Path) -> Path:
    return _external(folder, "external_absolute_of_windows", location="C:\\secrets\\w.bin")


@in_folder("external_outside")
def external_outside(folder: Path) -> Path:
    _data(folder / "w.bin")
    (folder / "inner").mkdir()
    return _external(folder / "inner", "external_outside", location="../w.bin")


@in_folder("external_outside")
def external_outside_and_back(folder: Path) -> Path:
    _data(folder / "w.bin")
    return _external(folder, "external_outside_and_back", location=f"../{folder.name}/w.bin")


@in_folder("external_link")
def external_symlink(folder: Path) -> Path:
    (folder / "w.bin").symlink_to(_data(folder / "elsewhere" / "secret.bin"))
    return _external(folder, "external_symlink", location="w.bin")


@in_folder("external_link")
def external_below_a_linked_folder(folder: Path) -> Path:
    _data(folder / "elsewhere" / "w.bin")
    (folder / "data").symlink_to(folder / "elsewhere")
    return _external(folder, "external_below_a_linked_folder", location="data/w.bin")


@in_folder("external_link")
def external_hard_link(folder: Path) -> Path:
    os.link(_data(folder / "elsewhere" / "secret.bin"), folder / "w.bin")
    return _external(folder, "external_hard_link", location="w.bin")


@in_folder("external_missing")
def external_missing(folder: Path) -> Path:
    return _external(folder, "external_missing", location="w.bin")


@in_folder("external_missing")
def external_name_too_long(folder: Path) -> Path:
    return _external(folder, "external_name_too_long", location="w" * 5000)


@in_folder("external_bad")
def external_without_a_name(folder: Path) -> Path:
    return _external(folder, "external_without_a_name", location="")


@in_folder("external_bad")
def external_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "w.bin")
    return _external(folder, "external_pipe", location="w.bin")


@in_folder("external_bad")
def external_is_the_model(folder: Path) -> Path:
    return _external(folder, "external_is_the_model", location="./external_is_the_model.onnx", length="64")


@in_folder("external_short")
def external_short(folder: Path) -> Path:
    _data(folder / "w.bin", 32)
    return _external(folder, "external_short", location="w.bin")


@in_folder("external_short")
def external_beyond_the_end(folder: Path) -> Path:
    _data(folder / "w.bin")
    return _external(folder, "external_beyond_the_end", location="w.bin", offset=str(1 << 40), length="64")


@in_folder("external_bad")
def external_negative_offset(folder: Path) -> Path:
    _data(folder / "w.bin")
    return _external(folder, "external_negative_offset", location="w.bin", offset="-64", length="64")


@in_folder("external_bad")
def external_offset_of_words(folder: Path) -> Path:
    _data(folder / "w.bin")
    return _external(folder, "external_offset_of_words", location="w.bin", offset="first", length="64")


@in_folder("short_data")
def external_length_of_another_size(folder: Path) -> Path:
    _data(folder / "w.bin")
    return _external(folder, "external_length_of_another_size", location="w.bin", length="8")


# What folds to more than there is


def _bomb(*nodes: onnx.NodeProto, **weights: Any) -> onnx.ModelProto:
    """y = x + ReduceSum(big), where `big` is constant."""
    tail = [node("ReduceSum", "big", "s", keepdims=0), node("Add", "x s", "y")]
    return model([*nodes, *tail], weights=[array(name, one, np.asarray(one).dtype) for name, one in weights.items()])


@case("fold_bomb")
def bomb_of_constant_of_shape() -> onnx.ModelProto:
    return _bomb(node("ConstantOfShape", "d", "big"), d=np.array([1 << 20, 1 << 20]))


@case("fold_bomb")
def bomb_of_expand() -> onnx.ModelProto:
    return _bomb(node("Expand", "one d", "big"), one=np.float32([1]), d=np.array([1 << 17, 1 << 17]))


@case("fold_bomb")
def bomb_of_tile() -> onnx.ModelProto:
    return _bomb(node("Tile", "few d", "big"), few=np.ones((8, 8), np.float32), d=np.array([1 << 13, 1 << 14]))


@case("fold_bomb")
def bomb_of_range() -> onnx.ModelProto:
    nodes = [node("Range", "a b c", "r"), node("Cast", "r", "big", to=FLOAT)]
    return _bomb(*nodes, a=np.array(0), b=np.array(1 << 32), c=np.array(1))


@case("fold_bomb")
def bomb_of_outer_product() -> onnx.ModelProto:
    column = np.ones((60_000, 1), np.float32)
    return _bomb(node("MatMul", "a b", "big"), a=column, b=column.T.copy())


@case("fold_bomb")
def bomb_of_computed_shape() -> onnx.ModelProto:
    nodes = [node("Mul", "d d", "e"), node("Concat", "e e", "f", axis=0), node("ConstantOfShape", "f", "big")]
    return _bomb(*nodes, d=np.array([1 << 10]))


@case("fold_bomb")
def bomb_of_a_power() -> onnx.ModelProto:
    return _bomb(node("Pow", "a b", "d"), node("ConstantOfShape", "d", "big"), a=np.array([2]), b=np.array([40]))


@case("fold_bomb")
def bomb_of_a_product() -> onnx.ModelProto:
    return _bomb(node("ReduceProd", "a", "d"), node("ConstantOfShape", "d", "big"), a=np.array([2] * 40))


@case("fold_bomb")
def bomb_of_the_larger_one() -> onnx.ModelProto:
    nodes = [node("Max", "a b", "c"), node("Where", "no b c", "d"), node("ConstantOfShape", "d", "big")]
    return _bomb(*nodes, a=np.array([1 << 40]), b=np.array([1]), no=np.array([False]))


@case("fold_bomb")
def bomb_of_a_negative_size() -> onnx.ModelProto:
    return _bomb(node("Neg", "a", "d"), node("ConstantOfShape", "d", "big"), a=np.array([-(1 << 40)]))


@case("fold_bomb")
def bomb_of_shifted_bits() -> onnx.ModelProto:
    nodes = [
        node("BitShift", "a b", "e", direction="LEFT"),
        node("Cast", "e", "d", to=7),
        node("ConstantOfShape", "d", "big"),
    ]
    return _bomb(*nodes, a=np.array([1], np.uint64), b=np.array([40], np.uint64))


@case("fold_bomb")
def bomb_of_a_range_to_a_power() -> onnx.ModelProto:
    nodes = [node("Pow", "a e", "b"), node("Range", "z b o", "r"), node("Cast", "r", "big", to=FLOAT)]
    return _bomb(*nodes, a=np.array(2), e=np.array(40), z=np.array(0), o=np.array(1))


@case("fold_bomb")
def bomb_in_a_branch() -> onnx.ModelProto:
    big = [node("ConstantOfShape", "d", "big"), node("ReduceSum", "big", "t", keepdims=0)]
    branch = helper.make_graph(big, "b", [], [value("t", ())])
    small = helper.make_graph([node("ReduceSum", "x", "e", keepdims=0)], "e", [], [value("e", ())])
    nodes = [node("If", "c", "s", then_branch=branch, else_branch=small), node("Add", "x s", "y")]
    return model(nodes, [value("x"), value("c", (), 9)], weights=[array("d", [1 << 20, 1 << 20], np.int64)])


@case("fold_bomb")
def bomb_of_many_small_ones() -> onnx.ModelProto:
    nodes = [node("ConstantOfShape", "d", f"c{i}") for i in range(40)]
    nodes += [node("ReduceSum", f"c{i}", f"s{i}", keepdims=0) for i in range(40)]
    nodes += [node("Sum", " ".join(f"s{i}" for i in range(40)), "s"), node("Add", "x s", "y")]
    return model(nodes, weights=[array("d", [4000, 1000], np.int64)])


@case("does_not_run")
def bomb_at_run_time() -> onnx.ModelProto:
    nodes = [node("Shape", "x", "s"), node("Mul", "s s", "b"), node("Mul", "b k", "d"), node("Expand", "one d", "y")]
    return model(
        nodes, outputs=[value("y", ("a", "b"))], weights=[array("k", [1 << 20], np.int64), array("one", [1.0])]
    )


@case("does_not_run")
def loop_without_end() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Add", "v v", "w")],
        "body",
        [value("i", (), 7), value("go", (), 9), value("v")],
        [value("on", (), 9), value("w")],
    )
    weights = [array("trips", 1 << 50, np.int64), array("yes", True, np.bool_)]
    return model([node("Loop", "trips yes x", "y", body=body)], weights=weights)


# Deep and long


def nested_ifs(depth: int) -> onnx.ModelProto:
    """y = x through `depth` conditionals inside each other."""
    inner = node("Relu", "x", "y")
    for level in range(depth):
        name = f"t{level}"
        inner.output[0] = name
        branch = helper.make_graph([inner], "b", [], [value(name)])
        other = helper.make_graph([node("Neg", "x", f"e{level}")], "e", [], [value(f"e{level}")])
        inner = node("If", "c", "y", then_branch=branch, else_branch=other)
    return model([inner], [value("x"), value("c", (), 9)])


@case("too_deep")
def nested_400_deep() -> bytes:
    inner = node("Relu", "x", "y").SerializeToString()
    for _ in range(400):  # protobuf builds no such message itself
        graph = _field(1, inner) + _field(2, b"b") + _field(12, _field(1, b"y"))
        attribute = _field(1, b"then_branch") + b"\xa0\x01\x05" + _field(6, graph)
        inner = _field(1, b"c") + _field(2, b"y") + _field(4, b"If") + _field(5, attribute)
    return b"\x08\x08" + _field(7, _field(1, inner) + _field(2, b"g")) + _field(8, b"\x10\x11")


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@case("unchanged")
def nested_30_deep() -> onnx.ModelProto:
    return nested_ifs(30)


@case("optimized")
def chain_of_20000() -> onnx.ModelProto:
    names = ["x", *(f"n{i}" for i in range(19_999)), "y"]
    nodes = [node("Identity" if i % 2 else "Relu", names[i], names[i + 1]) for i in range(20_000)]
    return model(nodes)


# What tools get wrong


@case("optimized")
def overridable_initializer() -> onnx.ModelProto:
    nodes = [node("Identity", "x", "i"), node("Add", "w w", "v"), node("Mul", "i v", "y")]
    return model(nodes, [value("x"), value("w", (4,))], weights=[array("w", [1, 2, 3, 4])])


@case("unchanged")
def random_operator() -> onnx.ModelProto:
    return model([node("RandomNormal", "", "r", shape=[1, 4]), node("Add", "x r", "y")])


@case("optimized")
def random_operator_with_constants_beside_it() -> onnx.ModelProto:
    nodes = [
        node("RandomUniform", "", "r", shape=[1, 4], seed=1.0),
        node("Add", "a a", "b"),
        node("Mul", "r b", "s"),
        node("Identity", "s", "t"),
        node("Add", "x t", "y"),
    ]
    return model(nodes, weights=[array("a", [1, 2, 3, 4])])


@case("optimized")
def wrong_declared_output_shape() -> onnx.ModelProto:
    nodes = [node("Identity", "x", "i"), node("ReduceSum", "i a", "r", keepdims=0), node("Relu", "r", "y")]
    made = model(nodes, outputs=[value("y", ("n", 1))], weights=[array("a", [1], np.int64)])
    made.graph.value_info.append(value("r", ("n", 4)))
    return made


@case("unchanged")
def nan_and_infinity() -> onnx.ModelProto:
    weight = array("w", [np.nan, np.inf, -np.inf, 0])
    return model([node("Mul", "x w", "y")], weights=[weight])


@case("optimized")
def ir_3_with_initializers_as_inputs() -> onnx.ModelProto:
    weight = array("w", np.random.default_rng(0).normal(size=(4, 4)))
    nodes = [node("Identity", "x", "i"), node("MatMul", "i w", "y")]
    return model(nodes, [value("x"), value("w", (4, 4))], weights=[weight], opset=8, ir=3)


def write_all(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every file, each in a folder of its own: path and verdict by name."""
    found = {}
    for name, one in CASES.items():
        (folder / name).mkdir(parents=True)
        found[name] = (one.write(folder / name), one.verdict)
    return found
