"""Kinds of job, one file each: its fields, and what running it means. To add one, add a file; nothing else names it.

A kind is a module with

    Job                              a `JobSettings` class: the fields of the job file
    check(job, document)             the faults that show without loading data or model
    prepare(job, document, cache)    loads and checks what the job names; raises InputError; writes into the cache only
    run(prepared, desk)              does the work and returns the summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import Field

from rayopt import plugins
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.spec import Document, Settings, validate

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.runs.cache import Cache


class JobSettings(Settings):
    """What every kind of job has. `seed` decides splits, initial weights and the order of data."""

    kind: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)


class Prepared(Protocol):
    """A job that is ready to run. `hash` tells it from every other job and from other data or another model."""

    @property
    def hash(self) -> str: ...

    def plan(self) -> dict[str, Any]: ...


class Kind(Protocol):
    """The face of a kind's module."""

    Job: type[JobSettings]

    def check(self, job: Any, document: Document) -> list[Fault]: ...

    def prepare(self, job: Any, document: Document, cache: Cache) -> Prepared: ...

    def run(self, prepared: Any, desk: Desk) -> dict[str, Any]: ...


PARTS = ("Job", "check", "prepare", "run")


def read_job(document: Document) -> tuple[Kind, JobSettings]:
    """The kind and the checked fields of a job; raises InputError with all faults at once."""
    kind = _find(document)
    job, faults = validate(kind.Job, document.data, document)
    if job is not None:
        faults += kind.check(job, document)
    else:
        faults += _faults_beside(kind, document)
    if job is None or faults:
        raise InputError(sorted(dict.fromkeys(faults), key=_line))
    return kind, job


def _find(document: Document) -> Kind:
    name = document.data.get("kind")
    known = plugins.names("rayopt.kinds")
    if name is None:
        raise InputError([document.fault((), "names no `kind:`", f"add `kind: optimize`; {did_you_mean('', known)}")])
    if not isinstance(name, str):
        raise InputError([document.fault(("kind",), f"{name!r} is no kind", did_you_mean("", known))])
    with plugins.importable(document.folder):
        return cast(Kind, plugins.load("rayopt.kinds", name, document.place(("kind",)), PARTS))


def _faults_beside(kind: Kind, document: Document) -> list[Fault]:
    """What else is wrong with a job that some of the fields fail: a kind may offer checks that need no whole job."""
    beside = getattr(kind, "check_parts", None)
    return cast(list[Fault], beside(document)) if beside else []


def _line(fault: Fault) -> tuple[str, int]:
    source, _, rest = fault.place.partition(":")
    number = rest.partition(":")[0].strip()
    return source, int(number) if number.isdigit() else 0
