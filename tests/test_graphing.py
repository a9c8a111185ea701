"""A run of kind `graph`: every model is heard of, once; what was finished is not done again, what kills is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rayopt import api
from rayopt.backend import Call, InProcess, Report, Vanished
from rayopt.certificates import verify_folder
from rayopt.engine import Desk
from rayopt.errors import InputError
from rayopt.graph import child
from rayopt.graph.batch import Batch, item
from rayopt.graph.order import Order
from rayopt.graph.run_model import Outcome
from rayopt.graphing import CHUNK, Graphing
from rayopt.report.graph import headline
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.watch import Silent
from tests.graph.hostile import array, good, model, node, value


@pytest.fixture(scope="module", autouse=True)
def _no_nursery_stays() -> Iterator[None]:
    yield
    child.close()


class Deadly(InProcess):
    """Workers that die of any call with a model whose name says so."""

    def __init__(self, calls: list[list[str]]) -> None:
        super().__init__()
        self.calls = calls
        self._dead: list[Report] = []

    def submit(self, call: Call) -> Any:
        names = [Path(path).stem for _, path, _ in call.args[0]]
        self.calls.append(names)
        if any("deadly" in name for name in names):
            self._dead.append(Vanished(call.id, "its worker process died"))
            return None
        return super().submit(call)

    def wait(self, timeout_s: float) -> list[Report]:
        dead, self._dead = self._dead, []
        return dead or super().wait(timeout_s)


def outcomes(items: Sequence[Any], order: Order) -> list[tuple[str, Outcome]]:
    return [(key, Outcome("unchanged", "", {"nodes_before": 2, "nodes_after": 2})) for key, _, _ in items]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[list[str]]]]:
    """Runs a batch of files with the given names on workers that die of deadly ones."""

    def run(names: Sequence[str], out: str = "out") -> tuple[dict[str, Any], list[list[str]]]:
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / f"{name}.onnx").write_bytes(name.encode())
        items = tuple(item(f"{name}.onnx", folder / f"{name}.onnx") for name in names)
        calls: list[list[str]] = []
        (tmp_path / out).mkdir()
        run_folder = RunFolder(tmp_path / out)
        desk = Desk(lambda: Deadly(calls), "here", Cache(tmp_path / "cache"), Silent(), run_folder)
        batch = Batch({"name": "batch"}, items, Order("", "", ("own",)))
        return Graphing(batch, desk, outcomes).run(), calls

    return run


def test_a_model_that_kills_its_worker_costs_only_itself(run: Callable[..., Any]) -> None:
    names = [f"m{index}" for index in range(CHUNK - 1)] + ["deadly", "last"]
    summary, calls = run(names)
    verdicts = {row["name"]: row["verdict"] for row in summary["models"]}
    assert verdicts == {f"{name}.onnx": "killed_worker" if name == "deadly" else "unchanged" for name in names}
    assert calls[0] == names[:CHUNK], "small ones go together"
    assert sorted(calls[2:]) == sorted([name] for name in names[:CHUNK]), "and alone once their chunk was lost"


def test_what_was_finished_is_not_done_again(run: Callable[..., Any]) -> None:
    _, first = run(["a", "b", "deadly"])
    summary, again = run(["a", "b", "deadly", "c"], "other")
    assert first[0] == ["a", "b", "deadly"]
    assert again[0] == ["deadly", "c"], "a and b are remembered, each by its own content"
    assert summary["cached_count"] == 2
    assert len(summary["models"]) == 4


def test_the_memory_that_a_model_needs_is_that_of_its_external_data_too(tmp_path: Path) -> None:
    onnx.save(good(), tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(300 << 20)  # sparse
    found = item("model.onnx", tmp_path / "model.onnx")
    assert found.data_bytes == 300 << 20
    assert found.memory_bytes > 5 * (300 << 20)
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(8 << 30)
    assert item("model.onnx", tmp_path / "model.onnx").memory_bytes < 2 << 30, "it is worked on without its data"
    (tmp_path / "w.bin").unlink()
    assert item("model.onnx", tmp_path / "model.onnx").data_bytes == 0
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)))
    assert item("noise.onnx", tmp_path / "noise.onnx").data_bytes == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a batch with models that can be made smaller, one that cannot, and one that is broken."""
    folder = tmp_path_factory.mktemp("graph")
    (folder / "models" / "inner").mkdir(parents=True)
    (folder / "models" / "good.onnx").write_bytes(good().SerializeToString())
    (folder / "models" / "inner" / "good.onnx").write_bytes(good().SerializeToString())
    (folder / "models" / "least.onnx").write_bytes(model([node("Relu", "x", "y")]).SerializeToString())
    (folder / "models" / "broken.onnx").write_bytes(good().SerializeToString()[:50])
    job = {"kind": "graph", "name": "batch", "models": str(folder / "models"), "tools": ["own"], "timing_s": 0.01}
    api.run(job, folder / "out", address="inprocess", cache=folder / "cache")
    return folder / "out"


