"""Following a submission to its end: what it says, as it says it, through connections that are lost and found again."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rayopt.cluster.holders import TakenError
from rayopt.cluster.submission import Submission
from rayopt.errors import InputError, RayoptError, WorkError

_UTF8 = codecs.getincrementaldecoder("utf-8")
LEAST_S, MOST_S, SHARE = 0.2, 1.0, 20
LONG_BYTES = 256 << 10  # a longer log is asked for less often: asking takes a twentieth of the time at most
BETWEEN_TRIES_S = 1.0
PATIENCE_S = 600.0


class LostError(RayoptError):
    """The cluster cannot be asked just now; it may be later."""


class UnknownError(InputError):
    """The cluster answers, and knows no job of that id."""


@dataclass
class Following:
    """One submission that is followed.

    status, log: what the cluster knows, and all bytes that the job has said so far; both raise LostError. reopen: makes
    a new connection, or raises LostError or WorkError. write: takes what is new of the log; say: takes what happens to
    the connection.
    """

    status: Callable[[], Submission]
    log: Callable[[], bytes]
    reopen: Callable[[], None]
    write: Callable[[str], None]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    patience_s: float = PATIENCE_S
    was_lost: bool = False
    _seen: int = 0
    _lost: float | None = None
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _UTF8("replace"))

    def run(self) -> Submission:
        """Passes on the log until the job is over, and gives what became of it.

        Raises WorkError once the cluster could not be asked for `patience_s`, InputError for a wrong id or token.
        """
        while True:
            began = self.clock()
            try:
                now = self.status()  # before the log: what is over says nothing more
                self._pass_on(self.log(), now.is_over)
            except LostError as error:
                self._wait(error)
                continue
            if self._lost is not None:
                self.say(f"the connection is back after {self.clock() - self._lost:.0f} s")
                self._lost = None
            if now.is_over:
                return now
            self.sleep(self._pause_s(self.clock() - began))

    def _pause_s(self, took_s: float) -> float:
        """How long to wait after questions that took so long: a busy machine is slow with a short log too."""
        pause_s = max(LEAST_S, SHARE * took_s)
        return pause_s if self._seen > LONG_BYTES else min(MOST_S, pause_s)

    def _pass_on(self, log: bytes, is_all: bool) -> None:
        new = self._decoder.decode(log[self._seen :], is_all)
        self._seen = max(self._seen, len(log))
        if new:
            self.write(new)

    def _wait(self, error: LostError) -> None:
        if self._lost is None:
            self._lost, self.was_lost = self.clock(), True
            self.say(f"the connection is lost ({error}); the job goes on, and this tries again")
        elif self.clock() - self._lost > self.patience_s:
            problem = (
                f"the cluster has not answered for {self.patience_s:.0f} s ({error}); the job may go on without this"
            )
            raise WorkError(problem) from error
        self.sleep(BETWEEN_TRIES_S)
        try:
            self.reopen()
        except TakenError:  # who has taken the place of the cluster is not asked
            raise
        except (WorkError, LostError):
            return  # the next question says whether it is back
