"""Memory jobs and their command: a plan that fits, told in summary and report, and every fault with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from rayopt import api
from rayopt.cli.commands import cli
from rayopt.errors import InputError

JOB: dict[str, Any] = {
    "kind": "train",
    "name": "small",
    "model": {"factory": "rayopt.models.zoo:mlp", "args": {"features": 64, "outputs": 10, "hidden": 32}},
    "data": {"source": "digits", "features": None},
    "batch_size": 128,
    "precision": "fp32",
}
SOURCE = """
from sklearn.datasets import load_digits

def rows():
    digits = load_digits()
    return digits.data.astype("float32") / 16, digits.target
"""


@pytest.mark.parametrize(("kind", "remedy"), [("distill", "add `memory: {budget"), ("graph", "give a job of kind")])
def test_what_is_not_planned_alone_is_said(kind: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"name: other\nkind: {kind}\n")
    done = CliRunner().invoke(cli, ["memory", str(tmp_path / "job.yaml"), "--budget", "1MiB"])
    assert done.exit_code == 2
    assert f"job.yaml:2: kind: is of kind '{kind}'" in done.stderr
    assert remedy in done.stderr


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "flat_digits.py").write_text(SOURCE)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({**JOB, "data": {"source": "flat_digits:rows"}}))
    return path


def test_the_command_plans_a_training_job(job: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["memory", str(job), "--budget", "1MiB", "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["kind"] == "memory"
    assert summary["predicted_bytes"] <= summary["budget_bytes"] == 1 << 20
    assert summary["measured_bytes"] <= 1 << 20
    assert summary["measured_bytes"] == pytest.approx(summary["predicted_bytes"], rel=0.01)
    assert set(summary["plan"]) == {
        *("micro_batch", "accumulation", "activation_checkpointing", "precision", "layout", "foreach")
    }
    assert "What fits" in (tmp_path / "out" / "report.html").read_text()
    shown = CliRunner().invoke(cli, ["runs", "show", str(tmp_path / "out")])
    assert "weights" in shown.output
    assert "predicted" in shown.output


def test_a_budget_below_the_floor_is_wrong_and_the_floor_is_named(job: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["memory", str(job), "--budget", "10kB", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "10,000 bytes are too few: the least that a step takes is" in done.stderr
    assert "--set memory.budget" in done.stderr


@pytest.mark.parametrize("budget", ["much", "0", "-3MB"])
def test_what_is_no_budget_is_told_with_its_place(job: Path, tmp_path: Path, budget: str) -> None:
    done = CliRunner().invoke(cli, ["memory", str(job), "--budget", budget, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "memory.budget" in done.stderr


def test_a_job_without_a_budget_is_told_to_give_one(job: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no budget"):
        api.run(job, tmp_path / "out", address="inprocess", assignments=["kind=memory"])
