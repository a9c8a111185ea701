"""Points of a design: those of one sequence wherever it is taken up, none twice, all of a small space."""

from __future__ import annotations

import numpy as np
import pytest

from rayopt.search import design
from rayopt.search.space import Params, Space

LINE = Space.from_settings({"x": {"low": 0.0, "high": 1.0}, "y": {"low": 1.0, "high": 100.0, "log": True}})
WHOLE = Space.from_settings({"n": {"low": 1, "high": 3000, "int": True}, "kind": ["a", "b"]})


@pytest.mark.parametrize("skip", [0, 1, 5, 64])
def test_a_sequence_may_be_taken_up_anywhere(skip: int) -> None:
    whole = design.sobol(3, 80, 7)
    assert np.array_equal(design.sobol(3, 80 - skip, 7, skip), whole[skip:])


@pytest.mark.parametrize("space", [LINE, WHOLE])
def test_no_point_is_there_twice(space: Space) -> None:
    taken: list[Params] = []
    for _ in range(60):
        point = design.next_design_point(space, taken, 1)
        assert point is not None
        assert point not in taken
        taken.append(point)


def test_points_that_are_taken_out_of_turn_are_passed_over() -> None:
    ahead = [LINE.params(unit) for unit in design.sobol(2, 12, 1)]
    found = design.next_design_point(LINE, ahead[6:], 1)
    assert found is not None
    assert found not in ahead[6:]
    assert design.next_design_point(LINE, ahead[:5], 1) == ahead[5]
