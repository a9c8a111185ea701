"""The ledger under random faults: no cell is lost, none is recorded twice, and who ends workers is found."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rayopt.search.ledger import ALONE_LOSSES, Ledger


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    killers=st.sets(st.integers(0, 34), max_size=3),
    deaths=st.integers(0, 12),
    seed=st.integers(0, 2**32),
)
def test_every_cell_ends_once_whatever_dies(sizes: list[int], killers: set[int], deaths: int, seed: int) -> None:
    chance = random.Random(seed)
    numbers = iter(range(sum(sizes)))
    ledger = Ledger({group: [next(numbers) for _ in range(size)] for group, size in enumerate(map(int, sizes))})
    ended: list[int] = []
    tried: dict[int, int] = {}
    held: dict[str, list[int]] = {worker: [] for worker in "abc"}
    for _ in range(5000):
        if ledger.is_finished:
            break
        waiting = sum(map(len, ledger._waiting.values())) + len(ledger._suspects)
        assert ledger.waiting_count == waiting
        worker = chance.choice("abc")
        if not held[worker]:
            held[worker] = ledger.take(worker, chance.randint(1, 4), pays_from=chance.choice([0, 2]))
            continue
        cell = held[worker][0]
        if cell in killers:
            tried[cell] = tried.get(cell, 0) + 1
            ended += ledger.lose(worker)
            held[worker] = []
        elif deaths and chance.random() < 0.2:
            deaths -= 1
            before = list(held[worker])
            ended += ledger.lose(worker)
            held[worker] = []
            assert before
        elif chance.random() < 0.1:
            ledger.give_back(worker)
            held[worker] = []
        else:
            held[worker].pop(0)
            if ledger.finish(worker, cell):
                ended.append(cell)
    assert ledger.is_finished
    assert sorted(ended) == list(range(sum(sizes)))
    assert all(count <= ALONE_LOSSES + 1 for count in tried.values())


def test_workers_keep_to_their_group_and_then_help() -> None:
    ledger = Ledger({"x": [0, 1, 2, 3], "y": [4, 5]})
    assert ledger.take("a", 2) == [0, 1]
    assert ledger.take("b", 1) == [4]
    assert ledger.take("a", 1) == [2]
    assert ledger.take("b", 9) == [5]
    assert ledger.take("b", 9) == [3], "nothing is left of its own group"
    assert ledger.take("a", 1) == []


def test_who_would_not_be_quicker_does_not_help() -> None:
    ledger = Ledger({"x": [0, 1, 2, 3], "y": [4]})
    assert ledger.fresh_count == 2
    assert ledger.take("a", 1) == [0]
    assert ledger.take("b", 1) == [4]
    assert ledger.fresh_count == 0
    assert ledger.begins("a", 0)
    ledger.finish("b", 4)
    assert ledger.take("b", 1, pays_from=3) == []
    assert ledger.take("b", 1, pays_from=2) == [1]
    assert ledger.begins("b", 1), "it fits what the group shares, too"
    ledger.give_back("a")
    assert ledger.take("c", 9, pays_from=9) == [], "b works on it"
    ledger.give_back("b")
    assert sorted(ledger.take("c", 9, pays_from=9)) == [0, 1, 2, 3], "nobody works on it"


def test_a_suspect_is_tried_alone_and_then_given_up() -> None:
    ledger = Ledger({"": [0, 1, 2]})
    ledger.take("a", 2)
    assert ledger.lose("a") == []
    assert ledger.take("here", 1, suspects=False) == [2], "not by one who may not die"
    assert ledger.take("b", 3) == [0]
    assert ledger.take("b", 3) == [], "nothing beside a suspect"
    assert ledger.lose("b") == []
    assert ledger.take("b", 3) == [1]
    assert ledger.finish("b", 1)
    assert ledger.take("b", 3) == [0]
    assert ledger.lose("b") == [0]
    assert ledger.finish("here", 2)
    assert ledger.is_finished


def test_a_late_result_of_a_lost_worker_is_taken_once() -> None:
    ledger = Ledger({"": [0]})
    ledger.take("a", 1)
    ledger.lose("a")
    assert ledger.finish("a", 0)
    assert ledger.take("b", 1) == []
    assert not ledger.finish("b", 0)


def test_a_cell_that_took_too_long_is_not_tried_again() -> None:
    ledger = Ledger({"": [0, 1]})
    ledger.take("a", 1)
    assert ledger.lose("a", final=True) == [0]
