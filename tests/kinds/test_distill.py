"""Distillations from start to end on small data, and jobs that cannot be run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from rayopt import api
from rayopt.certificates import verify_folder
from rayopt.errors import InputError
from rayopt.graph.export import export
from rayopt.models.zoo import mlp
from rayopt.watch import Silent

MODEL = {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 3, "hidden": 8, "layers": 1}}
TEACHER = {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 3, "hidden": 16}}
X = np.random.default_rng(0).normal(size=(160, 4)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a quick job: data of which every other row has a label, a teacher that knows, a small student."""
    torch.manual_seed(0)
    teacher = mlp(4, 3, hidden=16)
    with torch.no_grad():
        optimizer = torch.optim.Adam(teacher.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(teacher(torch.tensor(X)), torch.tensor(Y)))
        optimizer.step()
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    (tmp_path / "teacher.onnx").write_bytes(export(teacher.eval(), X[:20], ["torchscript"], 17, 0).files["model.onnx"])
    np.savez(tmp_path / "rows.npz", x=X, y=np.where(np.arange(160) % 2, Y, -1))
    np.savez(tmp_path / "bare.npz", x=X)
    np.savez(tmp_path / "wide.npz", x=np.zeros((160, 5), np.float32), y=Y)

    def write(**fields: Any) -> Path:
        told = {
            "kind": "distill",
            "name": "small",
            "student": MODEL,
            "teacher": {**TEACHER, "weights": "teacher.safetensors"},
            "data": {"source": "rows.npz"},
            "missing": -1,
            "epochs": 12,
            "batch_size": 16,
            "precision": "fp32",
            "layout": "contiguous",
            **fields,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in told.items() if value is not None}))
        return path

    return write


def run(path: Path, out: str = "out", **more: Any) -> dict[str, Any]:
    return api.run(path, path.parent / out, address="inprocess", **more)


