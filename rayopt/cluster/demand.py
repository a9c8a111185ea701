"""Whether a cluster can ever give what a job asks for, told before the job waits there for ever."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayopt import plugins
from rayopt.course import CourseSettings, least_workers
from rayopt.errors import Fault, InputError
from rayopt.kinds import JobSettings
from rayopt.methods import find, need_of
from rayopt.spec import Document
from rayopt.yamltext import Location

UNITS = {"CPU": "CPUs", "GPU": "GPUs", "memory": "bytes of memory"}
ROUNDING = 1e-6  # .3 / .1 is a little less than 3; Ray counts in parts of 10,000
RESOURCE = "resource"  # the key of `target:` that names a resource, not a label


@dataclass(frozen=True)
class Machine:
    """What a node has, or a type of node of which there may be `count`."""

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1

    def holds(self, ask: Ask) -> int:
        """How many of such parts have room on it, all else left aside."""
        if any(self.labels.get(key) != value for key, value in ask.labels.items()):
            return 0
        wanted = {name: amount for name, amount in ask.amounts.items() if amount > 0}
        each = [math.floor(self.resources.get(name, 0) / amount + ROUNDING) for name, amount in wanted.items()]
        return self.count * min(each, default=1 << 30)


@dataclass(frozen=True)
class Ask:
    """`count` parts at the same time, each of which is on one node with these amounts and labels."""

    at: Location
    amounts: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1

    def __str__(self) -> str:
        words = [f"{amount:,.15g} {UNITS[name]}" for name, amount in self.amounts.items() if name in UNITS]
        words += [
            f"the resource {name!r}" + (f" ({amount:,.15g})" if amount > 1 else "")
            for name, amount in self.amounts.items()
            if name not in UNITS
        ]
        words += [f"the label {key}={value}" for key, value in self.labels.items()]
        return (f"{self.count} workers with " if self.count > 1 else "") + ", ".join(words)


def asks(job: JobSettings, document: Document) -> list[Ask]:
    """What a checked job asks of its nodes, as far as that shows without data."""
    found: list[Ask] = []
    target = getattr(job, "target", None)
    if isinstance(target, Mapping) and target:
        labels = {key: value for key, value in target.items() if key != RESOURCE}
        amounts = {"CPU": 1.0} | ({target[RESOURCE]: 1e-4} if RESOURCE in target else {})
        found.append(Ask(("target",), amounts, labels))
    step_bytes = getattr(getattr(job, "limits", None), "step_bytes", 0)
    if step_bytes:
        found.append(Ask(("limits", "step_bytes"), {"CPU": 1.0, "memory": float(step_bytes)}))
    course: Any = job  # a kind's fields may be those of a course as well
    if isinstance(course, CourseSettings) and (least_workers(course) > 1 or course.resources):
        at = ("resources",) if course.resources else ("workers",)
        found.append(Ask(at, {"CPU": 1.0, **course.resources}, count=least_workers(course)))
    with plugins.importable(document.folder):
        found += _of_steps(document.data.get("steps"), ("steps",), document)
    return found


def faults_of(wanted: Iterable[Ask], machines: Iterable[Machine], document: Document) -> list[Fault]:
    """A fault for each ask that these machines can never give."""
    there = list(machines)
    faults = []
    for ask in wanted:
        if sum(machine.holds(ask) for machine in there) < ask.count:
            problem = f"asks for {ask}, and the cluster can never give that; it has {_told(there)}"
            faults.append(document.fault(ask.at, problem, "ask for less, or submit to a cluster that has it"))
    return faults


def types_of(cluster: Mapping[str, Any]) -> list[Machine]:
    """The machines that a cluster file lets the autoscaler add, where it says what they have."""
    kinds = cluster.get("available_node_types")
    found = []
    for kind in kinds.values() if isinstance(kinds, Mapping) else ():
        resources = kind.get("resources") or {}
        if isinstance(resources, Mapping) and resources:
            amounts = {name: float(amount) for name, amount in resources.items()}
            count = int(kind.get("max_workers", cluster.get("max_workers", 1)) or 0)
            found.append(Machine(amounts, dict(kind.get("labels") or {}), count))
    return found


def unknown_types(cluster: Mapping[str, Any]) -> bool:
    """Whether the autoscaler may add machines of which the file does not say what they have."""
    kinds = cluster.get("available_node_types")
    return any(not kind.get("resources") for kind in kinds.values()) if isinstance(kinds, Mapping) else False


def _of_steps(steps: Any, at: Location, document: Document) -> Iterator[Ask]:
    """What methods ask for beyond a CPU."""
    if isinstance(steps, list):
        for index, step in enumerate(steps):
            yield from _of_steps(step, (*at, index), document)
        return
    if isinstance(steps, Mapping) and "any" in steps:
        yield from _of_steps(steps["any"], (*at, "any"), document)
        return
    use = steps if isinstance(steps, str) else steps.get("use") if isinstance(steps, Mapping) else None
    if not isinstance(use, str) or use == "nothing":
        return
    given = {key: value for key, value in steps.items() if key != "use"} if isinstance(steps, Mapping) else {}
    try:
        method = find(use, document.place(at))
        need = need_of(method, method.Params.model_validate(given))
    except (InputError, ValueError):  # whoever checks the job says so
        return
    amounts = {"CPU": need.cpus, "GPU": need.gpus, "memory": float(need.memory_bytes)}
    amounts = {name: amount for name, amount in amounts.items() if amount}
    if amounts != {"CPU": 1}:
        yield Ask(at, amounts)


def _told(machines: list[Machine]) -> str:
    """What there is, a node after the other, in short."""
    if not machines:
        return "no nodes"
    told: dict[str, int] = {}
    for machine in machines:
        amounts = [
            f"{machine.resources[name]:,g} {words}" for name, words in UNITS.items() if name in machine.resources
        ]
        others = [name for name in machine.resources if name not in UNITS and not _internal(name)]
        labels = [f"{key}={value}" for key, value in machine.labels.items() if not key.startswith("ray.io/")]
        said = ", ".join([*amounts, *others, *labels])
        told[said] = told.get(said, 0) + machine.count
    return "; ".join(f"{count} x ({said})" for said, count in list(told.items())[:6])


def _internal(name: str) -> bool:
    return name.startswith("node:") or name == "object_store_memory"
