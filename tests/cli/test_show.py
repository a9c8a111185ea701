"""What the terminal shows: nothing is lost in a narrow one, nothing in the cells is read as markup."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from rayopt.cli import show
from rayopt.cli.commands import cli
from rayopt.cli.tables import print_table

BATCHES = ("1", "32")


def model(id: str, size_bytes: int, ratio: float, batches: tuple[str, ...], *steps: str) -> dict[str, Any]:
    return {
        "id": id,
        "steps": ["train", "export_onnx", *steps],
        "size_bytes": size_bytes,
        "accuracy": 0.831,
        "accuracy_split": "test",
        "latency_ms": dict.fromkeys(batches, 12.3 * ratio),
        "latency_ratio": dict.fromkeys(batches, ratio),
        "verdict": "on the front",
        "twin_of": None,
    }


def summary(batches: tuple[str, ...] = BATCHES, metric: str = "mae") -> dict[str, Any]:
    best = model("be57aaaaaaaa", 103_780, 0.0562, batches, "prune_channels(keep=[half])", "quantize_static")
    front = [best, model("f20bbbbbbbbb", 266_244, 0.437, batches, "prune_channels", "recover(rounds=3)", "fold")]
    return {
        "kind": "optimize",
        "name": "small",
        "status": "done",
        "metric": metric,
        "seconds": 12.7,
        "baseline": model("ba5ecccccccc", 1_036_802, 1.0, batches) | {"verdict": "baseline"},
        "recommended": best,
        "front": front,
        "candidates": front,
        "failed": [],
    }


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Prints to a terminal of a width and gives what is on it."""

    def printed(width: int, call: Callable[[], None]) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        call()
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return printed


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("metric", ["accuracy", "mae", "a_metric_of_a_plug_in_with_a_long_name"])
def test_nothing_is_lost_at_any_width(printed: Callable[..., str], width: int, count: int, metric: str) -> None:
    found = summary(tuple(str(2**power) for power in range(count)), metric)
    table = printed(width, lambda: show.show_summary(found, Path("out"), False)).partition("2 candidates")[0]
    assert max(map(len, table.splitlines())) <= width
    words = ["be57aaaaaaaa *", "f20bbbbbbbbb", "ba5ecccccccc", "1013 KiB", "101 KiB (0.10)", "260 KiB (0.26)"]
    words += ["0.691 ms (0.056)", "5.38 ms (0.44)", "12.3 ms", metric]
    words += ["quantize_static", "prune_channels(keep=[half])", "recover(rounds=3)"]
    assert [word for word in words if word not in table] == []
    assert table.count("0.691 ms (0.056)") == count
    assert "…" not in table


def test_steps_are_below_each_row_of_a_narrow_terminal(printed: Callable[..., str]) -> None:
    lines = printed(80, lambda: show.show_summary(summary(), Path("out"), False)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("be57"))
    assert re.split("  +", lines[at]) == ["be57aaaaaaaa *", "101 KiB (0.10)", *["0.691 ms (0.056)"] * 2, "0.8310"]
    assert lines[at + 1] == "    train > export_onnx > prune_channels(keep=[half]) > quantize_static"
    assert lines[at + 2].startswith("f20b")


def test_steps_are_beside_the_figures_of_a_wide_terminal(printed: Callable[..., str]) -> None:
    lines = printed(200, lambda: show.show_summary(summary(), Path("out"), False)).splitlines()
    line = next(line for line in lines if "be57" in line)
    assert line.rstrip().endswith("train > export_onnx > prune_channels(keep=[half]) > quantize_static")


def test_steps_too_long_for_a_line_are_broken(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    steps = " > ".join(["a" * 50, "b" * 50, "c" * 200])
    print_table(Console(file=stream, width=80), ["model", "size", "steps"], [["one", "1 B", steps]])
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert (text.count("a"), text.count("b"), text.count("c")) == (50, 50, 200)


def test_runs_are_compared_by_their_own_metrics(
    printed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [Path("one"), Path("a_run_folder_with_quite_a_long_name")]
    for folder, metric in zip(folders, ("mae", "r2"), strict=True):
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(summary(metric=metric)))
    for width in (80, 200):
        table = printed(width, lambda: show.show_comparison(folders, False))
        assert table.count("be57aaaaaaaa *") == 2
        assert "a_run_folder_with_quite_a_long_name" in table
        assert "mae or r2" in table


def test_a_folder_of_runs_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["runs", "list", str(tmp_path / "nope")])
    assert result.exit_code == 2
    assert "nope: is no folder; give the folder that run folders lie in" in result.stderr
    assert CliRunner().invoke(cli, ["runs", "list", str(tmp_path)]).exit_code == 0
