"""Choosing, against a brute-force front and by its own rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.measure.choose import Candidate, pareto_front, recommend, verdict

BASELINE = Candidate("base", 1000, 0.0, (1.0, 1.0), (0.99, 0.98), (1.01, 1.02))


def candidate(id: str = "c", size: int = 500, drop: float = 0.0, ratio: float = 0.5, spread: float = 0.01) -> Candidate:
    return Candidate(id, size, drop, (ratio, ratio), (ratio - spread,) * 2, (ratio + spread,) * 2)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (candidate(), ""),
        (candidate(drop=0.0101), "over the accuracy budget"),
        (candidate(drop=0.01), ""),
        (candidate(ratio=1.2), "slower than the baseline"),
        (candidate(size=960, ratio=0.99, spread=0.05), "not measurably faster than the baseline"),
        (candidate(size=960, ratio=0.98, spread=0.005), "not measurably faster than the baseline"),
        (candidate(size=950, ratio=0.99, spread=0.05), ""),  # no faster for all that is known, but smaller
        (candidate(ratio=1.015, spread=0.02), ""),
        (candidate(ratio=1.03, spread=0.05), "slower than the baseline"),
        (candidate(size=1001), "larger than the baseline"),
        (Candidate("c", 500, 0.0, (0.4, 1.01), (0.3, 0.9), (0.5, 1.1)), ""),
        (Candidate("c", 500, 0.0, (0.4, 1.2), (0.3, 0.9), (0.5, 1.3)), "slower than the baseline"),
        (Candidate("c", 500, 0.0, (0.4, 1.019), (0.3, 1.018), (0.5, 1.02)), ""),  # as the baseline against itself
        (Candidate("c", 500, 0.0, (1.019, 1.0), (1.018, 1.0), (1.02, 1.0)), "slower than the baseline"),
        (
            Candidate("c", 500, 0.0, (0.5,), (0.5,), (0.5,), verified=False),
            "unverified: there was no data to check it on",
        ),
    ],
)
def test_verdicts(one: Candidate, why: str) -> None:
    assert verdict(one, BASELINE, max_drop=0.01) == why


sizes = st.integers(1, 5)
candidates = st.lists(
    st.builds(
        lambda size, drop, ratio: Candidate("x", size, drop / 10, (ratio / 10,), (ratio / 10,), (ratio / 10,)),
        sizes,
        sizes,
        sizes,
    ),
    max_size=12,
)


@given(candidates)
def test_the_front_is_what_brute_force_finds(many: list[Candidate]) -> None:
    named = [Candidate(str(i), c.size_bytes, c.drop, c.ratios, c.ratios_low, c.ratios_high) for i, c in enumerate(many)]

    def beaten(one: Candidate) -> bool:
        return any(
            all(a <= b for a, b in zip(other.costs, one.costs, strict=True)) and other.costs != one.costs
            for other in named
        )

    front = pareto_front(named)
    assert {one.costs for one in front} == {one.costs for one in named if not beaten(one)}
    assert len({one.costs for one in front}) == len(front)


def test_the_objective_decides() -> None:
    small, fast = candidate("small", size=100, ratio=0.9), candidate("fast", size=900, ratio=0.1)
    both = candidate("both", size=300, ratio=0.3)
    front = [small, fast, both]
    chosen = [recommend(front, BASELINE, objective) for objective in ("size", "speed", "balanced")]
    assert chosen == [small, fast, both]
    assert recommend([], BASELINE, "balanced") is None


def test_what_is_only_smaller_is_never_taken_for_speed() -> None:
    tiny, fast = candidate("tiny", size=100, ratio=1.0, spread=0.05), candidate("fast", size=900, ratio=0.3)
    assert recommend([tiny], BASELINE, "speed") is None
    assert recommend([tiny, fast], BASELINE, "speed") is fast
    assert recommend([tiny, fast], BASELINE, "balanced") is tiny  # 10 times smaller against 3.3 times faster
