"""A search space: named parameters, some of which exist only when others have certain values, as a unit cube.

Each parameter is one coordinate. Points of the cube that mean the same are brought to one place by `snap`: whole
numbers and choices to the middle of what they own, parameters that do not exist to the middle of the cube.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.search.parameters import Array, Choice, Location, Parameter, Place, Range, read_parameter

Params = Mapping[str, Any]
NOWHERE = 0.5  # the coordinate of a parameter that does not exist


@dataclass(frozen=True)
class Space:
    """Parameters by name, in the order in which they were written."""

    parameters: Mapping[str, Parameter]

    @classmethod
    def from_settings(cls, settings: Any, place: Place | None = None) -> Space:
        """The space that a user wrote (`read_parameter` lists the forms); raises InputError with every fault.

        `place` turns a location such as ("C", "low") into what a person would look for.
        """
        place = place or _dotted
        if not isinstance(settings, Mapping) or not settings:
            raise input_error(place(()), "names no parameter", "write for example C: {low: 0.1, high: 10, log: true}")
        parameters: dict[str, Parameter] = {}
        faults: list[Fault] = []
        for name, written in settings.items():
            found, more = read_parameter(written, place, (str(name),))
            faults += more
            if found is not None:
                parameters[str(name)] = found
        names = [str(name) for name in settings]
        for name, parameter in parameters.items():
            for parent in parameter.when:
                faults += _condition_faults(parameters, names, name, parent, place)
        faults += _cycles(parameters, place)
        if faults:
            raise InputError(faults)
        return cls(parameters)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @cached_property
    def nominal(self) -> Array:
        """(dims,) whether two different values of a parameter are always equally far apart."""
        return np.array([one.nominal for one in self.parameters.values()])

    @cached_property
    def discrete(self) -> Array:
        """(dims,) whether a parameter has countable values."""
        return np.array([one.count is not None for one in self.parameters.values()])

    def __len__(self) -> int:
        return len(self.parameters)

    @cached_property
    def size(self) -> int | None:
        """How many different points there are; None: a continuum."""
        if not self.discrete.all() and any(one.count is None and not one.when for one in self.parameters.values()):
            return None
        return self._count(list(self._order), {})

    def read(self, params: Params) -> dict[str, Any]:
        """A point from elsewhere as one of this space; raises ValueError with the reason where it is none."""
        unknown = [name for name in params if name not in self.parameters]
        if unknown:
            raise ValueError(f"unknown parameter {unknown[0]!r}")
        point: dict[str, Any] = {}
        for name in self._order:
            if not self._exists(name, point):
                if params.get(name) is not None:
                    raise ValueError(f"{name} does not exist beside {_shown(self.parameters[name].when)}")
                continue
            if name not in params:
                raise ValueError(f"{name} is missing")
            try:
                point[name] = self.parameters[name].read(params[name])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
        return {name: point[name] for name in self.names if name in point}

    def units(self, points: Iterable[Params]) -> Array:
        """(n, dims) the points of this space in the cube."""
        rows = [
            [parameter.unit(point[name]) if name in point else NOWHERE for name, parameter in self.parameters.items()]
            for point in points
        ]
        return np.array(rows, dtype=float).reshape(len(rows), len(self))

    def params(self, unit: Array) -> dict[str, Any]:
        """The point at a place (dims,) of the cube: only parameters that exist."""
        exists = self.exists(unit[None])[0]
        return {
            name: parameter.value(float(unit[column]))
            for column, (name, parameter) in enumerate(self.parameters.items())
            if exists[column]
        }

    def snap(self, units: Array) -> Array:
        """(n, dims) the same points, each at the one place that `units` gives it."""
        columns = [parameter.snap(units[:, column]) for column, parameter in enumerate(self.parameters.values())]
        return np.where(self.exists(units), np.stack(columns, axis=1), NOWHERE)

    def every(self) -> Array:
        """(size, dims) all points of a finite space, in the order of its parameters' values."""
        rows = np.full((1, len(self)), NOWHERE)
        for name in self._order:
            column, parameter = self.names.index(name), self.parameters[name]
            values = np.array([parameter.unit(value) for value in parameter.all()])
            here = self.exists(rows)[:, column]
            grown = np.repeat(rows[here], len(values), axis=0)
            grown[:, column] = np.tile(values, int(here.sum()))
            rows = np.concatenate([rows[~here], grown])
        return rows[np.lexsort(rows.T[::-1])]

    def exists(self, units: Array) -> Array:
        """(n, dims) which parameters exist at these places."""
        exists = np.ones(units.shape, dtype=bool)
        for name in self._order:
            for parent, allowed in self._allowed.get(name, {}).items():
                column = self.names.index(parent)
                here = np.isin(self.parameters[parent].index(units[:, column]), allowed)
                exists[:, self.names.index(name)] &= exists[:, column] & here
        return exists

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """Names, each after those on which it depends."""
        order: list[str] = []

        def visit(name: str) -> None:
            for parent in self.parameters[name].when:
                visit(parent)
            if name not in order:
                order.append(name)

        for name in self.parameters:
            visit(name)
        return tuple(order)

    @cached_property
    def _allowed(self) -> dict[str, dict[str, list[int]]]:
        """Of each parameter with a condition: for each parent the indices of the values that it must have."""
        return {
            name: {
                parent: [_index(self.parameters[parent], value) for value in values]
                for parent, values in parameter.when.items()
            }
            for name, parameter in self.parameters.items()
            if parameter.when
        }

    def _exists(self, name: str, point: Params) -> bool:
        return all(
            parent in point and _index(self.parameters[parent], point[parent]) in allowed
            for parent, allowed in self._allowed.get(name, {}).items()
        )

    def _count(self, names: Sequence[str], chosen: Mapping[str, int | None]) -> int | None:
        """The number of points that agree with what was chosen (by index; None: one that no condition names)."""
        if not names:
            return 1
        name, rest = names[0], names[1:]
        conditions = self._allowed.get(name, {})
        if not all(chosen.get(parent) in allowed for parent, allowed in conditions.items()):
            return self._count(rest, chosen)
        count = self.parameters[name].count
        if count is None:
            return None
        named = {index for one in self._allowed.values() for index in one.get(name, ())}
        groups: list[tuple[int | None, int]] = [(index, 1) for index in sorted(named)]
        if count > len(named):
            groups.append((None, count - len(named)))
        total = 0
        for index, times in groups:
            inside = self._count(rest, {**chosen, name: index} if named else chosen)
            if inside is None:
                return None
            total += times * inside
        return total


