"""Batches of an epoch and what may be known of them beforehand."""

import pytest

from rayopt.training import order


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 64])
def test_steps_and_the_largest_batch_are_those_of_the_batches(size: int) -> None:
    for count in range(1, 40):
        sizes = [len(batch) for batch in order.batches(count, size, 0, 0)]
        assert (len(sizes), max(sizes)) == (order.steps_in(count, size), order.most_rows(count, size))
        assert sum(sizes) == count
        assert size == 1 or count == 1 or min(sizes) > 1
