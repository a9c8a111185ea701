"""The tree of errors: what its messages look like, and that they survive the way from another machine."""

from __future__ import annotations

import pickle

import pytest

from rayopt.errors import Fault, InputError, RayoptError, StepError, WorkError, did_you_mean, input_error


def test_a_fault_names_place_problem_and_remedy() -> None:
    assert str(Fault("job.yaml:3: name", "is missing", "add `name:`")) == "job.yaml:3: name: is missing; add `name:`"


def test_a_fault_without_a_remedy_ends_with_the_problem() -> None:
    assert str(Fault("job.yaml", "is empty")) == "job.yaml: is empty"


def test_an_input_error_carries_every_fault_one_a_line() -> None:
    faults = [Fault("a:1", "is wrong"), Fault("a:2", "is wrong too", "mend it")]
    error = InputError(iter(faults))
    assert error.faults == tuple(faults)
    assert str(error) == "a:1: is wrong\na:2: is wrong too; mend it"


def test_an_input_error_travels_whole() -> None:
    error = InputError([Fault("a", "b", "c"), Fault("d", "e")])
    assert pickle.loads(pickle.dumps(error)).faults == error.faults  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", [InputError, StepError, WorkError])
def test_one_root_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, RayoptError)


def test_input_error_makes_one_fault() -> None:
    assert input_error("here", "is wrong", "mend it").faults == (Fault("here", "is wrong", "mend it"),)


def test_a_close_name_is_offered_first_and_all_are_listed_sorted() -> None:
    assert did_you_mean("quantise", ["recover", "quantize"]) == "did you mean 'quantize'? known: quantize, recover"


def test_nothing_is_offered_where_nothing_is_close() -> None:
    assert did_you_mean("zzz", ["recover", "quantize"]) == "known: quantize, recover"


def test_that_nothing_is_known_is_said() -> None:
    assert did_you_mean("x", []) == "none is known here"
