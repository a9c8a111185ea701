"""Steps, evaluations and timings as tasks of the engine, with the keys under which the cache knows their results."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import rayopt.methods
from rayopt import plugins, work
from rayopt.engine import Of, Task
from rayopt.measure.machine import machine
from rayopt.plan import Node
from rayopt.provenance import Sources, sources_of
from rayopt.records import Artifact, Latency, Scores, Step, digest
from rayopt.runs.cache import Entry
from rayopt.tree import Chain
from rayopt.work import Bench, Made, Timed, Timing

LIBRARIES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxoptimizer",
    "onnxscript",
    "torch-pruning",
    "scikit-learn",
    "numpy",
    "ray",
)
MODEL = "model"  # the id under which the engine holds the job's own model


def versions() -> dict[str, str]:
    """Versions of Python, rayopt and the libraries that results depend on."""
    found = {"python": platform.python_version(), "rayopt": importlib.metadata.version("rayopt")}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Limits:
    """What a step may take, in seconds and bytes (0: no limit), and on which machines models are timed (see Call)."""

    step_s: float = 3600
    step_bytes: int = 0
    target: Mapping[str, str] = field(default_factory=dict)


class Tasks:
    """Makes the tasks of one job. `model_hash` is what the job's model is, beyond its files; `where` runs timings."""

    def __init__(self, bench: Bench, model_hash: str, where: str, limits: Limits) -> None:
        self._bench = bench
        self._limits = limits
        self._context = digest([model_hash, bench.data.sha256, bench.seed, versions(), code_hash()])
        self._folder = bench.source.folder
        self._timed_on = digest([machine(), versions()["onnxruntime"], bench.threads, where, dict(limits.target)])

    def steps(self, chains: Iterable[Chain], original: str) -> list[Task]:
        """A task for each step of the chains; steps that chains share are there once."""
        found: dict[str, Task] = {}
        for chain in chains:
            for index, step in enumerate(chain.steps):
                if step.id not in found:
                    name = " > ".join(chain.labels[: index + 1])
                    found[step.id] = self._step(step, name, original)
        return list(found.values())

    def evaluate(self, id: str, split: str, baseline: str, name: str, parent: str | None) -> Task:
        """The scores of model `id` on a split, compared with the baseline's; the task's id is `ID:SPLIT`."""
        where = source_hash(self._bench.metric, self._folder) if ":" in self._bench.metric else ""
        parts = ["evaluate", split, self._bench.metric, where, self._context, self._bench.threads]

        def key(values: Mapping[str, Any]) -> str:
            return digest([*parts, _sha(values[id]), _sha(values[baseline])])

        args = (Of(id), split, self._bench, Of(baseline))
        return Task(Node(f"{id}:{split}", parent), f"{name} > evaluate on {split}", work.evaluate, args, key)

    def time(self, id: str, baseline: str, timing: Timing, name: str) -> Task:
        """The latencies of model `id`, interleaved with the baseline; the task's id is `ID:time`."""
        parts = ["time", asdict(timing), self._timed_on, self._bench.data.sha256, code_hash()]

        def key(values: Mapping[str, Any]) -> str:
            return digest([*parts, _sha(values[id]), _sha(values[baseline])])

        args = (timing, self._bench, Of(baseline))
        node = Node(f"{id}:time", exclusive=True)
        name = f"{name} > time"
        return Task(node, name, work.time_together, args, key, each=Of(id), where=self._limits.target)

    def _step(self, step: Step, name: str, original: str) -> Task:
        parent = step.parent or MODEL
        teacher = MODEL if original == step.id else original  # the step that makes the original has none to look at
        own = source_hash(step.method, self._folder) if "." in step.method else ""
        parts = [step.method, step.version, dict(step.params), own, self._context]

        def key(values: Mapping[str, Any]) -> str:
            return digest([*parts, _sha(values[parent]), _sha(values[teacher])])

        args = (step, Of(parent), Of(teacher), self._bench)
        limit = min(step.need.limit_s, self._limits.step_s)
        need = replace(step.need, limit_s=limit, memory_bytes=step.need.memory_bytes or self._limits.step_bytes)
        return Task(Node(step.id, step.parent), name, work.run_step, args, key, need=need)


class Codec:
    """Results to cache entries and back."""

    def encode(self, value: Any) -> Entry:
        if isinstance(value, Made):
            artifact = value.artifact
            told = {"format": artifact.format, "notes": dict(artifact.notes), "seconds": value.seconds}
            return Entry({"made": told}, artifact.files)
        if isinstance(value, Scores):
            return Entry({"scores": asdict(value)}, {})
        if isinstance(value, Timed):
            return Entry({"timed": [asdict(latency) for latency in value.latency], "machine": value.machine}, {})
        raise TypeError(f"no cache entry for {type(value).__name__}")

    def decode(self, entry: Entry) -> Any:
        if "made" in entry.value:
            told = entry.value["made"]
            return Made(Artifact(told["format"], entry.files, told["notes"]), told["seconds"])
        if "scores" in entry.value:
            return Scores(**entry.value["scores"])
        return Timed(tuple(Latency(**latency) for latency in entry.value["timed"]), entry.value["machine"])


def source_hash(name: str, folder: str) -> str:
    """A hash of the sources of a dotted path's module and of what it imports, so that editing them is noticed."""
    return sources([name], folder).sha256


def sources(names: Iterable[str], folder: str) -> Sources:
    """The sources of modules (or `module:function`s) of a job's own."""
    modules = [name.partition(":")[0] for name in names if name.partition(".")[0] != "rayopt"]  # it has a version
    with plugins.importable(folder):
        for name in modules:
            plugins.module(name, name)
        found = sources_of(modules)
    plugins.belongs(folder, found.files)
    return found


@functools.cache
def code_hash() -> str:
    """A hash of rayopt's own code that results depend on."""
    root = Path(rayopt.methods.__file__).parent.parent
    rooms = ("methods", "compress", "graph", "training", "models", "data", "measure")
    total = hashlib.sha256((root / "work.py").read_bytes())
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            total.update(path.read_bytes())
    return total.hexdigest()


def _sha(value: Artifact | Made) -> str:
    return value.artifact.sha256 if isinstance(value, Made) else value.sha256
