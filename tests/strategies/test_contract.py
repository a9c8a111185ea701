"""What every strategy owes, whatever it does: this file runs over each file of the room."""

from __future__ import annotations

import copy

import pytest

from rayopt import strategies
from rayopt.errors import InputError
from rayopt.search.history import Observation, observed
from rayopt.search.space import Space

NAMES = strategies.names()
SPACE = Space.from_settings(
    {
        "C": {"low": 1e-3, "high": 1e3, "log": True},
        "depth": {"low": 2, "high": 9, "int": True},
        "kernel": ["rbf", "poly"],
        "degree": {"low": 2, "high": 5, "int": True, "when": {"kernel": "poly"}},
    }
)


def history(name: str, count: int, space: Space = SPACE) -> list[Observation]:
    strategy, found = strategies.find(name), list[Observation]()
    for index in range(count):
        point = strategy.propose(space, found, [], 0, strategy.Options())
        assert point is not None
        found.append(observed(point, None if index == 2 else float(len(str(point)) % 7)))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_has_every_part(name: str) -> None:
    strategy = strategies.find(name)
    assert strategy.Options.model_config["extra"] == "forbid"
    strategy.Options()
    assert len(strategies.summary_of(strategy)) > 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 3, 9])
def test_the_same_arguments_give_the_same_point_of_the_space(name: str, count: int) -> None:
    strategy, seen = strategies.find(name), history(name, count)
    pending = [one.params for one in history(name, count + 1)[count:]]
    before = copy.deepcopy((seen, pending))
    first, second = (strategy.propose(SPACE, seen, pending, 0, strategy.Options()) for _ in range(2))
    assert first == second
    assert first is not None
    assert SPACE.read(first) == first
    assert first not in [*(one.params for one in seen), *pending]
    assert (seen, pending) == before


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_another_beginning(name: str) -> None:
    strategy = strategies.find(name)
    points = [strategy.propose(SPACE, [], [], seed, strategy.Options()) for seed in range(5)]
    assert len({str(point) for point in points}) == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_space_is_tried_to_its_end_and_no_point_twice(name: str) -> None:
    space = Space.from_settings({"a": ["x", "y"], "b": {"choices": [1, 2, 3], "when": {"a": "x"}}, "c": [True, False]})
    seen = history(name, space.size or 0, space)
    assert len({str(sorted(one.params.items())) for one in seen}) == space.size == 8
    strategy = strategies.find(name)
    assert strategy.propose(space, seen, [], 0, strategy.Options()) is None


def test_an_unknown_strategy_is_told() -> None:
    with pytest.raises(InputError, match=r"unknown \w+ 'bayess'; did you mean 'bayes'"):
        strategies.find("bayess")
