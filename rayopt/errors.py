"""Every error that rayopt raises on purpose.

RayoptError
├── InputError      what was typed or given is wrong: the command, a job file, a model, data   (exit code 2)
├── StepError       one step of one chain cannot give a usable model; the run goes on
└── WorkError       the work itself failed                                                     (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_LISTED = 40


class RayoptError(Exception):
    """The root of the tree; catching it catches everything that rayopt raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what, and what to do about it."""

    place: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


class InputError(RayoptError):
    """What the user gave is wrong; carries every fault that was found, not only the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Fault, ...]]]:
        return InputError, (self.faults,)


class StepError(RayoptError):
    """A step cannot give a usable model; its chain ends with this reason and the run goes on."""


class WorkError(RayoptError):
    """The run as a whole cannot go on."""


def input_error(place: str, problem: str, remedy: str = "") -> InputError:
    """An InputError with a single fault."""
    return InputError([Fault(place, problem, remedy)])


def did_you_mean(got: str, known: Sequence[str]) -> str:
    """A remedy for an unknown name: the closest known one if there is one, and those that are known."""
    names = sorted(known)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    listed = f"known: {', '.join(names[:MAX_LISTED])}{more}" if names else "none is known here"
    close = difflib.get_close_matches(got, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}? {listed}" if close else listed
