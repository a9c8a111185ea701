"""One parameter of a search space: a range of numbers or a choice, how a user writes it, and its place in [0, 1]."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from rayopt.errors import Fault, did_you_mean

Array = np.ndarray[Any, Any]
Location = tuple[str, ...]
Place = Callable[[Location], str]
When = Mapping[str, tuple[Any, ...]]

RANGE_KEYS = ("low", "high", "log", "int", "when")
CHOICE_KEYS = ("choices", "ordered", "when")


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; `log`: equal ratios are equally far apart."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    when: When = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """How many values there are; None: a continuum."""
        return int(self.high) - int(self.low) + 1 if self.integer else None

    @property
    def nominal(self) -> bool:
        return False

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Where the unit interval begins and ends; a whole number owns the half unit on each side of it."""
        half = 0.5 if self.integer else 0.0
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def all(self) -> list[int]:
        """Every value of whole numbers; a continuum has none to list."""
        return list(range(int(self.low), int(self.high) + 1)) if self.integer else []

    def snap(self, unit: Array) -> Array:
        """The units at which values lie, nearest to these."""
        return self._unit(self._values(unit)) if self.integer else unit

    def index(self, unit: Array) -> Array:
        """Of whole numbers: how far above `low`."""
        return (self._values(unit) - self.low).astype(np.int64)

    def place(self, index: int) -> float:
        """The unit of the whole number that is so far above `low`."""
        return self.unit(self.low + index)

    def value(self, unit: float) -> float | int:
        found = float(self._values(np.asarray(unit, dtype=float)))
        if self.integer:
            return round(found)
        return found if 0 < unit < 1 else self._end(unit)

    def _end(self, unit: float) -> float:
        """The ends as they were written: powers of logarithms are off by a rounding."""
        return float(self.low if unit <= 0 else self.high)

    def unit(self, value: Any) -> float:
        return float(self._unit(np.asarray(value, dtype=float)))

    def read(self, value: Any) -> float | int:
        """A value from elsewhere as one of this range; raises ValueError with the reason where it is none."""
        value = plain(value)
        if not _is_number(value):
            raise ValueError(f"{value!r} is no finite number")
        if self.integer and value != round(value):
            raise ValueError(f"{value!r} is not whole")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is not within {self.low:g} to {self.high:g}")
        return round(value) if self.integer else float(value)

    def _values(self, unit: Array) -> Array:
        low, high = self._ends
        values = low + unit * (high - low)
        values = np.exp(values) if self.log else values
        return np.clip(np.rint(values) if self.integer else values, self.low, self.high)

    def _unit(self, values: Array) -> Array:
        low, high = self._ends
        return np.clip(((np.log(values) if self.log else values) - low) / (high - low), 0.0, 1.0)


@dataclass(frozen=True)
class Choice:
    """One of several plain values; `ordered`: neighbours in the list are alike."""

    values: tuple[Any, ...]
    ordered: bool = False
    when: When = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def nominal(self) -> bool:
        """Whether two different values are always equally far apart."""
        return not self.ordered

    def all(self) -> list[Any]:
        return list(self.values)

    def snap(self, unit: Array) -> Array:
        return (self.index(unit) + 0.5) / self.count

    def index(self, unit: Array) -> Array:
        index: Array = np.clip(np.floor(np.asarray(unit) * self.count), 0, self.count - 1).astype(np.int64)
        return index

    def place(self, index: int) -> float:
        return (index + 0.5) / self.count

    def value(self, unit: float) -> Any:
        return self.values[int(self.index(np.asarray(unit)))]

    def unit(self, value: Any) -> float:
        return (self._places[key_of(value)] + 0.5) / self.count

    def read(self, value: Any) -> Any:
        """A value from elsewhere as one of the choices; raises ValueError with the reason where it is none."""
        place = self._places.get(key_of(value))
        if place is None:
            raise ValueError(f"{value!r} is none of {', '.join(map(repr, self.values))}")
        return self.values[place]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key_of(value): index for index, value in enumerate(self.values)}


Parameter: TypeAlias = Range | Choice


def plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def key_of(value: Any) -> str:
    """What tells plain values apart: unlike `==` it keeps True from 1, and a list is its tuple; raises TypeError."""
    return json.dumps(value, sort_keys=True, default=_item)


