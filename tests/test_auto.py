"""Jobs without steps: the recipe decides, with labels, without them, and without any data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt import api
from rayopt.errors import InputError, WorkError
from rayopt.measure.latency import Rounds
from rayopt.records import Latency

PROGRAM = str(Path(sys.executable).parent / "rayopt")
TIMING = {"batch_sizes": [1, 8], "timing_s": 0.01}


@pytest.fixture
def even_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model takes as long as the baseline, so that a busy machine does not decide what is recommended."""

    def even(calls: Mapping[str, Callable[[], object]], _: str, batch_size: int, rounds: Rounds) -> dict[str, Latency]:
        for call in calls.values():
            call()
        return {name: Latency(batch_size, 1.0, 1.0, 1.0, 1.0, rounds.least) for name in calls}

    monkeypatch.setattr("rayopt.measure.latency.interleave", even)


def network(path: Path, two_inputs: bool = False, features: int = 16) -> Path:
    """Two layers of 64 with a transpose and its inverse between; a second input is added to the first."""
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(size=(features, 64)) / 4, "w2": generator.normal(size=(64, 64)) / 8,
        "w3": generator.normal(size=(64, 5)) / 8,
    }  # fmt: skip
    tensors = [onnx.numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()]
    node = onnx.helper.make_node
    nodes = [
        *([node("Add", ["x", "more"], ["sum"])] if two_inputs else []),
        node("MatMul", ["sum" if two_inputs else "x", "w1"], ["a"]), node("Relu", ["a"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[1, 0]), node("Transpose", ["c"], ["d"], perm=[1, 0]),
        node("MatMul", ["d", "w2"], ["e"]), node("Relu", ["e"], ["f"]), node("MatMul", ["f", "w3"], ["y"]),
    ]  # fmt: skip
    value = onnx.helper.make_tensor_value_info
    names = ["x", "more"] if two_inputs else ["x"]
    inputs = [value(name, onnx.TensorProto.FLOAT, ["n", features]) for name in names]
    outputs = [value("y", onnx.TensorProto.FLOAT, ["n", 5])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(tmp_path: Path, data: dict[str, Any] | None, **fields: Any) -> dict[str, Any]:
    job = {"kind": "optimize", "name": "auto", "model": {"onnx": str(tmp_path / "model.onnx")}, "measure": TIMING}
    job |= fields | ({"data": data} if data else {})
    return api.run(job, tmp_path / "out", address="inprocess", overwrite=True)


@pytest.mark.usefixtures("even_clock")
def test_without_labels_the_budget_is_on_the_outputs(tmp_path: Path) -> None:
    network(tmp_path / "model.onnx")
    np.save(tmp_path / "rows.npy", np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32))
    summary = run(tmp_path, {"source": str(tmp_path / "rows.npy")}, max_accuracy_drop=0.05)
    assert (summary["task"], summary["metric"]) == ("unlabeled", "agreement")
    assert summary["baseline"]["accuracy"] == 1
    assert {"cosine", "kl"} <= set(summary["baseline"]["others"])
    best = summary["recommended"]
    assert best["size_bytes"] < 0.5 * summary["baseline"]["size_bytes"]
    assert best["drop"] <= 0.05
    assert best["why"]
    assert set(summary["choices"]) == {"smallest", "fastest", "balanced"}
    again = run(tmp_path, {"source": str(tmp_path / "rows.npy")}, max_accuracy_drop=0.05)
    same = ("front", "candidates", "recommended", "choices", "failed", "stopped")
    assert [again[key] for key in same] == [summary[key] for key in same]


def test_without_data_only_what_is_proven_equal_is_recommended(tmp_path: Path) -> None:
    network(tmp_path / "model.onnx")
    summary = run(tmp_path, None, steps=[{"any": ["optimize_graph", "quantize_dynamic"]}])
    verdicts = {row["steps"][-1]: row["verdict"] for row in summary["candidates"]}
    assert verdicts["quantize_dynamic"] == "unverified: there was no data to check it on"
    assert verdicts["optimize_graph"] != verdicts["quantize_dynamic"]
    assert "unverified" in (tmp_path / "out" / "report.html").read_text()
    verdicts = {row["steps"][-1]: row["verdict"] for row in run(tmp_path, None)["candidates"]}
    assert {name for name, verdict in verdicts.items() if "unverified" not in verdict} == {"optimize_graph"}
    assert "quantize_dynamic" in verdicts


@pytest.mark.usefixtures("even_clock")
def test_a_model_with_several_inputs(tmp_path: Path) -> None:
    network(tmp_path / "model.onnx", two_inputs=True)
    generator = np.random.default_rng(1)
    rows = {name: generator.normal(size=(300, 16)).astype(np.float32) for name in ("x", "more")}
    np.savez(tmp_path / "rows.npz", **rows)
    data = {"source": str(tmp_path / "rows.npz"), "features": ["x", "more"]}
    summary = run(tmp_path, data, max_accuracy_drop=0.05)
    assert summary["failed"] == []
    assert any("quantize_static" in step for row in summary["candidates"] for step in row["steps"])
    assert summary["recommended"]["drop"] <= 0.05
    done = subprocess.run([PROGRAM, "verify", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    np.savez(tmp_path / "rows.npz", x=rows["x"], mask=rows["more"])
    with pytest.raises(
        InputError, match="the model's inputs are more, x, the data has mask, x: name them in `features:`"
    ):
        run(tmp_path, data | {"features": ["x", "mask"]})


def test_labels_that_no_change_can_keep_leave_the_baseline(tmp_path: Path) -> None:
    """The metric forgives nothing: the targets are the model's own outputs, and the budget is none."""
    network(tmp_path / "model.onnx")
    x = np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32)
    np.save(tmp_path / "rows.npy", x)
    summary = run(tmp_path, {"source": str(tmp_path / "rows.npy")}, metric="kl", max_accuracy_drop=0)
    within = [row for row in summary["candidates"] if row["drop"] <= 0]
    assert {row["steps"][-1] for row in within} <= {"optimize_graph", "convert_fp16(weights_only=True)"}
    if summary["recommended"]:
        assert summary["recommended"]["drop"] <= 0


def test_the_budget_may_be_held_more_or_less_strictly(tmp_path: Path) -> None:
    network(tmp_path / "model.onnx")
    np.save(tmp_path / "rows.npy", np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32))
    steps = [{"any": [{"use": "quantize_weights", "bits": bits} for bits in (2, 3, 4, 5, 6)]}]
    data, within = {"source": str(tmp_path / "rows.npy")}, {}
    for strictness in ("estimate", "likely", "bound"):
        summary = run(tmp_path, data, steps=steps, max_accuracy_drop=0.1, budget_by=strictness)
        verdicts = {row["id"]: row["verdict"] for row in summary["candidates"]}
        within[strictness] = {id for id, verdict in verdicts.items() if "accuracy budget" not in verdict}
        for row in summary["candidates"]:
            assert (row["verdict"] == "over the accuracy budget") == (row["drop"] > 0.1)
    assert within["bound"] <= within["likely"] <= within["estimate"]
    assert len(within["bound"]) < len(within["estimate"])


@pytest.mark.slow
@pytest.mark.usefixtures("even_clock")
def test_a_torch_model_is_pruned_recovered_and_quantised(small_job: Callable[..., Path], tmp_path: Path) -> None:
    model = {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 2, "hidden": 64}}
    job = small_job(model=model, steps=None, max_accuracy_drop=0.1, budget={"trials": 30})
    summary = api.run(job, tmp_path / "out", address="inprocess")
    steps = [step for row in summary["candidates"] for step in row["steps"]]
    assert any(step.startswith("prune_channels") for step in steps)
    assert len(summary["candidates"]) <= 30
    assert summary["recommended"]["size_bytes"] < 0.5 * summary["baseline"]["size_bytes"]


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_model_alone_is_enough_on_the_command_line(tmp_path: Path) -> None:
    network(tmp_path / "my model.onnx")
    np.save(tmp_path / "rows.npy", np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32))
    options = ["--data", "rows.npy", "--max-drop", "0.05", "--address", "inprocess", "--set", "measure.timing_s=0.01"]
    done = program("run", "my model.onnx", *options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["name"], summary["max_accuracy_drop"]) == ("my-model", 0.05)
    assert any(row["drop"] <= 0.05 for row in summary["candidates"])
    assert (tmp_path / "runs" / "my-model" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.onnx"], "gone.onnx: there is no such file; give the path of an ONNX model or a job file"),
        (["model.onnx", "--target", "y"], "--target: there is no data; add --data FILE"),
        (
            ["job.yaml", "--data", "x.npz"],
            "--data: goes with a model file, and this is a job file; write it into the job",
        ),
        (["model.onnx", "--data", "x.csv"], "data.target: does not say which column is the target"),
        (["model.onnx", "--max-drop", "-1"], "max_accuracy_drop: input should be greater than or equal to 0"),
        (["model.onnx", "--set", "recipe=magic"], "(recipe): input should be 'auto'; got 'magic'"),
        (["model.onnx", "--set", "steps=[optimize_graph]"], "recipe: there are `steps:` as well"),
    ],
)
def test_what_is_wrong_with_a_command_is_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    network(tmp_path / "model.onnx")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    done = program("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_metric_that_gives_nan_fails_the_work_and_says_so(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(metric="nothing:nan", steps=None)
    (job.parent / "nothing.py").write_text("def nan(targets, outputs):\n    return float('nan')\n")
    with pytest.raises(WorkError, match="metric nan gives nan"):
        api.run(job, tmp_path / "out", address="inprocess")


def test_a_target_that_is_not_there_is_told(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(target={"board": "arm"})
    with pytest.raises(WorkError, match="this process is no machine that can be chosen: a `target:` needs Ray"):
        api.run(job, tmp_path / "out", address="inprocess")


@pytest.mark.ray
def test_models_are_timed_on_the_target_alone(small_job: Callable[..., Path], tmp_path: Path, ray_session: str) -> None:
    import ray

    with pytest.raises(WorkError, match="no node has what it asks for"):
        api.run(small_job(target={"resource": "board"}), tmp_path / "none", address=ray_session)
    (node,) = [one for one in ray.nodes() if one["Alive"]]
    label = node["Labels"]["ray.io/node-id"]
    summary = api.run(small_job(target={"ray.io/node-id": label}), tmp_path / "out", address=ray_session)
    assert all(row["latency_ratio"] for row in [summary["baseline"], *summary["front"]])


def saved(
    path: Path, nodes: list[Any], inputs: dict[str, int], outputs: dict[str, list[Any]], tensors: list[Any]
) -> None:
    """A model whose inputs are `(n, 8)` of a type and whose outputs are float of a shape."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [value(name, kind, ["n", 8]) for name, kind in inputs.items()],
        [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()], tensors,
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def floats(name: str, *shape: int) -> Any:
    return onnx.numpy_helper.from_array(np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name)


@pytest.mark.usefixtures("even_clock")
def test_every_output_counts_and_inputs_may_be_whole_numbers(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["words"]), node("ReduceMean", ["words"], ["mean"], axes=[1], keepdims=0),
        node("MatMul", ["mean", "a"], ["first"]), node("MatMul", ["mean", "b"], ["second"]),
    ]  # fmt: skip
    tensors = [floats("table", 200, 32), floats("a", 32, 4), floats("b", 32, 4)]
    saved(
        tmp_path / "model.onnx",
        nodes,
        {"ids": onnx.TensorProto.INT64},
        {"first": ["n", 4], "second": ["n", 4]},
        tensors,
    )
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(0, 200, (300, 8)))
    summary = run(tmp_path, {"source": str(tmp_path / "rows.npy"), "dtype": "int64"}, max_accuracy_drop=0.1)
    assert summary["failed"] == []
    assert summary["recommended"]["size_bytes"] < 0.5 * summary["baseline"]["size_bytes"]
    certificate = json.loads((tmp_path / "out" / summary["recommended"]["path"] / "certificate.json").read_text())
    assert len(certificate["probe"]["outputs"]) == 2


def test_a_model_with_branches_is_made_smaller_as_far_as_it_goes(tmp_path: Path) -> None:
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    branches = [
        onnx.helper.make_graph(
            [node("MatMul", ["h", name], [f"{name}_out"])], name, [],
            [value(f"{name}_out", onnx.TensorProto.FLOAT, ["n", 5])],
        )
        for name in ("left", "right")
    ]  # fmt: skip
    nodes = [
        node("MatMul", ["x", "w"], ["h"]), node("ReduceSum", ["h"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["positive"]),
        node("If", ["positive"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]  # fmt: skip
    zero = onnx.numpy_helper.from_array(np.float32(0), "zero")
    tensors = [floats("w", 8, 128), floats("left", 128, 5), floats("right", 128, 5), zero]
    saved(tmp_path / "model.onnx", nodes, {"x": onnx.TensorProto.FLOAT}, {"y": ["n", 5]}, tensors)
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    summary = run(tmp_path, {"source": str(tmp_path / "rows.npy")}, max_accuracy_drop=0.2)
    assert summary["status"] == "done"
    assert len(summary["candidates"]) >= 3


def test_an_operator_that_the_runtime_does_not_have_is_told(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Magic", ["x"], ["y"], domain="mine")]
    saved(tmp_path / "model.onnx", nodes, {"x": onnx.TensorProto.FLOAT}, {"y": ["n", 8]}, [])
    np.save(tmp_path / "rows.npy", np.zeros((300, 8), np.float32))
    for data in ({"source": str(tmp_path / "rows.npy")}, None):
        with pytest.raises(InputError, match="Magic"):
            run(tmp_path, data)
