"""What a search of jobs is for: numbers of a summary, who is best, the front against brute force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.errors import InputError
from rayopt.search.goals import Aim, Bound, Goal, quantity
from rayopt.search.history import Observation, observed

SUMMARY: dict[str, Any] = {
    "name": "x",
    "metrics": {"accuracy": 0.9, "loss": float("nan"), "flag": True},
    "recommended": None,
    "latency_ms": {"1": 2},
    "curve": [0.1, 0.2],
}
AIM = Aim((Goal(metric="a"), Goal(metric="t", direction="min")), {"t": Bound(at_most=5)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics.accuracy", 0.9),
        ("latency_ms.1", 2.0),
        ("curve.-1", 0.2),
        ("metrics.loss", None),
        ("recommended.accuracy", None),
    ],
)
def test_a_quantity_is_found_by_its_dotted_name(name: str, value: float | None) -> None:
    assert quantity(SUMMARY, name) == value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metrics.acuracy", "`metrics` of the job's summary has no 'acuracy' .* did you mean 'metrics.accuracy'"),
        ("metric", "the job's summary has no 'metric'"),
        ("curve.7", "has no '7'"),
        ("name", "name is 'x' in the job's summary, no number; .*latency_ms.1"),
        ("metrics.flag", "no number"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        quantity(SUMMARY, name)


def test_values_have_the_sign_of_their_direction() -> None:
    aim = Aim((Goal(metric="latency_ms.1", direction="min"),), {"metrics.accuracy": Bound(at_least=0.95)})
    value, metrics, reason = aim.read(SUMMARY)
    assert (value, metrics, reason) == (-2.0, {"latency_ms.1": 2.0, "metrics.accuracy": 0.9}, "")
    assert not aim.allows(Observation({}, value, metrics=metrics))
    lost = Aim((Goal(metric="recommended.size"),), {}).read(SUMMARY)
    assert lost == (None, {}, "the summary has no number at recommended.size")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=20))
def test_the_best_and_the_front_are_those_of_brute_force(pairs: list[tuple[int, int]]) -> None:
    seen = [observed({"n": n}, a, metrics={"a": a, "t": t}) for n, (a, t) in enumerate(pairs)]
    allowed = [n for n, (_, t) in enumerate(pairs) if t <= 5]
    best, front = AIM.best(seen), AIM.front(seen)
    assert (best is None) == (not allowed)
    if best is None:
        return
    assert pairs[best][0] == max(pairs[n][0] for n in allowed)
    beaten = {
        n
        for n in allowed
        for m in allowed
        if pairs[m] != pairs[n] and pairs[m][0] >= pairs[n][0] and pairs[m][1] <= pairs[n][1]
    }
    assert {pairs[n] for n in front} == {pairs[n] for n in allowed if n not in beaten}
    assert len({pairs[n] for n in front}) == len(front)
    volume = AIM.hypervolume(seen)
    assert volume is not None
    cells = {
        (a, t)
        for n in front
        for a in range(int(volume[1]["a"]), pairs[n][0])
        for t in range(pairs[n][1], int(volume[1]["t"]))
    }
    assert volume[0] == pytest.approx(len(cells))