def _item(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no plain value")


def read_parameter(written: Any, place: Place, at: Location) -> tuple[Parameter | None, list[Fault]]:
    """The parameter that a user wrote, or None and all that is wrong with it.

    Forms: `{low, high, log, int, when}`, `{choices, ordered, when}`, a list of choices, and in Python the textbook's
    `(low, high)`, with bayes_opt's `(low, high, int)` and `("a", "b")`.
    """
    if isinstance(written, (Range, Choice)):
        return written, []
    if isinstance(written, tuple) and not (written and all(isinstance(one, str) for one in written)):
        written = _bounds(written)
    if isinstance(written, (list, tuple)):
        written = {"choices": list(written)}
    if not isinstance(written, Mapping):
        remedy = "write {low: 0, high: 1}, or a list of choices"
        return None, [Fault(place(at), f"{written!r} is neither a range nor choices", remedy)]
    keys = CHOICE_KEYS if "choices" in written else RANGE_KEYS
    faults = [
        Fault(place((*at, str(key))), f"unknown key {key!r}", did_you_mean(str(key), keys))
        for key in written
        if key not in keys
    ]
    if faults and not {"low", "high", "choices"} & set(written):
        known = sorted({*RANGE_KEYS, *CHOICE_KEYS})
        return None, [
            Fault(fault.place, fault.problem, did_you_mean(str(key), known))
            for fault, key in zip(faults, (key for key in written if key not in keys), strict=True)
        ]
    read = _read_choice if "choices" in written else _read_range
    found, more = read(written, place, at)
    return (None if faults else found), faults + more


def _bounds(written: tuple[Any, ...]) -> Any:
    if len(written) == 2:
        return {"low": written[0], "high": written[1]}
    if len(written) == 3 and written[2] in (int, float):
        return {"low": written[0], "high": written[1], "int": written[2] is int}
    return str(written)


def _read_range(written: Mapping[str, Any], place: Place, at: Location) -> tuple[Range | None, list[Fault]]:
    faults = [
        Fault(place(at), f"`{key}` is missing", f"add `{key}:`, or list `choices:`")
        for key in ("low", "high")
        if key not in written
    ]
    for key in ("low", "high"):
        if key in written and not _is_number(plain(written[key])):
            faults.append(Fault(place((*at, key)), f"{written[key]!r} is no finite number", "give a number"))
    for key in ("log", "int"):
        if not isinstance(written.get(key, False), bool):
            faults.append(
                Fault(place((*at, key)), f"{written[key]!r} is neither true nor false", "write true or false")
            )
    when, more = _read_when(written.get("when"), place, (*at, "when"))
    faults += more
    if faults:
        return None, faults
    low, high = plain(written["low"]), plain(written["high"])
    log, integer = written.get("log", False), written.get("int", False)
    if low >= high:
        faults.append(Fault(place(at), f"low {low!r} is not below high {high!r}", "give low < high"))
    if log and low <= 0:
        remedy = "give a low above 0, or leave `log` out"
        faults.append(Fault(place((*at, "low")), f"a log scale has no {low!r}", remedy))
    if integer and (low != round(low) or high != round(high)):
        faults.append(Fault(place(at), f"low {low!r} and high {high!r} are not whole", "give whole numbers"))
    if not integer and not math.isfinite(float(high) - float(low)):
        faults.append(Fault(place(at), f"{low!r} to {high!r} is wider than a number can be", "give a narrower range"))
    if faults:
        return None, faults
    if integer:
        return Range(int(low), int(high), log, True, when), []
    return Range(float(low), float(high), log, False, when), []


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _read_choice(written: Mapping[str, Any], place: Place, at: Location) -> tuple[Choice | None, list[Fault]]:
    values, ordered = written["choices"], written.get("ordered", False)
    when, faults = _read_when(written.get("when"), place, (*at, "when"))
    if not isinstance(ordered, bool):
        faults.append(Fault(place((*at, "ordered")), f"{ordered!r} is neither true nor false", "write true or false"))
    if not isinstance(values, (list, tuple)):
        return None, [*faults, Fault(place(at), f"choices {values!r} are no list", "write [a, b]")]
    if not values:
        return None, [*faults, Fault(place(at), "there are no choices", "list at least one")]
    seen: dict[str, Any] = {}
    for value in map(plain, values):
        try:
            key = key_of(value)
        except (TypeError, ValueError):
            problem = f"{value!r} is no plain value"
            faults.append(Fault(place(at), problem, "choices are numbers, texts, true, false, null and lists of them"))
            continue
        if key in seen or key in ("NaN", "Infinity", "-Infinity"):
            problem = f"{value!r} is there twice" if key in seen else f"{value!r} is no finite number"
            faults.append(Fault(place(at), problem, "list each choice once"))
        seen[key] = value
    return (None if faults else Choice(tuple(seen.values()), ordered, when)), faults


def _read_when(written: Any, place: Place, at: Location) -> tuple[dict[str, tuple[Any, ...]], list[Fault]]:
    if written is None:
        return {}, []
    if not isinstance(written, Mapping) or not written:
        return {}, [Fault(place(at), f"{written!r} is no condition", "write when: {parameter: value}")]
    when = {str(name): tuple(one) if isinstance(one, (list, tuple)) else (one,) for name, one in written.items()}
    empty = [name for name, allowed in when.items() if not allowed]
    return when, [Fault(place((*at, name)), "no value is listed", "list at least one value") for name in empty]
