"""Another job as what a search evaluates: its fields replaced by a point, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rayopt import plugins, strategies
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.search.hosts import Team
from rayopt.search.parameters import Choice
from rayopt.search.space import Params, Space
from rayopt.spec import Document, part, read_document, replaced, validate

ReadJob = Callable[[Document], tuple[Any, Any]]  # a document -> the kind and the checked fields
OF_JOBS = ("early_stop",)
OF_ESTIMATORS = (
    *("estimator", "data", "grid", "halving", "cv", "scoring", "refit", "error_score", "return_train_score", "test"),
    *("share_prefixes", "confirm_large"),
)
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


def faults_of_fields(job: Any, document: Document) -> list[Fault]:
    """Whether it is one of the two kinds of search, and whether the fields are that one's."""
    fields = type(job).model_fields
    given = [name for name in fields if getattr(job, name) != fields[name].get_default(call_default_factory=True)]
    if job.job is None:
        faults = [
            document.fault((name,), "is missing", f"add `{name}:`, or `job:` with the job that is to be searched")
            for name in ("estimator", "data")
            if getattr(job, name) is None
        ]
        return faults + [
            document.fault(
                (name,), "is for searches of a `job:`", "leave it out: an estimator reports nothing on the way"
            )
            for name in OF_JOBS
            if name in given
        ]
    faults = [
        document.fault((name,), "is for searches of an `estimator:`", "leave it out beside `job:`")
        for name in OF_ESTIMATORS
        if name in given
    ]
    if job.space is None:
        faults.append(document.fault((), "names no `space:`", "add the fields of the job that are to be searched"))
    if job.objective is None:
        remedy = "name a number of the job's summary, such as `metrics.accuracy`"
        faults.append(document.fault((), "names no `objective:`", remedy))
    return faults + direction_faults(job, document)


def direction_faults(job: Any, document: Document) -> list[Fault]:
    """Whether the direction has an objective that it is of."""
    if job.direction == "max" or isinstance(job.objective, str):
        return []
    if job.objective is None:
        return [
            document.fault(("direction",), "is of no objective", "add `objective:`; scorers are always to be large")
        ]
    return [document.fault(("direction",), "is one for several objectives", "give each its own")]


def check(job: Any, document: Document, read_job: ReadJob) -> list[Fault]:
    """Faults of strategy, space, bounds and of the searched job with fields of the space; loads nothing."""
    faults = _strategy_faults(job, document)
    try:
        space = Space.from_settings(job.space, lambda at: document.place(("space", *at)))
        inner = inner_document(job.job, document)
    except InputError as error:
        return faults + list(error.faults)
    return faults + bound_faults(job, document) + _inner_faults(inner, space, read_job, document)


def _strategy_faults(job: Any, document: Document) -> list[Fault]:
    """Whether there is such a strategy, and whether it knows what the search is for."""
    name, place = job.strategy, document.place(("strategy",))
    if name in ("grid", "halving"):
        return [Fault(place, f"{name!r} searches the grid of an estimator", did_you_mean("bayes", strategies.names()))]
    if "." not in name and name not in strategies.names():
        return [Fault(place, f"unknown strategy {name!r}", did_you_mean(name, strategies.names()))]
    try:
        with plugins.importable(document.folder):
            strategy = strategies.find(name, place)
    except InputError as error:
        return list(error.faults)
    return validate(strategy.Options, job.options, document, ("options",))[1] + aim_faults(job, strategy, place)


def aim_faults(job: Any, strategy: Any, place: str) -> list[Fault]:
    """Whether the strategy knows what the search is for."""
    known = strategy.Options.model_fields
    several = isinstance(job.objective, list) and len(job.objective) > 1
    return [
        Fault(place, f"the strategy {job.strategy!r} knows no {what}", "take `bayes` or `random`")
        for wanted, what, field in ((job.constraints, "constraints", "limits"), (several, "several objectives", "also"))
        if wanted and field not in known and job.strategy != "random"
    ]


def bound_faults(job: Any, document: Document) -> list[Fault]:
    faults = []
    for name, bound in job.constraints.items():
        if bound.at_least is None and bound.at_most is None:
            faults.append(document.fault(("constraints", name), "bounds nothing", "write `at_most:` or `at_least:`"))
        elif bound.at_least is not None and bound.at_most is not None and bound.at_least > bound.at_most:
            problem = f"at_least {bound.at_least:g} is above at_most {bound.at_most:g}"
            faults.append(document.fault(("constraints", name), problem, "nothing can keep both"))
    return faults


def _inner_faults(inner: Document, space: Space, read_job: ReadJob, document: Document) -> list[Fault]:
    """Faults of the job with the middle of the space, and with each parameter at its ends or each of its choices.

    A field that the job leaves to the search may be missing in it.
    """
    if inner.data.get("kind") == "search":
        return [document.fault(("job",), "is a search itself", "name a job that trains or optimises")]
    middle, faults = first_point(space), list[Fault]()
    for name in [name for name in middle if not _has_place(inner, name)]:
        del middle[name]
        faults += [_at(document, name, fault, "") for fault in _faults(inner, {name: None}, read_job)]
    base, with_middle = _faults(inner, {}, read_job), _faults(inner, middle, read_job)
    known = {fault.problem for fault in base}
    faults += [fault for fault in with_middle if fault.problem in known]
    for fault in with_middle:
        if fault.problem not in known:
            known.add(fault.problem)
            guilty = (name for name in middle if fault.problem in _problems(inner, name, middle[name], read_job))
            faults.append(_at(document, next(guilty, None), fault, ""))
    for name, point in _points(space, middle):
        for fault in _faults(inner, point, read_job):
            if fault.problem not in known:
                known.add(fault.problem)
                faults.append(_at(document, name, fault, f" ({name}={point[name]!r})"))
    return faults


def first_point(space: Space) -> dict[str, Any]:
    """A point in the middle of everything."""
    import numpy as np

    return space.params(space.snap(np.full((1, len(space)), 0.5))[0])


def team_of(inner: Document, space: Space, read_job: ReadJob) -> Team:
    """The most workers that a trial trains with, and what each of them asks for."""
    middle = first_point(space)
    points = [middle, *(point for name, point in _points(space, middle) if name.startswith(("workers", "resources")))]
    jobs = [job for _, job in (read_job(filled(inner, point)) for point in points)]
    workers = [one if isinstance(one, int) else one.min for one in (getattr(job, "workers", 1) for job in jobs)]
    asked = [dict(getattr(job, "resources", {})) for job in jobs]
    return Team(max(workers), {name: max(one.get(name, 0) for one in asked) for one in asked for name in one})


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


def _has_place(inner: Document, name: str) -> bool:
    """Whether there can be a field of that name, such as in no list that is shorter."""
    try:
        filled(inner, {name: None})
    except InputError:
        return False
    return True


def _problems(inner: Document, name: str, value: Any, read_job: ReadJob) -> set[str]:
    return {fault.problem for fault in _faults(inner, {name: value}, read_job)}


def _at(document: Document, name: str | None, fault: Fault, more: str) -> Fault:
    """A fault of the searched job as one of the parameter that brings it about."""
    place = document.place(("space", name) if name else ("space",))
    return Fault(place, fault.problem + more, fault.remedy)
