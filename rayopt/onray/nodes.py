"""What the nodes of a cluster have, as it is now: some join later, some go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from rayopt.backend import Call

FRESH_S = 1.0
RESOURCE = "resource"  # the key of Call.where that names a resource; all others are labels
SLIVER = 0.001  # how much of that resource a call takes: it is there to name nodes
CALLS_PER_CPU = 4  # under way at once: enough that no CPU waits for the driver
LEAST_ROOM = 16


@dataclass(frozen=True)
class Node:
    """One node that is alive."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def has(self, asked: Mapping[str, float], labels: Mapping[str, str]) -> bool:
        enough = all(self.resources.get(name, 0) >= amount for name, amount in asked.items())
        return enough and all(self.labels.get(key) == value for key, value in labels.items())


@dataclass(frozen=True)
class Asked:
    """What a call asks of the node that it runs on."""

    amounts: Mapping[str, float]
    labels: Mapping[str, str]

    @property
    def options(self) -> dict[str, object]:
        """The same as options of a Ray task."""
        others = {name: amount for name, amount in self.amounts.items() if name not in ("CPU", "GPU", "memory")}
        return {
            "num_cpus": self.amounts["CPU"],
            "num_gpus": self.amounts.get("GPU", 0),
            "memory": self.amounts.get("memory"),
            "resources": others or None,
            "label_selector": dict(self.labels) or None,
        }

    def __str__(self) -> str:
        units = {"CPU": "CPUs", "GPU": "GPUs", "memory": "bytes of memory"}
        words = [f"{amount:,g} {units[name]}" for name, amount in self.amounts.items() if name in units]
        words += [f"the resource {name!r}" for name in self.amounts if name not in units]
        return ", ".join([*words, *(f"the label {key}={value}" for key, value in self.labels.items())])


class Nodes:
    """The nodes that are alive; asked again once what is known is a second old."""

    def __init__(self) -> None:
        self._looked = -FRESH_S
        self._alive: list[Node] = []

    def alive(self) -> list[Node]:
        if time.monotonic() - self._looked >= FRESH_S:
            self.look()
        return self._alive

    def look(self) -> None:
        told = ray.nodes()  # type: ignore[no-untyped-call]
        self._alive = [Node(node["Resources"], node.get("Labels") or {}) for node in told if node["Alive"]]
        self._looked = time.monotonic()

    @property
    def room(self) -> int:
        cpus = sum(node.resources.get("CPU", 0) for node in self.alive())
        return max(LEAST_ROOM, int(CALLS_PER_CPU * cpus))

    def asked(self, call: Call) -> Asked:
        """What a call asks; an exclusive one asks for all CPUs of the largest node that it may run on."""
        labels = {key: value for key, value in call.where.items() if key != RESOURCE}
        amounts: dict[str, float] = {"CPU": call.need.cpus}
        if call.need.gpus:
            amounts["GPU"] = call.need.gpus
        if call.need.memory_bytes:
            amounts["memory"] = call.need.memory_bytes
        if RESOURCE in call.where:
            amounts[call.where[RESOURCE]] = SLIVER
        if call.exclusive:
            others = {name: amount for name, amount in amounts.items() if name != "CPU"}
            sizes = [node.resources.get("CPU", 0) for node in self.alive() if node.has(others, labels)]
            amounts["CPU"] = max(sizes, default=call.need.cpus)
        return Asked(amounts, labels)

    def have(self, asked: Asked) -> bool:
        """Whether there is a node that has it, free or not."""
        return any(node.has(asked.amounts, asked.labels) for node in self.alive())
