"""The work itself, as pure functions that any machine can run: apply a step, evaluate a model, time models together."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayopt import methods, plugins
from rayopt.errors import StepError
from rayopt.models.settings import ModelSource
from rayopt.models.threads import torch_threads
from rayopt.records import Artifact, Latency, Scores, Step

if TYPE_CHECKING:
    from rayopt.data.dataset import Dataset


@dataclass(frozen=True)
class Bench:
    """What all work of a job shares, sent to each machine once.

    `metric` is a name or `package.module:function`; `code` a hash of all sources of the user's own that the job uses.
    """

    data: Dataset
    source: ModelSource
    metric: str
    seed: int
    threads: int = 1
    code: str = ""


@dataclass(frozen=True)
class Made:
    """A model and how long it took to make."""

    artifact: Artifact
    seconds: float


@dataclass(frozen=True)
class Timing:
    """How models are timed: each at each batch size for about `timing_s` seconds."""

    batch_sizes: tuple[int, ...] = (1, 32)
    timing_s: float = 0.3


@dataclass(frozen=True)
class Timed:
    """The latencies of one model by batch size, and the machine that they were taken on."""

    latency: tuple[Latency, ...]
    machine: Mapping[str, Any]


def run_step(step: Step, model: Artifact | Made, original: Artifact | Made | None, bench: Bench) -> Made:
    """The model after one step; raises StepError when the step has no usable result."""
    start = time.perf_counter()
    with plugins.importable(bench.source.folder):
        method = methods.find(step.method, step.method)
        params = method.Params.model_validate(dict(step.params))
        context = methods.Context(bench.data, bench.source, None if original is None else _made(original), bench.seed)
        with torch_threads(1) if method.accepts == "torch" else nullcontext():
            artifact = method.apply(_made(model), params, context)
    _check(artifact, step.method, method.gives)
    return Made(artifact, time.perf_counter() - start)


def _check(artifact: Any, name: str, gives: str) -> None:
    """Whether a method, perhaps a user's own, gave what it owes; raises StepError."""
    if not isinstance(artifact, Artifact):
        raise StepError(f"{name} gave {type(artifact).__name__} instead of an Artifact")
    if artifact.format != gives:
        raise StepError(f"{name} gave a {artifact.format} model but promises {gives}")
    if not artifact.files or not all(isinstance(content, bytes) for content in artifact.files.values()):
        raise StepError(f"{name} gave an Artifact whose files are not bytes by name")
    try:
        json.dumps(dict(artifact.notes), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StepError(f"{name} gave notes that JSON cannot hold: {error}") from error


def evaluate(model: Artifact | Made, split: str, bench: Bench, baseline: Artifact | Made) -> Scores:
    """The job's metric of an ONNX model on one split, run in ONNX Runtime; raises StepError for NaN outputs.

    Without labels it tells how close the outputs stay to the baseline's; of several outputs the worst counts.
    """
    from rayopt.measure.metrics import find_metric, score, worst
    from rayopt.models.onnx_model import predict, predict_all, session

    rows, task = bench.data[split], bench.data.task
    metric = find_metric(bench.metric, bench.source.folder, "metric")
    running = session(_made(model), bench.threads)
    if rows.y is not None:
        before = _reference(_made(baseline), split, bench)
        return score(metric, task, rows.y, predict(running, rows.x), before[0])
    reference, outputs = _reference(_made(baseline), split, bench), predict_all(running, rows.x)
    if [one.shape for one in reference] != [one.shape for one in outputs]:
        raise StepError(f"the outputs have shapes {_shapes(outputs)} instead of {_shapes(reference)}")
    return worst([score(metric, task, *pair, pair[0]) for pair in zip(reference, outputs, strict=True)])


def _reference(baseline: Artifact, split: str, bench: Bench) -> list[Any]:
    """The baseline's outputs on a split, the first one where there are labels; a process keeps the last two."""
    from rayopt.models.onnx_model import predict, predict_all, session

    key = (baseline.sha256, bench.data.sha256, split, bench.threads)
    if key not in _references:
        running, rows = session(baseline, bench.threads), bench.data[split]
        outputs = predict_all(running, rows.x) if rows.y is None else [predict(running, rows.x)]
        while len(_references) >= 2:
            del _references[next(iter(_references))]
        _references[key] = outputs
    return _references[key]


_references: dict[tuple[Any, ...], list[Any]] = {}


def _shapes(outputs: Sequence[Any]) -> str:
    return ", ".join(str(tuple(one.shape)) for one in outputs)


def time_together(
    ids: Sequence[str], timing: Timing, bench: Bench, baseline: Artifact | Made, *models: Artifact | Made
) -> dict[str, Timed | StepError]:
    """The latencies of models by id, each interleaved with the baseline; runs with the machine to itself.

    A model that the runtime does not run gets its error in place of its latencies; the others are timed all the same.
    """
    from rayopt.measure.latency import Rounds, interleave
    from rayopt.measure.machine import alone, machine
    from rayopt.models.onnx_model import session, signature

    key = "the baseline itself"
    rows = bench.data["selection"].x
    base = session(_made(baseline), bench.threads)
    sizes = usable_batch_sizes(timing.batch_sizes, signature(base).fixed_batch)
    calls: dict[str, dict[int, _Call]] = {key: _calls(base, rows, sizes)}
    found: dict[str, Timed | StepError] = {}
    for id, model in zip(ids, models, strict=True):
        try:
            calls[id] = _calls(session(_made(model), bench.threads), rows, sizes)
        except StepError as error:
            found[id] = error
    with alone():
        tables = [
            interleave({id: by_size[size] for id, by_size in calls.items()}, key, size, Rounds(seconds=timing.timing_s))
            for size in sizes
        ]
    return {id: found.get(id) or Timed(tuple(table[id] for table in tables), machine()) for id in ids}


def usable_batch_sizes(wanted: Sequence[int], fixed: int | None) -> tuple[int, ...]:
    """The batch sizes to time: those wanted, or the one that the model's file fixes."""
    return (fixed,) if fixed else tuple(wanted)


class _Call:
    """One call of a session on fixed inputs."""

    def __init__(self, running: Any, fed: Mapping[str, Any]) -> None:
        self._running, self._fed = running, dict(fed)

    def __call__(self) -> object:
        try:
            return self._running.run(None, self._fed)
        except Exception as error:
            raise StepError(f"ONNX Runtime does not run the model: {error}") from error


def _calls(running: Any, rows: Any, sizes: Sequence[int]) -> dict[int, _Call]:
    """A call for each batch size, each tried once; raises StepError where the model does not take the size."""
    from rayopt.data.rows import repeated
    from rayopt.models.onnx_model import signature

    takes = signature(running)
    calls = {}
    for size in sizes:
        calls[size] = _Call(running, takes.feed(repeated(rows, size)))
        calls[size]()
    return calls


def _made(model: Artifact | Made) -> Artifact:
    return model.artifact if isinstance(model, Made) else model
