"""Following a job with a clock of its own: every byte once, through lost connections, to the exact end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.cluster.following import LONG_BYTES, MOST_S, SHARE, Following, LostError
from rayopt.cluster.submission import Submission
from rayopt.errors import WorkError, input_error


def state(status: str, code: int | None = None) -> Submission:
    return Submission("a-1", status, "", code, 0.0, None)


class Cluster:
    """A job whose log grows with every question, and whose line may be cut."""

    def __init__(self, parts: list[bytes], end: Submission, lost: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.parts, self.end, self.lost = parts, end, lost
        self.asked, self.now, self.reopened = 0, 0.0, 0
        self.out: list[str] = []
        self.said: list[str] = []

    def status(self) -> Submission:
        self.asked += 1
        if self.asked in self.lost:
            raise LostError("timed out")
        return self.end if self.asked > len(self.parts) else state("RUNNING")

    def log(self) -> bytes:
        return b"".join(self.parts[: self.asked])

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reopen(self) -> None:
        self.reopened += 1

    def follow(self, **options: Any) -> Submission:
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        following = Following(
            self.status, self.log, self.reopen, self.out.append, self.said.append, clock, self.sleep, **options
        )
        return following.run()


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 200), max_size=5), lost=st.sets(st.integers(1, 8)))
def test_every_byte_comes_once_wherever_the_log_and_the_line_are_cut(
    text: str, cuts: list[int], lost: set[int]
) -> None:
    whole = text.encode()
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    parts = [whole[low:high] for low, high in pairwise(edges)]
    cluster = Cluster(parts, state("SUCCEEDED", 0), lost)
    assert cluster.follow().code == 0
    assert "".join(cluster.out) == text


@pytest.mark.parametrize(("size", "share"), [(100, 1 / 2), (LONG_BYTES + 1, 1 / SHARE)])
def test_a_long_log_is_asked_for_less_often_and_a_short_one_is_not(size: int, share: float) -> None:
    cluster = Cluster([b"x" * size, *[b"y"] * 100], state("SUCCEEDED", 0))
    answer = cluster.log

    def slow_log() -> bytes:
        cluster.now += MOST_S
        return answer()

    cluster.log = slow_log  # type: ignore[method-assign]
    cluster.follow()
    assert cluster.asked * MOST_S / cluster.now == pytest.approx(share, rel=0.05)


def test_a_lost_line_is_told_of_once_and_made_again() -> None:
    cluster = Cluster([b"a\n", b"b\n"], state("FAILED", 7), {2, 3, 4})
    assert cluster.follow().code == 7
    assert cluster.reopened == 3
    assert [one.partition(" (")[0] for one in cluster.said] == [
        "the connection is lost",
        "the connection is back after 3 s",
    ]


def test_one_that_stays_lost_is_given_up() -> None:
    cluster = Cluster([b"a"], state("SUCCEEDED", 0), set(range(2, 10_000)))
    with pytest.raises(WorkError, match="not answered for 30 s"):
        cluster.follow(patience_s=30)
    assert cluster.now < 40


@pytest.mark.parametrize("error", [LostError("connection refused"), WorkError("no tunnel")])
def test_a_line_that_cannot_be_made_again_is_tried_again(error: Exception) -> None:
    """Such as while sshd answers and the dashboard behind it does not yet."""
    cluster = Cluster([b"a"], state("SUCCEEDED", 0), {2, 3})

    def reopen() -> None:
        cluster.reopened += 1
        raise error

    cluster.reopen = reopen  # type: ignore[method-assign]
    assert cluster.follow().code == 0
    assert cluster.reopened == 2


def test_a_wrong_token_is_no_lost_line() -> None:
    def refused() -> Submission:
        raise input_error("the cluster", "asks for another token")

    cluster = Cluster([], state("SUCCEEDED"))
    cluster.status = refused  # type: ignore[method-assign]
    with pytest.raises(Exception, match="another token"):
        cluster.follow()


@pytest.mark.parametrize(
    ("status", "exit_code", "code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 7, 7), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 130)],
)
def test_the_code_is_the_drivers_own(status: str, exit_code: int | None, code: int) -> None:
    assert state(status, exit_code).code == code
