"""What a terminal shows while a search goes on: the best so far, what ended last, and that it works at all."""

from __future__ import annotations

import io

from rich.console import Console

from rayopt.cli.progress import Display


def shown(display: Display) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(display)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_best_so_far_and_the_time_left_are_shown() -> None:
    display = Display(Console(file=io.StringIO()))
    display.planned(3)
    assert "starting" in shown(display)
    display.candidate("a1", "done", {"accuracy": 0.98321})
    display.ended("a1", "C=1: accuracy 0.983 (best so far 0.983, about 7 s left)", "done", "", False)
    found = shown(display)
    assert "best so far: accuracy 0.9832" in found
    assert "done: C=1: accuracy 0.983 (best so far 0.983, about 7 s left)" in found
    assert "starting" not in found
    assert "working" in found
    assert "1/3" in found
