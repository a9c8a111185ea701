"""One model from file to verdict, with tools that crash, hang and lie beside those that help."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from rayopt.graph.child import MIB, Limits
from rayopt.graph.order import Order
from rayopt.graph.portfolio import nodes_count, usable
from rayopt.graph.run_model import Outcome, optimize_file
from rayopt.graph.tools import TOOLS
from tests.graph.hostile import array, good, model, node, value


def optimized(path: Path, *tools: str, wall_s: float = 60) -> Outcome:
    return optimize_file(path, Order("", "", tools, timing_s=0), Limits(512 * MIB, cpu_s=5, wall_s=wall_s))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "model.onnx"
    made.write_bytes(good().SerializeToString())
    return made


def test_a_model_comes_out_smaller_and_the_same_each_time(path: Path) -> None:
    first, second = optimized(path, "own", "ort_basic"), optimized(path, "own", "ort_basic")
    assert (first.verdict, first.told["nodes_before"], first.told["nodes_after"]) == ("optimized", 3, 2)
    assert dict(first.files) == dict(second.files)
    found = onnx.load_from_string(first.files["model.onnx"])
    assert nodes_count(found) == 2
    assert len(first.files["model.onnx"]) <= 1.01 * path.stat().st_size


@pytest.mark.parametrize(
    ("name", "what", "reason"),
    [
        ("segfault", "failed", "died by SIGSEGV"),
        ("hang", "failed", "did not end within 2 s"),
        ("lie", "wrong", "outputs differ by up to"),
        ("rename", "wrong", "the outputs changed their names"),
    ],
)
def test_a_tool_that_misbehaves_is_a_line_in_the_record(name: str, what: str, reason: str, path: Path) -> None:
    bad = f"tests.graph.bad_tools:{name}"
    found = optimized(path, bad, "own", wall_s=2 if name == "hang" else 60)
    assert (found.verdict, found.told["nodes_after"]) == ("optimized", 2)
    caught = [line for line in found.told["record"] if line["tool"] == bad]
    assert caught[0]["what"] == what
    assert reason in caught[0]["reason"]
    assert bad not in found.told["chain"]


def test_a_wrong_model_does_not_stand_in_the_way_of_a_right_one_with_the_same_operators(path: Path) -> None:
    bad = "tests.graph.bad_tools:lie_alike"
    found = optimized(path, bad, "onnxoptimizer")
    assert (found.verdict, found.told["nodes_after"], found.told["chain"]) == ("optimized", 2, ["onnxoptimizer"])
    assert [(line["tool"], line["what"]) for line in found.told["record"]] == [(bad, "wrong")]


def test_where_nothing_wins_the_original_is_kept(tmp_path: Path) -> None:
    made = tmp_path / "model.onnx"
    made.write_bytes(model([node("Relu", "x", "h"), node("Softmax", "h", "y")]).SerializeToString())
    found = optimized(made, "own", "ort_basic")
    assert (found.verdict, dict(found.files)) == ("unchanged", {})
    assert found.reason == "no tool removed a node"


def test_a_larger_file_is_not_taken(tmp_path: Path) -> None:
    nodes = [node("Expand", "w s", "b"), node("Add", "x b", "y")]
    made = tmp_path / "model.onnx"
    weights = [array("w", [1.0]), array("s", [1000, 4], "int64")]
    made.write_bytes(model(nodes, [value("x", (1000, 4))], [value("y", (1000, 4))], weights).SerializeToString())
    found = optimized(made, "ort_basic")
    assert found.verdict == "unchanged"
    assert "larger" in found.reason


def test_external_data_is_taken_in(tmp_path: Path) -> None:
    made = tmp_path / "model.onnx"
    onnx.save(good(), made, save_as_external_data=True, location="w.bin", size_threshold=0)
    found = optimized(made, "own")
    assert found.verdict == "optimized"
    assert [one["location"] for one in found.told["external"]] == ["w.bin"]


def test_tools_that_need_a_square_of_the_nodes_are_left_out_of_large_graphs() -> None:
    assert usable(tuple(TOOLS), 20_000, 0) == ["own"]
    assert usable(("own", "onnxslim"), 100, 1 << 30) == ["own"]
    assert usable(("own", "onnxslim"), 100, 0, 1 << 29) == ["own"], "others take many times a large model's memory"
