"""The `steps:` of a job as a tree: a list of steps with forks, turned into steps that share their beginnings.

    steps:
      - any:                                    # a fork: each alternative is tried
          - nothing
          - [{use: prune_channels, keep: 0.5}, recover]
      - any: [nothing, quantize_static]

An item is a method's name, `{use: NAME, parameter: value}`, a fork, or a list of items. Where a method needs ONNX and
the chain still holds a torch model, the export is put in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayopt import methods
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.records import Format, Need, Step
from rayopt.spec import Document, validate
from rayopt.yamltext import Location

EXPORT = "export_onnx"
NOTHING = "nothing"
MAX_CHAINS = 10_000


@dataclass(frozen=True)
class Chain:
    """The steps from the job's model to one candidate, first to last."""

    steps: tuple[Step, ...] = ()
    format: Format = "torch"

    @property
    def last(self) -> str | None:
        return self.steps[-1].id if self.steps else None

    @property
    def own(self) -> set[str]:
        """The dotted paths of methods that are the user's own."""
        return {step.method for step in self.steps if "." in step.method}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(step.label for step in self.steps)


@dataclass(frozen=True)
class _Use:
    """A method and its validated parameters, wherever it stands; `given` are those that were written down."""

    method: methods.Method
    name: str
    params: dict[str, Any]
    given: dict[str, Any]
    need: Need
    location: Location


class TreeReader:
    """Reads items into chains; collects every fault on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.faults: list[Fault] = []

    def chains(self, items: Any, location: Location, start: Chain) -> list[Chain]:
        """All chains that the items make from `start`, without duplicates; none when there are faults."""
        sequences = self._list(items, location)
        if self.faults:
            return []
        found: dict[str | None, Chain] = {}
        for uses in sequences:
            chain = self._grow(start, uses)
            if chain.format == "torch":
                chain = self._grow(chain, [self._export(location)])
            found.setdefault(chain.last, chain)
        return [] if self.faults else list(found.values())

    def extend(self, chain: Chain, name: str, params: dict[str, Any], location: Location) -> Chain:
        """The chain with one more step."""
        uses = self._use(name, params, location)
        return self._grow(chain, uses)

    def _list(self, items: Any, location: Location) -> list[list[_Use]]:
        if not isinstance(items, list):
            return self._item(items, location)
        sequences: list[list[_Use]] = [[]]
        for index, item in enumerate(items):
            tails = self._item(item, (*location, index))
            if self._too_many(len(sequences) * len(tails), (*location, index)):
                return []
            sequences = [head + tail for head in sequences for tail in tails]
        return sequences

    def _item(self, item: Any, location: Location) -> list[list[_Use]]:
        if isinstance(item, list):
            return self._list(item, location)
        if item == NOTHING or item is None:
            return [[]]
        if isinstance(item, str):
            return [self._use(item, {}, location)]
        if isinstance(item, dict) and "any" in item:
            return self._fork(item, location)
        if isinstance(item, dict) and isinstance(item.get("use"), str):
            params = {key: value for key, value in item.items() if key != "use"}
            return [self._use(item["use"], params, location, (*location, "use"))]
        remedy = "write a method's name, {use: NAME, ...}, {any: [...]}, or a list of these"
        shown = repr(item)
        shown = shown if len(shown) < 80 else f"{shown[:77]}..."
        self.faults.append(self._document.fault(location, f"{shown} is no step", remedy))
        return []

    def _fork(self, item: dict[str, Any], location: Location) -> list[list[_Use]]:
        for key in item.keys() - {"any"}:
            remedy = did_you_mean(str(key), ["any"])
            self.faults.append(self._document.fault((*location, key), f"unknown key {key!r}", remedy))
        alternatives = item["any"]
        if not isinstance(alternatives, list) or not alternatives:
            self.faults.append(
                self._document.fault((*location, "any"), "holds no alternatives", "give a list of steps")
            )
            return []
        tails: list[list[_Use]] = []
        for index, one in enumerate(alternatives):
            below = (*location, "any", index)
            tails += self._item(one, below)
            if self._too_many(len(tails), below):
                return []
        return tails

    def _too_many(self, count: int, location: Location) -> bool:
        if count > MAX_CHAINS:
            problem = f"the forks make more than {MAX_CHAINS:,} chains"
            self.faults.append(self._document.fault(location, problem, "name fewer alternatives"))
        return count > MAX_CHAINS

    def _use(
        self, name: str, params: dict[str, Any], location: Location, name_at: Location | None = None
    ) -> list[_Use]:
        try:
            method = methods.find(name, self._document.place(name_at or location))
        except InputError as error:
            self.faults += error.faults
            return []
        checked, faults = validate(method.Params, params, self._document, location)
        self.faults += faults
        if checked is None:
            return []
        # Parameters as JSON holds them, defaults filled in: ids and cache keys are made of them.
        return [_Use(method, name, checked.model_dump(mode="json"), params, methods.need_of(method, checked), location)]

    def _export(self, location: Location) -> _Use:
        return self._use(EXPORT, {}, location)[0]

    def _grow(self, chain: Chain, uses: Sequence[_Use]) -> Chain:
        for use in uses:
            if use.method.accepts == "onnx" and chain.format == "torch":
                chain = self._add(chain, self._export(use.location))
            if use.method.accepts != chain.format:
                problem = (
                    f"{use.name} takes a {use.method.accepts} model, but the chain holds an {chain.format} model there"
                )
                remedy = "put it before the export, or start from a `factory:` model"
                fault = self._document.fault(use.location, problem, remedy)
                if fault not in self.faults:
                    self.faults.append(fault)
                return chain
            chain = self._add(chain, use)
        return chain

    def _add(self, chain: Chain, use: _Use) -> Chain:
        given = ", ".join(f"{key}={use.params[key]}" for key in use.given)
        label = f"{use.name}({given})" if given else use.name
        preserves = bool(getattr(use.method, "preserves", False))
        step = Step(use.name, use.params, use.method.version, chain.last, label, use.need, preserves)
        return Chain((*chain.steps, step), use.method.gives)