def _index(parameter: Parameter, value: Any) -> int:
    return int(parameter.index(np.asarray(parameter.unit(value))))


def _dotted(location: Location) -> str:
    return ".".join(("space", *location))


def _shown(when: Mapping[str, Sequence[Any]]) -> str:
    return " and ".join(f"{name} other than {', '.join(map(str, values))}" for name, values in when.items())


def _condition_faults(
    parameters: Mapping[str, Parameter], names: Sequence[str], name: str, parent: str, place: Place
) -> list[Fault]:
    at = place((name, "when", parent))
    if parent not in names:
        return [Fault(at, f"there is no parameter {parent!r}", did_you_mean(parent, names))]
    found = parameters.get(parent)
    if found is None:  # its own faults are told already
        return []
    if isinstance(found, Range) and not found.integer:
        return [Fault(at, f"{parent} is a continuous range", "a condition names a choice or a whole number")]
    faults = []
    for value in parameters[name].when[parent]:
        try:
            found.read(value)
        except (TypeError, ValueError) as error:
            known = did_you_mean(str(value), [str(one) for one in found.values]) if isinstance(found, Choice) else ""
            faults.append(Fault(at, f"never holds: {error}", known or "give a value that it can have"))
    return faults


def _cycles(parameters: Mapping[str, Parameter], place: Place) -> list[Fault]:
    """A fault for each parameter that depends on itself."""
    faults = []
    for name in parameters:
        path, ahead = {name}, [parent for parent in parameters[name].when if parent in parameters]
        while ahead:
            one = ahead.pop()
            if one == name:
                faults.append(Fault(place((name, "when")), f"{name} depends on itself", "remove one of the conditions"))
                break
            if one not in path:
                path.add(one)
                ahead += [parent for parent in parameters[one].when if parent in parameters]
    return faults
