"""Another job as what a search evaluates: its fields replaced by a point, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rayopt.errors import Fault, InputError
from rayopt.search.parameters import Choice
from rayopt.search.space import Params, Space
from rayopt.spec import Document, part, read_document, replaced

ReadJob = Callable[[Document], tuple[Any, Any]]  # a document -> the kind and the checked fields
TRIED = 50  # choices that are looked at one by one


def inner_document(job: str | Mapping[str, Any], document: Document) -> Document:
    """The job that is searched: a file beside the search's, or a part of it. Raises InputError with its place."""
    if isinstance(job, str):
        try:
            return read_document(document.folder / job)
        except InputError as error:
            named = [Fault(document.place(("job",)), f"{one.place}: {one.problem}", one.remedy) for one in error.faults]
            raise InputError(named) from error
    return part(document, ("job",))


def check(inner: Document, space: Space, read_job: ReadJob, document: Document) -> list[Fault]:
    """Faults of the job as it is, and of each parameter at the ends of its range and with each of its choices.

    A field that the job leaves to the search may be missing in it.
    """
    kind = inner.data.get("kind")
    if kind == "search":
        return [document.fault(("job",), "is a search itself", "name a job that trains or optimises")]
    middle = first_point(space)
    own = _faults(inner, middle, read_job)
    faults = {fault.problem: fault for fault in own}
    for name, point in _points(space, middle):
        for fault in _faults(inner, point, read_job):
            if fault.problem not in faults:
                place = document.place(("space", name))
                faults[fault.problem] = Fault(place, f"{fault.problem} ({name}={point[name]!r})", fault.remedy)
    return [_placed(fault, space, document) for fault in faults.values()]


def first_point(space: Space) -> dict[str, Any]:
    """A point in the middle of everything."""
    import numpy as np

    return space.params(space.snap(np.full((1, len(space)), 0.5))[0])


def filled(inner: Document, params: Params) -> Document:
    """The job with the fields of a point."""
    return replaced(inner, params)


def _points(space: Space, middle: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    """Points that differ from the middle one in one parameter, wherever it exists there."""
    for name, parameter in space.parameters.items():
        if name not in middle:
            continue
        ends = parameter.values[:TRIED] if isinstance(parameter, Choice) else (parameter.low, parameter.high)
        for value in ends:
            yield name, {**middle, name: value}


def _faults(inner: Document, params: Params, read_job: ReadJob) -> list[Fault]:
    try:
        read_job(filled(inner, params))
    except InputError as error:
        return list(error.faults)
    return []


def _placed(fault: Fault, space: Space, document: Document) -> Fault:
    """A fault of a field that the space has put in is the space's."""
    if not fault.place.startswith("--set "):
        return fault
    name = fault.place.removeprefix("--set ").partition("=")[0]
    known = name in space.parameters
    return Fault(document.place(("space", name)) if known else fault.place, fault.problem, fault.remedy)

