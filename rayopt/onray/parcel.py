"""Putting work where workers get it from; what cannot travel is named, down to the attribute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray

from rayopt.errors import input_error
from rayopt.onray.post import dumps

DEPTH = 8


def put(work: Any) -> Any:
    """A reference to `work` in the object store, from which the workers of a machine share its arrays.

    Raises InputError with the attribute that cannot be sent to other processes.
    """
    try:
        return ray.put(work)
    except Exception as error:  # pickling runs code of any class, which may fail in its own way
        refuse(work, "")
        raise input_error(type(work).__name__, f"cannot be sent to other processes ({error})") from error


def refuse(value: Any, place: str) -> None:
    """Raises InputError with the part of `value`, which is at `place`, that cannot be sent to other processes."""
    found = culprit(value, place)
    if found is not None:
        place, part, why = found
        problem = f"a {type(part).__name__} cannot be sent to other processes ({why.splitlines()[0]})"
        raise input_error(place or type(part).__name__, problem, "make it where it is used")


def culprit(value: Any, place: str = "", depth: int = DEPTH) -> tuple[str, Any, str] | None:
    """Where inside of `value` the part is that does not pickle, the part, and why; None where all does."""
    try:
        dumps(value)
    except Exception as error:  # noqa: BLE001 - as above
        why = str(error) or type(error).__name__
    else:
        return None
    for name, part in _parts(value) if depth else ():
        found = culprit(part, f"{place}.{name}" if place else name, depth - 1)
        if found is not None:
            return found
    return place, value, why


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by name: a module's children under their own names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from ((str(index), part) for index, part in enumerate(value))
    elif callable(value) and getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        yield from ((name, cell.cell_contents) for name, cell in zip(names, value.__closure__, strict=True))
    else:
        for name, part in getattr(value, "__dict__", {}).items():
            if name in ("_modules", "_parameters", "_buffers") and isinstance(part, Mapping):
                yield from ((str(key), child) for key, child in part.items())
            else:
                yield name, part
