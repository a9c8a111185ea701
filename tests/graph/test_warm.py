"""A process that has used the tools before forks children that give the same bytes."""

from __future__ import annotations

from pathlib import Path

from rayopt.graph import child
from rayopt.graph.order import Order
from rayopt.graph.run_model import ALL_TOOLS, Outcome, optimize_file
from tests.graph.hostile import CASES


def test_what_comes_out_is_the_same(tmp_path: Path) -> None:
    paths = [CASES[name].write(tmp_path) for name in ("overridable_initializer", "wrong_declared_output_shape")]

    def made() -> list[Outcome]:
        return [optimize_file(path, Order("", "", ALL_TOOLS, timing_s=0)) for path in paths]

    child.close()
    cold = made()
    child.warm()
    warm_one = child._running
    warm = made()
    assert child._running is warm_one, "it lives on"
    assert [one.verdict for one in cold] == ["optimized", "optimized"]
    assert [dict(one.files) for one in warm] == [dict(one.files) for one in cold]
    assert [one.told["chain"] for one in warm] == [one.told["chain"] for one in cold]
