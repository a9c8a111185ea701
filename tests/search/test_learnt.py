"""What is learnt from of a long history: bounded, with the best and the latest, and failures among the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayopt.search.history import Observation
from rayopt.search.learnt import learnt_from


@given(values=st.lists(st.none() | st.floats(0, 1), max_size=120), count=st.integers(4, 40))
def test_the_best_and_the_latest_are_among_them(values: list[float | None], count: int) -> None:
    history = [Observation({"number": number}, value) for number, value in enumerate(values)]
    kept = learnt_from(history, count)
    assert len(kept) <= count
    assert [one.params["number"] for one in kept] == sorted({one.params["number"] for one in kept})
    if len(history) <= count:
        assert kept == history
        return
    assert kept[-(count // 4) :] == history[-(count // 4) :]
    good = sorted((one.value for one in history if one.value is not None), reverse=True)[: count // 2]
    found = sorted((one.value for one in kept if one.value is not None), reverse=True)[: len(good)]
    assert found == good
    assert history[0] in kept
