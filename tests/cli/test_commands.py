"""The command line: exit codes, streams, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayopt.cli.commands import cli

HEAVY = {"ray", "torch", "onnx", "onnxruntime", "sklearn", "numpy", "pandas", "rich", "plotly", "onnxoptimizer"}
QUICKSTART = str(Path(__file__).parent.parent.parent / "jobs" / "quickstart.yaml")


def imported(*words: str) -> set[str]:
    """The top-level modules that a command has loaded by its end."""
    code = (
        "import sys, click\n"
        "from rayopt.cli.commands import cli\n"
        f"cli({list(words)!r}, standalone_mode=False)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(eval(done.stderr.strip().splitlines()[-1]))  # noqa: S307 - our own list of names


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("validate", QUICKSTART)])
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    loaded = imported(*words)
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_help_needs_no_pydantic_and_no_yaml() -> None:
    assert imported("--help") & {"pydantic", "yaml"} == set()


@pytest.fixture
def done(small_job: Callable[..., Path], tmp_path: Path) -> Path:
    result = CliRunner().invoke(
        cli, ["run", str(small_job()), "--out", str(tmp_path / "out"), "--address", "inprocess"]
    )
    assert result.exit_code == 0, result.output
    assert "candidates measured, 0 failed" in result.stdout
    assert f"report: {tmp_path / 'out' / 'report.html'}" in result.stdout
    assert "1/" in result.stderr
    return tmp_path / "out"


def test_a_run_leaves_the_whole_folder(done: Path) -> None:
    names = {path.name for path in done.iterdir()} - {".lock"}
    assert names == {"job.yaml", "plan.json", "outcomes.jsonl", "artifacts", "summary.json", "report.html"} | {
        *("log.txt", "log.jsonl")
    }
    summary = json.loads((done / "summary.json").read_text())
    plan = json.loads((done / "plan.json").read_text())
    assert summary["kind"] == "optimize"
    assert plan["job"]["measure"]["threads"] == 1
    assert plan["versions"]["torch"]
    baseline = done / summary["baseline"]["path"]
    assert summary["baseline"]["size_bytes"] == (baseline / "model.onnx").stat().st_size
    assert (baseline / "certificate.json").is_file()


def test_json_is_one_document_on_stdout(small_job: Callable[..., Path], tmp_path: Path) -> None:
    words = ["run", str(small_job()), "--out", str(tmp_path / "out"), "--address", "inprocess", "--json"]
    result = CliRunner().invoke(cli, words)
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_what_a_users_code_prints_is_no_result(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(model={"factory": "chatty:build"})
    (tmp_path / "job" / "chatty.py").write_text(
        "from rayopt.models.zoo import mlp\ndef build():\n    print('hello')\n    return mlp(4, 2)\n"
    )
    words = ["run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess", "--json"]
    result = CliRunner().invoke(cli, words)
    assert json.loads(result.stdout)["status"] == "done"
    assert "hello" in result.stderr


def test_a_second_run_does_nothing_again(done: Path, small_job: Callable[..., Path]) -> None:
    lines = (done / "outcomes.jsonl").read_text()
    result = CliRunner().invoke(cli, ["run", str(small_job()), "--out", str(done), "--address", "inprocess"])
    assert result.exit_code == 0
    assert "done:" not in result.stderr
    assert "is ready" not in result.stderr
    assert (done / "outcomes.jsonl").read_text() == lines


def test_verify_finds_a_changed_byte(done: Path) -> None:
    assert CliRunner().invoke(cli, ["verify", str(done)]).exit_code == 0
    summary = json.loads((done / "summary.json").read_text())
    model = done / summary["baseline"]["path"] / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    result = CliRunner().invoke(cli, ["verify", str(done)])
    assert result.exit_code == 1
    assert "model.onnx is not what was measured: its hash differs" in result.stdout


def test_runs_can_be_listed_shown_and_compared(done: Path) -> None:
    listed = CliRunner().invoke(cli, ["runs", "list", str(done.parent)])
    assert str(done) in listed.stdout
    shown = CliRunner().invoke(cli, ["runs", "show", str(done), "--json"])
    assert json.loads(shown.stdout)["name"] == "small"
    compared = CliRunner().invoke(cli, ["runs", "compare", str(done), str(done)])
    assert compared.exit_code == 0
    assert CliRunner().invoke(cli, ["runs", "show", str(done.parent)]).exit_code == 2


def test_the_report_can_be_written_again(done: Path) -> None:
    (done / "report.html").unlink()
    assert CliRunner().invoke(cli, ["report", str(done)]).exit_code == 0
    assert (done / "report.html").stat().st_size > 1000


def test_methods_are_listed_with_parameters_and_defaults() -> None:
    result = CliRunner().invoke(cli, ["methods"])
    assert "quantize_static  (onnx -> onnx)" in result.stdout
    assert "round_to: integer = 8" in result.stdout
    told = json.loads(CliRunner().invoke(cli, ["methods", "--json"]).stdout)
    assert told["recover"]["parameters"]["temperature"]["default"] == 4.0


def test_a_failing_baseline_is_exit_code_1(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(train={"epochs": 1, "lr": 1e30})
    result = CliRunner().invoke(cli, ["run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess"])
    assert result.exit_code == 1
    assert "failed: the baseline cannot be made or measured: train(" in result.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"


def test_validate_prints_every_default(small_job: Callable[..., Path]) -> None:
    result = CliRunner().invoke(cli, ["validate", str(small_job()), "--json"])
    assert json.loads(result.stdout)["train"]["momentum"] == 0.9