def test_every_model_of_a_folder_has_a_verdict(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    verdicts = {row["name"]: row["verdict"] for row in summary["models"]}
    assert verdicts == {
        "good.onnx": "optimized",
        "inner/good.onnx": "optimized",
        "least.onnx": "unchanged",
        "broken.onnx": "unreadable",
    }
    assert headline(summary).startswith("2 of 4 models optimized")
    assert headline(summary).endswith("1 kept as they are, 1 refused")
    page = (finished / "report.html").read_text()
    assert "the bytes are no whole ONNX file" in page
    for row in summary["models"]:
        if row["path"]:
            assert len(onnx.load(finished / row["path"]).graph.node) == row["nodes_after"] == 2
            assert row["latency_ratio"] > 0


def test_the_proof_can_be_repeated_and_a_changed_byte_is_found(finished: Path) -> None:
    assert [one.problem for one in verify_folder(finished)] == ["", ""]
    (first, _) = sorted(finished.glob("artifacts/*/good.onnx"))
    content = first.read_bytes()
    first.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    problems = [one.problem for one in verify_folder(finished)]
    first.write_bytes(content)
    assert sorted(problems) == ["", "good.onnx is not what was proven: its hash differs"]
    certificate = first.parent / "certificate.json"
    content = certificate.read_bytes()
    certificate.write_bytes(content.replace(b'"max_error": 0', b'"max_error": 1'))
    problems = [one.problem for one in verify_folder(finished)]
    certificate.write_bytes(content)
    assert sorted(problems) == ["", "certificate.json is not what the summary names: its hash differs"]


def test_another_model_with_a_certificate_to_match_is_found_by_running_it(finished: Path) -> None:
    import hashlib

    summary = json.loads((finished / "summary.json").read_text())
    row = next(row for row in summary["models"] if row["name"] == "good.onnx")
    path, at = finished / row["path"], finished / "artifacts" / row["id"] / "certificate.json"
    kept = path.read_bytes(), at.read_bytes(), (finished / "summary.json").read_bytes()
    other = model([node("MatMul", "x w", "h"), node("Relu", "h", "y")], weights=[array("w", [[1, 2, 3, 4]] * 4)])
    sha256 = hashlib.sha256(other.SerializeToString()).hexdigest()
    path.write_bytes(other.SerializeToString())
    certificate = json.loads(kept[1])
    certificate["source"]["path"] = "/nowhere/good.onnx"  # the recorded outputs are all there is
    at.write_text(json.dumps(certificate | {"files": {"good.onnx": sha256}}))
    row |= {"sha256": sha256, "certificate_sha256": hashlib.sha256(at.read_bytes()).hexdigest()}
    (finished / "summary.json").write_text(json.dumps(summary))
    found = {one.id: one.problem for one in verify_folder(finished)}
    for place, content in zip((path, at, finished / "summary.json"), kept, strict=True):
        place.write_bytes(content)
    assert "differ by up to" in found[row["id"]]


@pytest.mark.parametrize(
    ("models", "says"),
    [("nowhere.onnx", "there is no nowhere.onnx"), ("nopackage:x", "there is no package"), ("*.onnx", "no models in")],
)
def test_a_job_without_models_is_told_at_once(models: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        api.run({"kind": "graph", "name": "none", "models": models}, tmp_path / "out", address="inprocess")


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_same_bytes_in_any_order(ray_session: str, tmp_path: Path) -> None:
    for index in range(6):
        weights = [array("w", np.random.default_rng(index).normal(size=(4, 4))), array("b", [1.0]), array("c", [2.0])]
        nodes = [
            node("Identity", "x", "i"),
            node("Add", "b c", "d"),
            node("MatMul", "i w", "h"),
            node("Add", "h d", "y"),
        ]
        (tmp_path / f"m{index}.onnx").write_bytes(model(nodes, [value("x")], weights=weights).SerializeToString())
    found = []
    for address, order in (("inprocess", range(6)), (None, reversed(range(6)))):
        job = {"kind": "graph", "name": "batch", "tools": ["own", "ort_basic"], "timing_s": 0}
        job["models"] = [str(tmp_path / f"m{index}.onnx") for index in order]
        out = tmp_path / f"out-{address}"
        summary = api.run(job, out, address=address, cache=tmp_path / f"cache-{address}")
        found.append({row["name"]: (row["verdict"], row["sha256"]) for row in summary["models"]})
    assert found[0] == found[1]
    assert {verdict for verdict, _ in found[0].values()} == {"optimized"}


def test_the_python_face_gives_a_model_and_saves_it(tmp_path: Path) -> None:
    import rayopt

    (tmp_path / "good.onnx").write_bytes(good().SerializeToString())
    optimizer = rayopt.ModelOptimizer(tmp_path / "good.onnx")
    made = optimizer.optimize_graph(tools=("own",), timing_s=0)
    assert [one.op_type for one in made.graph.node] == ["MatMul", "Relu"]
    optimizer.save(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == made
    assert json.loads((tmp_path / "out.json").read_text())["nodes_after"] == 2
    (tmp_path / "bad.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="empty_file"):
        rayopt.ModelOptimizer(tmp_path / "bad.onnx").optimize_graph()


@pytest.mark.parametrize("large", [False, True])
def test_the_external_data_of_a_model_is_saved_with_it(large: bool, tmp_path: Path) -> None:
    import rayopt

    weight = array("w", np.ones((40, 40)))
    made = model([node("MatMul", "x w", "y")], [value("x", ("n", 40))], [value("y", ("n", 40))], [weight])
    onnx.save(made, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    optimizer = rayopt.ModelOptimizer(tmp_path / "model.onnx")
    found = optimizer.optimize_graph(tools=("own",), timing_s=0)
    assert optimizer.outcome is not None
    assert optimizer.outcome.verdict == "unchanged"
    assert np.array_equal(onnx.numpy_helper.to_array(found.graph.initializer[0]), np.ones((40, 40)))
    if large:  # its model refers to the data, as that of a large one does
        told = {**optimizer.outcome.told, "copied": ["w.bin"]}
        content = (tmp_path / "model.onnx").read_bytes()
        optimizer.outcome = replace(optimizer.outcome, told=told, files={"model.onnx": content})
    optimizer.save(tmp_path / "out" / "model.onnx")
    assert np.array_equal(onnx.numpy_helper.to_array(onnx.load(tmp_path / "out" / "model.onnx").graph.initializer[0]),
                          np.ones((40, 40)))  # fmt: skip
    optimizer.save(tmp_path / "again.onnx")
    assert (tmp_path / "w.bin").stat().st_size == 6400
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "w.bin").write_bytes(b"of another model")
    with pytest.raises(InputError, match="another file is there already"):
        optimizer.save(tmp_path / "other" / "model.onnx")
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["w.bin"]
