"""What the terminal shows of a graph run: the models that gained most first, and nothing lost in a narrow one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayopt.cli import show_graph
from rayopt.cli.commands import cli
from tests.report.graph_runs import row, summary


def shown(capsys: pytest.CaptureFixture[str], found: dict[str, object]) -> str:
    show_graph.show(found, Path("out"))
    return capsys.readouterr().out


def test_models_are_shown_by_what_they_gained(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, summary())
    names = [name for line in text.splitlines() for name in ("small", "half", "same", "bomb") if f"{name}.onnx" in line]
    assert names == ["small", "half", "bomb", "same"], "optimized ones, those that were refused, those as they were"
    for words in ("40 → 10", "900 B (0.90)", "own > onnxslim", "folding it would make 4,096 bytes"):
        assert words in text
    assert "12.3 s, 1 from the cache; tools were caught 1 times" in text
    assert "2 of 4 models optimized to 0.50 of all nodes" in text
    assert text.splitlines()[-1] == "report: out/report.html"


@pytest.mark.parametrize("width", [60, 200])
def test_nothing_is_cut_off(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(capsys, summary())
    assert "…" not in text
    assert "folding it would make 4,096 bytes" in " ".join(text.split())


def test_of_many_models_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    models = [row(f"m{index:03}", "optimized", nodes_after=index % 40) for index in range(show_graph.SHOWN + 5)]
    text = shown(capsys, summary() | {"models": models})
    assert f"and 5 more in {Path('out') / 'report.html'}" in text
    assert text.count(".onnx") == show_graph.SHOWN


def test_a_finished_run_is_shown_again_and_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary()))
    done = CliRunner().invoke(cli, ["runs", "show", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert "small.onnx" in done.stdout
    done = CliRunner().invoke(cli, ["runs", "compare", str(tmp_path / "one"), str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("2 of 4 models optimized") == 2
