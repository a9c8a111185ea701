"""Every hostile file ends in its one typed verdict, within the limits of its child process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rayopt.graph.run_model import limits_for, optimize_file
from tests.graph.hostile import CASES

MIB = 1 << 20


def test_there_are_as_many_as_promised() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_its_verdict(name: str, tmp_path: Path) -> None:
    path = CASES[name].write(tmp_path)
    limits = limits_for(path.stat().st_size)
    assert limits.cpu_s <= 5, "between two steps"
    found = optimize_file(path, limits=replace(limits, wall_s=60))
    assert (found.verdict, found.reason) == (CASES[name].verdict, found.reason)
    assert found.peak_bytes < 500 * MIB
    assert bool(found.files) == (found.verdict == "optimized")