def faults(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        run(path, "bad")
    assert all(one.remedy for one in caught.value.faults)
    return [str(one) for one in caught.value.faults]


def test_it_reports_the_student_alone_and_taught_beside_the_teacher(job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(job())
    assert (summary["kind"], summary["status"]) == ("distill", "done")
    assert summary["rows"]["unlabeled"] == 80
    assert sum(summary["rows"].values()) < 160  # some labelled rows calibrate
    named = {"student alone", "teacher mlp"}
    assert set(summary["beside"]) == named
    for metrics in (summary["metrics"], *(one["metrics"] for one in summary["beside"].values())):
        assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
        assert metrics["accuracy_n"] == summary["rows"]["test"]
    assert summary["metrics"]["accuracy"] > 0.7
    gain = summary["metrics"]["accuracy"] - summary["beside"]["student alone"]["metrics"]["accuracy"]
    assert summary["gain"]["value"] == pytest.approx(gain)
    assert summary["gain"]["low"] <= gain <= summary["gain"]["high"]
    assert summary["loss"]["alpha"] == 0
    assert summary["blocks_asked"] == 1
    assert (tmp_path / "out" / summary["path"] / "model.onnx").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "student alone" in page
    assert "teacher mlp" in page


def test_a_finished_run_is_found_again_and_its_answers_serve_others(job: Callable[..., Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = run(job(), cache=cache)
    again = run(job(), cache=cache)
    assert again["path"] == first["path"]
    other = run(job(loss={"use": "standardized"}, name="other"), "other", cache=cache)
    assert other["blocks_asked"] == 0
    assert other["path"] != first["path"]


def test_a_changed_student_trains_neither_the_teacher_again_nor_what_does_not_follow_it(
    job: Callable[..., Path], tmp_path: Path
) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.trainings: set[str] = set()

        def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
            self.trainings.add(training)
            return False

    def trained(out: str, **fields: Any) -> set[str]:
        heard = Heard()
        run(job(teacher={**TEACHER, "train": {"epochs": 2}}, **fields), out, cache=tmp_path / "cache", watcher=heard)
        return heard.trainings

    assert trained("first") == {"teacher-0", "alone", ""}
    assert trained("loss", loss={"use": "standardized"}) == {""}
    assert trained("student", student=MODEL | {"args": MODEL["args"] | {"hidden": 6}}) == {"alone", ""}
    assert trained("rows", seed=1) == {"teacher-0", "alone", ""}


def test_every_loss_and_several_teachers_of_every_kind(job: Callable[..., Path], tmp_path: Path) -> None:
    first = run(job(name="first", epochs=2), "first")
    (tmp_path / "runs").mkdir()
    (tmp_path / "first.yaml").write_text("kind: distill\nname: first\n")
    (tmp_path / "runs" / "first").symlink_to(tmp_path / "first")
    teachers = [
        {**TEACHER, "weights": "teacher.safetensors", "weight": 2},
        {"onnx": "teacher.onnx"},
        {"run": "first"},
        {"job": "first.yaml"},
    ]
    summary = run(job(teacher=teachers, loss={"use": "decoupled", "alpha": 0.3}, epochs=2, alone=False), "several")
    assert len(summary["beside"]) == 4
    taught = [one["metrics"]["accuracy"] for one in summary["beside"].values()]
    assert taught[0] == taught[1]
    assert taught[2] == taught[3] == pytest.approx(first["metrics"]["accuracy"])


def test_a_teacher_is_trained_first_where_the_job_says_so(job: Callable[..., Path]) -> None:
    summary = run(job(teacher={**TEACHER, "train": {"epochs": 20, "batch_size": 16}}, alone=False))
    assert summary["beside"]["teacher mlp"]["metrics"]["accuracy"] > 0.7


def test_views_and_layers(job: Callable[..., Path]) -> None:
    features = [{"use": "hints", "student": "1", "teacher": "1"}, {"use": "relational", "student": "0", "teacher": "2"}]
    summary = run(job(views={"count": 2, "noise": 0.1}, loss={"features": features}, epochs=2))
    assert summary["blocks_asked"] == 2
    assert summary["status"] == "done"


def test_no_labels_at_all(job: Callable[..., Path]) -> None:
    summary = run(job(data={"source": "bare.npz"}, missing=None))
    assert summary["graded_by"] == "the first teacher"
    assert summary["beside"]["teacher mlp"]["metrics"]["accuracy"] == 1
    assert "student alone" not in summary["beside"]
    assert summary["metrics"]["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"teacher": {**TEACHER, "args": {**TEACHER["args"], "outputs": 7}}}, "the teacher gives 7 outputs for a row"),
        ({"teacher": {"onnx": "none.onnx"}}, "there is no file"),
        ({"teacher": {"run": "none"}}, "there is no folder"),
        ({"teacher": {"job": "job.yaml"}}, "the job 'small' has not been run"),
        ({"teacher": {}}, "names no teacher"),
        ({"teacher": {"onnx": "teacher.onnx", "run": "."}}, "names two teachers"),
        ({"teacher": {"run": "."}}, "holds no run that has ended"),
        ({"data": {"source": "bare.npz"}, "missing": None, "loss": {"alpha": 0.5}}, "no row of the data has one"),
        ({"loss": {"args": {"others": 2}}}, "soft has no argument 'others'"),
        ({"loss": {"use": "decopled"}}, "loss.use"),
        ({"loss": {"features": [{"use": "hints", "student": "9", "teacher": "1"}]}}, "the model has no layer '9'"),
        ({"views": {"count": 2, "shift": 1}}, "is for images"),
        ({"student": {"onnx": "teacher.onnx"}}, "an ONNX file cannot be trained"),
    ],
)
def test_what_cannot_be_is_said_with_place_and_remedy(
    job: Callable[..., Path], fields: dict[str, Any], told: str
) -> None:
    said = faults(job(**fields))
    assert any(told in one for one in said), said
    assert all("job.yaml" in one for one in said)


def test_an_onnx_teacher_whose_inputs_do_not_fit(job: Callable[..., Path]) -> None:
    student = {**MODEL, "args": {**MODEL["args"], "features": 5}}
    said = faults(job(student=student, teacher={"onnx": "teacher.onnx"}, data={"source": "wide.npz"}))
    assert any("the teacher does not take rows of shape (5,)" in one for one in said)


def test_a_teachers_file_that_was_changed_is_not_taken(job: Callable[..., Path], tmp_path: Path) -> None:
    first = run(job(name="first", epochs=1, alone=False), "first")
    path = tmp_path / "first" / first["path"] / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    assert "is not what the run wrote" in faults(job(teacher={"run": "first"}))[0]


def test_the_models_are_those_that_were_measured(job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(job(epochs=1))
    certificate = json.loads((tmp_path / "out" / summary["path"] / "certificate.json").read_text())
    assert certificate["sha256"] == summary["model"]["sha256"]
    assert all(not one.problem for one in verify_folder(tmp_path / "out"))


def test_only_the_student_is_judged_on_the_way_and_all_are_in_the_journal(
    job: Callable[..., Path], tmp_path: Path
) -> None:
    heard: list[str] = []

    class Heard(Silent):
        def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
            heard.append(training)
            return False

    run(job(epochs=3), watcher=Heard())
    assert set(heard) == {"", "alone"}
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    epochs = {name: [line["epoch"] for line in lines if line.get("training") == name] for name in ("alone", None)}
    assert epochs[None] == [1, 2, 3]
    assert epochs["alone"] == list(range(1, 1 + max(epochs["alone"])))
