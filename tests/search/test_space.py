"""Spaces: what a user may write, the way to the cube and back, how many points there are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.errors import InputError
from rayopt.search.space import NOWHERE, Space

MIXED = {
    "C": {"low": 1e-3, "high": 1e3, "log": True},
    "depth": {"low": 2, "high": 9, "int": True},
    "trees": {"low": 1, "high": 1000, "int": True, "log": True},
    "kernel": ["rbf", "poly", "linear"],
    "size": {"choices": ["s", "m", "l"], "ordered": True},
    "gamma": {"low": 1e-4, "high": 1.0, "log": True, "when": {"kernel": ["rbf", "poly"]}},
    "degree": {"low": 2, "high": 5, "int": True, "when": {"kernel": "poly"}},
    "shift": {"low": 0.0, "high": 1.0, "when": {"degree": [2, 3]}},
}
SPACE = Space.from_settings(MIXED)
units = st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE)).map(np.array)


@given(units)
def test_points_go_to_the_cube_and_back(unit: np.ndarray) -> None:
    point = SPACE.params(unit)
    back = SPACE.params(SPACE.units([point])[0])
    assert back.keys() == point.keys()
    for name, value in point.items():
        assert type(back[name]) is type(value)
        assert back[name] == (pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else value)
    assert SPACE.read(point) == point


@given(units)
def test_snapping_gives_each_point_one_place(unit: np.ndarray) -> None:
    snapped = SPACE.snap(unit[None])
    assert np.allclose(snapped, SPACE.units([SPACE.params(unit)]), atol=1e-12)
    assert np.allclose(SPACE.snap(snapped), snapped, atol=1e-12)


@given(units)
def test_parameters_exist_when_their_conditions_hold(unit: np.ndarray) -> None:
    point = SPACE.params(unit)
    assert ("gamma" in point) == (point["kernel"] in ("rbf", "poly"))
    assert ("degree" in point) == (point["kernel"] == "poly")
    assert ("shift" in point) == (point.get("degree") in (2, 3))
    gamma = SPACE.units([point])[0, SPACE.names.index("gamma")]
    assert "gamma" in point or gamma == NOWHERE


def test_a_log_scale_has_its_geometric_mean_in_the_middle() -> None:
    space = Space.from_settings({"C": {"low": 1e-3, "high": 1e3, "log": True}})
    assert space.params(np.array([0.5]))["C"] == pytest.approx(1.0)
    assert [space.params(np.array([end]))["C"] for end in (0.0, 1.0)] == pytest.approx([1e-3, 1e3])


def test_the_ends_of_a_range_are_as_they_were_written() -> None:
    space = Space.from_settings({"C": {"low": 0.01, "high": 1000, "log": True}, "x": (-0.1, 0.3)})
    assert space.params(np.zeros(2)) == {"C": 0.01, "x": -0.1}
    assert space.params(np.ones(2)) == {"C": 1000.0, "x": 0.3}


def test_whole_numbers_own_equal_shares() -> None:
    space = Space.from_settings({"n": {"low": 3, "high": 6, "int": True}})
    found = [space.params(np.array([unit]))["n"] for unit in (np.arange(4000) + 0.5) / 4000]
    assert {value: found.count(value) for value in set(found)} == dict.fromkeys((3, 4, 5, 6), 1000)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"a": [1, 2, 3]}, 3),
        ({"a": [1, 2], "b": {"low": 1, "high": 10**7, "int": True}}, 2 * 10**7),
        ({"a": ["x", "y"], "b": {"choices": [1, 2, 3], "when": {"a": "x"}}}, 4),
        ({"a": [1], "b": (0.0, 1.0)}, None),
        ({"n": {"low": 1, "high": 1000, "int": True}, "b": {"choices": [1, 2], "when": {"n": [1, 2]}}}, 1002),
    ],
)
def test_sizes(settings: dict[str, Any], size: int | None) -> None:
    assert Space.from_settings(settings).size == size


def test_the_points_of_a_finite_space_are_those_of_brute_force() -> None:
    space = Space.from_settings(
        {
            "b": {"choices": [1, 2, 3], "when": {"a": "x"}},
            "a": ["x", "y"],
            "c": {"low": 1, "high": 4, "int": True, "log": True, "when": {"b": [1, 3]}},
        }
    )
    wanted = set()
    for a, b, c in itertools.product("xy", (1, 2, 3), range(1, 5)):
        point = {"a": a} | ({"b": b} if a == "x" else {}) | ({"c": c} if a == "x" and b in (1, 3) else {})
        wanted.add(tuple(sorted(point.items())))
    found = [tuple(sorted(space.params(unit).items())) for unit in space.every()]
    assert len(found) == len(set(found)) == space.size
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "space: names no parameter"),
        ({"C": {"low": 2, "high": 2}}, "space.C: low 2 is not below high 2"),
        ({"C": {"low": 3, "high": 1}}, "low 3 is not below high 1"),
        ({"C": {"low": 0, "high": 1, "log": True}}, "space.C.low: a log scale has no 0"),
        ({"C": {"low": float("nan"), "high": 1}}, "space.C.low: nan is no finite number"),
        ({"C": {"low": 0, "high": float("inf")}}, "inf is no finite number"),
        ({"C": {"low": "a", "high": 1}}, "'a' is no finite number"),
        ({"C": {"low": True, "high": 2}}, "True is no finite number"),
        ({"C": {"low": 0, "hihg": 1}}, "unknown key 'hihg'; did you mean 'high'?"),
        ({"C": {"low": 0, "high": 1, "log": "yes"}}, "'yes' is neither true nor false"),
        ({"C": {"low": 0.5, "high": 3, "int": True}}, "are not whole"),
        ({"C": {"low": -1e308, "high": 1e308}}, "wider than a number can be"),
        ({"C": []}, "there are no choices; list at least one"),
        ({"C": {"choices": "rbf"}}, "choices 'rbf' are no list"),
        ({"C": [1, 1]}, "1 is there twice"),
        ({"C": [object]}, "is no plain value"),
        ({"C": 5}, "5 is neither a range nor choices"),
        ({"C": (1, 2, 3)}, "is neither a range nor choices"),
        ({"C": (0, 1), "g": {"choices": [1], "when": {"kernle": 1}}}, "space.g.when.kernle: there is no parameter"),
        ({"kernel": ["rbf"], "g": {"choices": [1], "when": {"kernle": 1}}}, "did you mean 'kernel'?"),
        ({"kernel": ["rbf"], "g": {"choices": [1], "when": {"kernel": "rfb"}}}, "did you mean 'rbf'?"),
        ({"C": (0, 1), "g": {"choices": [1], "when": {"C": 1}}}, "C is a continuous range"),
        ({"a": {"choices": [1], "when": {"a": 1}}}, "a depends on itself"),
        ({"a": {"choices": [1], "when": {"b": 1}}, "b": {"choices": [1], "when": {"a": 1}}}, "b depends on itself"),
        ({"a": {"choices": [1], "when": []}}, "[] is no condition"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Space.from_settings(settings)
    assert message in str(caught.value)
    assert all(fault.remedy for fault in caught.value.faults)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Space.from_settings({"a": {"low": 2, "high": 1}, "b": [], "c": {"low": 0, "high": 1, "log": True}})
    assert len(caught.value.faults) == 3


def test_the_textbook_form() -> None:
    space = Space.from_settings({"C": (1, 10), "n": (1, 10, int), "kernel": ("rbf", "poly")})
    assert space.params(np.array([1.0, 1.0, 1.0])) == {"C": 10.0, "n": 10, "kernel": "poly"}


def test_choices_keep_their_types_apart() -> None:
    space = Space.from_settings({"a": [True, 1, 1.0, "1", None, [1, 2]]})
    assert [repr(space.params(space.units([{"a": value}])[0])["a"]) for value in (1, True, 1.0, (1, 2))] == [
        "1",
        "True",
        "1.0",
        "[1, 2]",
    ]


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({}, "C is missing"),
        ({"C": 0.5, "x": 1}, "unknown parameter 'x'"),
        ({"C": 11, "kernel": "rbf"}, "C: 11 is not within 0 to 10"),
        ({"C": 1, "kernel": "rbf", "degree": 2}, "degree does not exist beside kernel other than poly"),
        ({"C": 1, "kernel": "poly", "degree": 2.5}, "degree: 2.5 is not whole"),
    ],
)
def test_points_from_elsewhere_are_refused_with_a_reason(point: dict[str, Any], reason: str) -> None:
    degree = {"low": 2, "high": 4, "int": True, "when": {"kernel": "poly"}}
    space = Space.from_settings({"C": (0, 10), "kernel": ["rbf", "poly"], "degree": degree})
    with pytest.raises(ValueError, match=reason):
        space.read(point)
