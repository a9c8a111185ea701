"""A child may crash, hang or eat memory: that is its answer, and the next call is served."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from rayopt.graph import child
from rayopt.graph.child import MIB, Limits, call

WORK = "tests.graph.bad_tools:"


def test_it_gives_what_the_function_returns_and_tells() -> None:
    reply = call(f"{WORK}give", {"a": 1}, Limits())
    assert (reply.returned[0], reply.died) == ({"a": 1}, "")
    assert reply.lines[0] == {"step": "one"}
    again = call(f"{WORK}give", 2, Limits())
    assert again.returned[1] != reply.returned[1], "each call has a process of its own"
    assert 0 < reply.peak_bytes < 500 * MIB


@pytest.mark.parametrize(
    ("name", "limits", "says"),
    [
        ("segfault", {}, "died by SIGSEGV"),
        ("hang", {"wall_s": 0.5}, "did not end within 0.5 s"),
        ("spin", {"cpu_s": 0.1}, "did not end within 0.1 s of CPU time"),
        ("eat", {}, "MemoryError: "),
        ("refuse", {}, "ValueError: no idea"),
        ("leave", {}, "ended without a word"),
    ],
)
def test_what_goes_wrong_is_its_answer(name: str, limits: dict[str, Any], says: str) -> None:
    assert call(f"{WORK}{name}", None, Limits(**limits)).died == says
    assert call(f"{WORK}give", 1, Limits()).returned[0] == 1


def test_a_nursery_that_is_gone_is_started_again() -> None:
    call(f"{WORK}give", 1, Limits())
    assert child._running is not None
    os.kill(child._running.pid, signal.SIGKILL)
    child._running.wait()
    assert call(f"{WORK}give", 2, Limits()).returned[0] == 2
