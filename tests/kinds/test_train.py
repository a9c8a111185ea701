"""Training jobs: the same weights however often they were broken off, every fault of a job told, nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from rayopt import api
from rayopt.certificates import verify_folder
from rayopt.cli.commands import cli
from rayopt.errors import InputError, WorkError
from rayopt.watch import Silent

MODEL = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [8, 8]}}
OWN = """
import torch

def flat(parameters, lr, **args):
    return torch.optim.RMSprop(parameters, lr=lr, **args)

def nothing(parameters, lr):
    return 3

def squared(outputs, targets):
    return (outputs.softmax(dim=1) - torch.nn.functional.one_hot(targets, outputs.shape[1])).square().mean()

def each(outputs, targets):
    return outputs.square().mean(dim=1)

def dropping(drop):
    layers = torch.nn.Flatten(), torch.nn.Dropout(drop), torch.nn.Linear(64, 10)
    return torch.nn.Sequential(*layers)
"""


@pytest.fixture
def training_job(tmp_path: Path) -> Callable[..., Path]:
    """Writes a quick training job; keyword arguments replace its fields."""

    def write(**fields: Any) -> Path:
        place = tmp_path / "job"
        place.mkdir(exist_ok=True)
        (place / "own_optimizers.py").write_text(OWN)
        job = {
            "kind": "train",
            "name": "quick",
            "model": MODEL,
            "data": {"source": "digits"},
            "epochs": 3,
            "precision": "fp32",
            "layout": "contiguous",
            **fields,
        }
        path = place / "train.yaml"
        path.write_text(yaml.safe_dump(job))
        return path

    return write


class Impatient(Silent):
    """Is interrupted after so many words on how a training goes."""

    def __init__(self, words: int) -> None:
        self.left = words
        self.told: list[Mapping[str, float]] = []

    def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
        self.told.append(metrics)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return False


def run(job: Path, out: Path, **options: Any) -> dict[str, Any]:
    return api.run(job, out, address="inprocess", cache=out.parent / "cache", **options)


def test_a_training_is_measured_as_the_file_that_is_shipped(training_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(training_job(epochs=6), tmp_path / "out")
    metrics = summary["metrics"]
    assert metrics["accuracy"] > 0.9
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["accuracy_n"] == 359
    files = {path.name for path in (tmp_path / "out" / summary["path"]).iterdir()}
    assert files == {"model.onnx", "weights.safetensors", "model.json", "certificate.json"}
    assert [one["epoch"] for one in summary["curve"]] == [1, 2, 3, 4, 5, 6]
    lines = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [one.problem for one in verify_folder(tmp_path / "out")] == [""]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Learning rate" in page
    assert "6 epochs" in page


def test_a_changed_byte_of_a_trained_model_is_found(training_job: Callable[..., Path], tmp_path: Path) -> None:
    summary = run(training_job(epochs=1), tmp_path / "out")
    weights = tmp_path / "out" / summary["path"] / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert "hash differs" in verify_folder(tmp_path / "out")[0].problem


def test_one_that_was_broken_off_goes_on_and_ends_with_the_same_weights(
    training_job: Callable[..., Path], tmp_path: Path
) -> None:
    job = training_job(ema=0.95, clip_norm=1.0, micro_batch=20, checkpoint={"every_steps": 5})
    whole = run(job, tmp_path / "a" / "whole")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(job, tmp_path / "b" / "broken", watcher=Impatient(4))
    assert json.loads((tmp_path / "b" / "broken" / "summary.json").read_text())["status"] == "interrupted"
    again = Impatient(10**6)
    summary = run(job, tmp_path / "b" / "broken", watcher=again)
    assert summary["resumed_at"] > 0
    assert again.told[0]["step"] > 10
    assert summary["model"]["sha256"] == whole["model"]["sha256"]
    assert summary["curve"] == whole["curve"]


def test_a_training_that_was_finished_is_not_done_again(training_job: Callable[..., Path], tmp_path: Path) -> None:
    first = run(training_job(), tmp_path / "first")
    watcher = Impatient(10**6)
    second = run(training_job(), tmp_path / "second", watcher=watcher)
    assert watcher.told == []
    assert second["model"] == first["model"]
    run(training_job(seed=1), tmp_path / "third", watcher=watcher)
    assert watcher.told


def test_a_finished_training_is_not_that_of_a_model_with_the_same_weights(
    training_job: Callable[..., Path], tmp_path: Path
) -> None:
    found = []
    for drop in (0.0, 0.9):
        model = {"factory": "own_optimizers:dropping", "args": {"drop": drop}}
        job = training_job(model=model, epochs=1, optimizer={"use": "own_optimizers:flat", "lr": 0.003})
        found.append(run(job, tmp_path / str(drop))["model"]["sha256"])
    text = (job.parent / "own_optimizers.py").read_text()
    (job.parent / "own_optimizers.py").write_text(text.replace("lr=lr", "lr=2 * lr"))
    found.append(run(job, tmp_path / "edited")["model"]["sha256"])
    assert len(set(found)) == 3


def test_a_probe_is_made_once_for_all_trainings_of_a_kind(training_job: Callable[..., Path], tmp_path: Path) -> None:
    open_to_all = {"precision": "auto", "layout": "auto", "epochs": 1}
    first = run(training_job(**open_to_all), tmp_path / "first")
    second = run(training_job(**open_to_all, seed=1), tmp_path / "second")
    assert len(first["probed"]) == 4
    assert second["probed"] == first["probed"]
    assert [second["precision"], second["layout"]] == [first["precision"], first["layout"]]


def test_who_is_told_may_end_it(training_job: Callable[..., Path], tmp_path: Path) -> None:
    class Content(Silent):
        def measured(self, step: int, metrics: Mapping[str, float], training: str = "") -> bool:
            return metrics["epoch"] >= 2 and "selection_loss" in metrics

    assert run(training_job(epochs=9), tmp_path / "out", watcher=Content())["epochs"] == 2
    assert run(training_job(epochs=9), tmp_path / "other")["epochs"] == 9  # what was ended is not what was asked for


def test_an_optimizer_of_the_users_own(training_job: Callable[..., Path], tmp_path: Path) -> None:
    own = {"use": "own_optimizers:flat", "lr": 0.003, "args": {"alpha": 0.9}}
    curve = run(training_job(optimizer=own), tmp_path / "out")["curve"]
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    with pytest.raises(WorkError, match="own_optimizers:nothing gave int instead of a"):
        run(training_job(optimizer={"use": "own_optimizers:nothing"}), tmp_path / "wrong")


def test_a_loss_of_the_users_own(training_job: Callable[..., Path], tmp_path: Path) -> None:
    curve = run(training_job(loss="own_optimizers:squared", epochs=2), tmp_path / "out")["curve"]
    assert curve[-1]["loss"] < curve[0]["loss"] < 0.1  # the task's own begins at 2.3
    with pytest.raises(WorkError, match=r"step 1 of \d+: the loss own_optimizers:each gave a tensor of shape \(32,\)"):
        run(training_job(loss="own_optimizers:each"), tmp_path / "wrong")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": {"use": "adam"}}, "unknown optimizer 'adam'"),
        ({"optimizer": {"use": "own_optimizers:none"}}, "none"),
        ({"optimizer": {"lr": -1}}, "greater than 0"),
        ({"loss": "own_optimizers:none"}, "own_optimizers has no 'none'"),
        ({"loss": "squared"}, "is not of the form package.module:function"),
        ({"loss": "own_optimizers:squared", "label_smoothing": 0.1}, "is of the task's own loss"),
        ({"batch_size": 4096}, "4096 rows make a batch, and there are"),
        ({"batch_size": 2, "workers": 3}, "2 rows cannot be shared among 3 workers"),
        ({"micro_batch": 64}, "micro_batch 64 is more than batch_size 32"),
        ({"workers": 0}, "0 workers train nothing"),
        ({"workers": {"min": 4, "max": 2}}, "`min` is more than `max`"),
        ({"resources": {"CPU": -1}}, "-1 is no amount"),
        ({"workers": 2}, "2 workers need Ray"),
        ({"precision": "fp8"}, "precision"),
        ({"epohcs": 3}, "did you mean 'epochs'"),
        ({"metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"model": {"onnx": "model.onnx"}}, "an ONNX file cannot be trained"),
        ({"memory": {"budget": "8GiBs"}}, "8GiBs"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_a_fault_is_told_with_its_place(
    training_job: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    job = training_job(**fields)
    (job.parent / "model.onnx").write_bytes(b"")
    done = CliRunner().invoke(cli, ["run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess"])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_data_without_labels_is_refused(training_job: Callable[..., Path], tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "job.npy", np.zeros((50, 64), np.float32))
    with pytest.raises(InputError, match="no labels to train on"):
        run(training_job(data={"source": str(tmp_path / "job.npy")}), tmp_path / "out")


def test_a_loss_that_becomes_infinite_ends_it_with_a_reason(training_job: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"the loss became (nan|inf)"):
        run(training_job(optimizer={"lr": 1e12}), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "lower learning rate" in summary["reason"]
