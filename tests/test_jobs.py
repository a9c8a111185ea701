"""The jobs that ship, run as a user would, and jobs of other shapes: regression, an ONNX file, chains that fail."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas
import pytest
import torch

from rayopt import api
from rayopt.graph.export import export
from rayopt.models.onnx_model import MODEL
from rayopt.models.zoo import mlp

JOBS = Path(__file__).parent.parent / "jobs"
PROGRAM = str(Path(sys.executable).parent / "rayopt")


@pytest.mark.ray
@pytest.mark.slow
def test_the_quickstart_ends_with_a_smaller_and_faster_model(tmp_path: Path, ray_session: str) -> None:
    summary = api.run(JOBS / "quickstart.yaml", tmp_path / "out", address=ray_session)
    baseline, recommended = summary["baseline"], summary["recommended"]
    assert len(summary["candidates"]) >= 8
    assert summary["failed"] == []
    assert baseline["accuracy"] > 0.95
    assert recommended["size_bytes"] < baseline["size_bytes"] / 3
    assert all(high < 1 for high in recommended["latency_ratio_high"].values())
    assert baseline["selection_accuracy"] - recommended["selection_accuracy"] <= summary["max_accuracy_drop"]
    dynamic = [row for row in summary["candidates"] if row["steps"][-1] == "quantize_dynamic"]
    assert dynamic[0]["verdict"] in ("larger than the baseline", "slower than the baseline")
    assert {row["accuracy_split"] for row in [baseline, *summary["front"]]} == {"test"}
    assert {row["accuracy_split"] for row in summary["candidates"] if row["id"] not in ids(summary["front"])} == {
        "selection"
    }
    for row in [baseline, *summary["front"]]:
        files = [path for path in (tmp_path / "out" / row["path"]).iterdir() if path.name != "certificate.json"]
        assert row["size_bytes"] == sum(path.stat().st_size for path in files)
    assert "Recommended" in (tmp_path / "out" / "report.html").read_text()


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}


def test_the_own_model_job_runs_from_another_folder(tmp_path: Path) -> None:
    job = JOBS / "own_model" / "own_model.yaml"
    done = subprocess.run(
        [PROGRAM, "run", str(job), "--address", "inprocess", "--json", "--set", "train.epochs=5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["metric"] == "balanced_accuracy"
    assert summary["baseline"]["accuracy"] > 0.8
    assert len(summary["candidates"]) == 5
    assert (tmp_path / "runs" / "own-model" / "report.html").is_file()


def test_a_regression_on_a_table(small_job: Callable[..., Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4))
    table = pandas.DataFrame(x, columns=list("abcd"))
    table["price"] = x @ [1.0, -2.0, 0.5, 0.0] + 0.01 * generator.normal(size=300)
    job = small_job(
        model={"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 1, "hidden": 32}},
        data={"source": "prices.parquet", "target": "price"},
        train={"epochs": 15, "lr": 0.02, "batch_size": 16},
        steps=[{"any": ["quantize_dynamic", [{"use": "prune_channels", "keep": 0.5}, "recover"]]}],
        max_accuracy_drop=0.1,
    )
    table.to_parquet(tmp_path / "job" / "prices.parquet")
    summary = api.run(job, tmp_path / "out", address="inprocess")
    assert (summary["task"], summary["metric"]) == ("regression", "r2")
    assert summary["baseline"]["accuracy"] > 0.9
    assert summary["baseline"]["others"]["rmse"] > 0
    assert summary["failed"] == []


def test_a_metric_of_which_less_is_better(small_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = api.run(small_job(metric="log_loss"), tmp_path / "out", address="inprocess")
    assert summary["higher_is_better"] is False
    assert summary["baseline"]["others"]["accuracy"] > 0.5


def test_a_classifier_that_has_an_onnx_file_only(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(model={"onnx": "given.onnx"}, train=None, steps=[{"any": ["optimize_graph", "quantize_static"]}])
    torch.manual_seed(0)
    given = export(mlp(4, 2, hidden=64).eval(), np.zeros((20, 4), np.float32), ["torchscript"], 17, 0)
    (tmp_path / "job" / "given.onnx").write_bytes(given.files[MODEL])
    summary = api.run(job, tmp_path / "out", address="inprocess")
    assert summary["baseline"]["steps"] == []
    assert summary["baseline"]["size_bytes"] == given.size_bytes
    assert [row["steps"] for row in summary["candidates"]] == [["optimize_graph"], ["quantize_static"]]


def test_a_model_that_fixes_its_batch_size_is_timed_at_that_one(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(model={"onnx": "given.onnx"}, train=None, steps=["quantize_static"])
    given = export(mlp(4, 2, hidden=64).eval(), np.zeros((20, 4), np.float32), ["torchscript"], 17, 0)
    proto = onnx.load_from_string(given.files[MODEL])
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(proto, tmp_path / "job" / "given.onnx")
    summary = api.run(job, tmp_path / "out", address="inprocess")
    assert list(summary["baseline"]["latency_ratio"]) == ["3"]
    assert summary["failed"] == []


BROKEN = '''
"""Breaks a model in the way that it is told to."""
from rayopt.models.onnx_model import from_proto, to_proto
from rayopt.spec import Settings

accepts = gives = "onnx"
version = 1

class Params(Settings):
    how: str = "raise"

def apply(model, params, context):
    import numpy as np, onnx
    proto = to_proto(model)
    if params.how == "raise":
        raise ZeroDivisionError("no luck")
    if params.how == "nan":
        for tensor in proto.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))
    if params.how == "rename":
        proto.graph.node[0].op_type = "Nonsense"
    return from_proto(proto)
'''


def test_a_chain_that_fails_ends_alone_and_says_why(small_job: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "job" / "bad").mkdir(parents=True)
    (tmp_path / "job" / "bad" / "step.py").write_text(BROKEN)
    ways = [{"use": "bad.step", "how": how} for how in ("raise", "nan", "rename")]
    after = [{"use": "bad.step", "how": "raise"}, "quantize_dynamic"]
    summary = api.run(
        small_job(steps=["export_onnx", {"any": [*ways, after, "quantize_dynamic"]}]),
        tmp_path / "out",
        address="inprocess",
    )
    reasons = {(row["steps"][-1], row["step"]): row["reason"] for row in summary["failed"]}
    assert reasons[("bad.step(how=raise)", "bad.step(how=raise)")] == "ZeroDivisionError: no luck"
    assert "the model gives NaN or infinite outputs for" in reasons[("bad.step(how=nan)", "evaluate")]
    assert "ONNX Runtime does not load the model" in reasons[("bad.step(how=rename)", "evaluate")]
    assert reasons[("quantize_dynamic", "bad.step(how=raise)")] == "ZeroDivisionError: no luck"
    assert [row["steps"][-1] for row in summary["candidates"]] == ["quantize_dynamic"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == ["done", "done", "failed", "failed", "failed", "failed"]
    assert "ZeroDivisionError: no luck" in (tmp_path / "out" / "report.html").read_text()
    assert "Traceback" in (tmp_path / "out" / "log.txt").read_text()


def test_that_nothing_is_better_is_a_result(small_job: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "job" / "bad").mkdir(parents=True)
    (tmp_path / "job" / "bad" / "step.py").write_text(BROKEN)
    job = small_job(steps=["export_onnx", {"use": "bad.step", "how": "nan"}])
    summary = api.run(job, tmp_path / "out", address="inprocess")
    assert summary["status"] == "done"
    assert summary["recommended"] is None
    assert summary["front"] == []


def test_a_job_can_be_a_dict(points: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", x=points[0], y=points[1])
    job = {
        "kind": "optimize",
        "name": "dict",
        "model": {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 2}},
        "data": {"source": str(tmp_path / "points.npz")},
        "train": {"epochs": 1},
        "steps": ["quantize_static"],
        "measure": {"timing_s": 0.01},
    }
    assert api.run(job, tmp_path / "out", address="inprocess")["name"] == "dict"


def test_an_interrupted_repeat_does_not_undo_what_was_finished(
    small_job: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job()
    out = tmp_path / "out"
    finished = api.run(job, out, address="inprocess", cache=tmp_path / "one")

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rayopt.work.time_together", stop)
    with pytest.raises(KeyboardInterrupt):
        api.run(job, out, address="inprocess", cache=tmp_path / "two")
    assert json.loads((out / "summary.json").read_text()) == finished
    assert (out / finished["baseline"]["path"] / "model.onnx").is_file()


def test_two_runs_in_one_process_take_turns_and_give_the_same_bytes(
    small_job: Callable[..., Path], tmp_path: Path
) -> None:
    jobs = {seed: small_job(f"job{seed}", seed=seed) for seed in (1, 2)}
    alone = {seed: api.run(job, tmp_path / f"alone{seed}", address="inprocess") for seed, job in jobs.items()}
    together: dict[int, dict[str, Any]] = {}

    def run(seed: int) -> None:
        out, cache = tmp_path / f"together{seed}", tmp_path / f"cache{seed}"
        together[seed] = api.run(jobs[seed], out, address="inprocess", cache=cache)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in jobs:
        assert together[seed]["baseline"]["sha256"] == alone[seed]["baseline"]["sha256"]


def test_one_logit_is_enough_for_two_classes(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(
        model={"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 1, "hidden": 32}},
        train={"epochs": 15, "batch_size": 16},
        steps=[{"any": ["quantize_static", [{"use": "prune_channels", "keep": 0.5}, "recover"]]}],
    )
    summary = api.run(job, tmp_path / "out", address="inprocess")
    assert summary["baseline"]["accuracy"] > 0.8
    assert summary["failed"] == []
