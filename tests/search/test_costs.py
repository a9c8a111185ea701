"""What is left is estimated from the cells that begin a group and those that do not."""

from __future__ import annotations

from rayopt.search.costs import Costs


def test_nothing_is_said_before_a_cell_is_seen_that_begins_no_group() -> None:
    costs = Costs(shares_prefixes=True)
    assert costs.left_s(10, 1) is None
    costs.note(2.0, 1, is_first=True)
    assert costs.left_s(10, 1) is None
    assert costs.mean_s is None
    costs.note(0.25, 1)
    assert costs.left_s(10, 1) == 1 * 2.0 + 9 * 0.25
    assert costs.beginning_s == 1.75
    assert costs.left_s(0, 0) == 0.0


def test_without_prefixes_all_cells_count_alike() -> None:
    costs = Costs(shares_prefixes=False)
    costs.note(3.0, 2, is_first=True)
    assert costs.left_s(4, 1) == 6.0
    assert costs.beginning_s == 0.0
