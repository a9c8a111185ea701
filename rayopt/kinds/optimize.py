"""The kind `optimize`: an accuracy budget in; the models worth having out, measured, with one recommended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from rayopt import plugins
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.records import Artifact
from rayopt.spec import Document, Settings, validate
from rayopt.training.settings import FitSettings
from rayopt.tree import Chain, TreeReader

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.results import Study

T = TypeVar("T")
METRICS = ("auto", "accuracy", "log_loss", "r2", "rmse")
BY_TASK = {"classification": "accuracy", "regression": "r2"}


class MeasureSettings(Settings):
    """How models are timed: batch sizes, threads, and about how many seconds each model and batch size may take."""

    batch_sizes: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field((1, 32), min_length=1, max_length=8)
    threads: int = Field(1, ge=1, le=1024)
    timing_s: float = Field(0.3, gt=0, le=600)


class Job(JobSettings):
    """The fields of an `optimize` job; `max_accuracy_drop` is in the metric's own unit (0.01: a point of accuracy)."""

    model: ModelSettings
    data: DataSettings
    train: FitSettings | None = None
    steps: list[Any] = Field(min_length=1)
    max_accuracy_drop: float = Field(0.01, ge=0)
    metric: str = "auto"
    objective: Literal["balanced", "size", "speed"] = "balanced"
    measure: MeasureSettings = Field(default_factory=MeasureSettings)
    keep: Literal["front", "all"] = "front"


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of model, data and steps that show without loading anything."""
    faults = model_settings.check(job.model, document)
    faults += data_settings.check(job.data, document)
    if job.train is not None and job.model.onnx is not None:
        faults.append(
            document.fault(("train",), "an ONNX file cannot be trained", "leave `train:` out, or give a `factory:`")
        )
    if job.metric not in METRICS and ":" not in job.metric:
        remedy = did_you_mean(job.metric, [*METRICS, "package.module:function"])
        faults.append(document.fault(("metric",), f"unknown metric {job.metric!r}", remedy))
    faults += _chains(job, document)[3]
    return faults


def check_parts(document: Document) -> list[Fault]:
    """Faults of model, data and steps, each if it can be read, for a job some of whose other fields are wrong."""
    faults: list[Fault] = []
    model, _ = validate(ModelSettings, document.data.get("model"), document)
    data, _ = validate(DataSettings, document.data.get("data"), document)
    faults += model_settings.check(model, document) if model else []
    faults += data_settings.check(data, document) if data else []
    steps = document.data.get("steps")
    if isinstance(steps, list) and steps:
        reader = TreeReader(document)
        with plugins.importable(document.folder):
            reader.chains(steps, ("steps",), Chain(format=model.format if model else "torch"))
        # Without the model nothing is known of what it may be used for.
        faults += [one for one in reader.faults if model or "but the chain holds" not in one.problem]
    return faults


def prepare(job: Job, document: Document) -> Study:
    """Loads data, model and metric; raises InputError with the faults of all three."""
    from rayopt.results import Rules, Study
    from rayopt.tasks import sources
    from rayopt.work import Bench, Timing, find_metric

    source = model_settings.source_of(job.model, document)
    faults: list[Fault] = []
    data = _collect(faults, lambda: _load_data(job, document))
    if job.metric != "auto":
        _collect(faults, lambda: find_metric(job.metric, source.folder, document.place(("metric",))))
        faults += _metric_faults(job, data, document)
    model = _collect(faults, lambda: _load_model(source, job, data))
    if faults or data is None or model is None:
        raise InputError(faults)
    metric = BY_TASK[data.task] if job.metric == "auto" else job.metric
    original, baseline, candidates, _ = _chains(job, document)
    chains = (baseline, *candidates)
    own = [job.model.factory, *([metric] if ":" in metric else []), *(name for chain in chains for name in chain.own)]
    code = sources({name for name in own if name}, source.folder).sha256
    bench = Bench(data, source, metric, job.seed, job.measure.threads, code)
    timing = Timing(job.measure.batch_sizes, job.measure.timing_s)
    rules = Rules(job.max_accuracy_drop, job.objective, job.keep)
    return Study(job.model_dump(mode="json"), bench, *model, original, baseline, candidates, timing, rules)


def run(study: Study, desk: Desk) -> dict[str, Any]:
    """Tries every chain, measures what comes out, and returns the summary; raises WorkError without a baseline."""
    from rayopt.optimization import Optimization

    return Optimization(study, desk).run()


def _collect(faults: list[Fault], load: Callable[[], T]) -> T | None:
    try:
        return load()
    except InputError as error:
        faults += error.faults
        return None


def _chains(job: Job, document: Document) -> tuple[Chain, Chain, tuple[Chain, ...], list[Fault]]:
    """The original (the job's model, trained where it says so), the baseline, and the candidates."""
    reader = TreeReader(document)
    original = Chain(format=job.model.format)
    with plugins.importable(document.folder):
        if job.train is not None and job.model.format == "torch":
            original = reader.extend(original, "train", job.train.model_dump(exclude_unset=True), ("train",))
        baseline = original if original.format == "onnx" else reader.extend(original, "export_onnx", {}, ("steps",))
        chains = reader.chains(job.steps, ("steps",), original)
    candidates = tuple(chain for chain in chains if chain.last != baseline.last)
    if not reader.faults and not candidates:
        remedy = "name at least one step that changes the model"
        reader.faults.append(document.fault(("steps",), "leave only the baseline to try", remedy))
    return original, baseline, candidates, reader.faults


def _load_data(job: Job, document: Document) -> Any:
    from rayopt.data.sources import load

    return load(job.data, document.folder, job.seed, document.place(("data",)))


def _metric_faults(job: Job, data: Any, document: Document) -> list[Fault]:
    """Whether a built-in metric is one for this data."""
    from rayopt.measure.metrics import BUILT_IN, BY_TASK

    if data is None or job.metric not in BUILT_IN or job.metric in BY_TASK[data.task]:
        return []
    remedy = did_you_mean(job.metric, [*BY_TASK[data.task], "package.module:function"])
    return [document.fault(("metric",), f"{job.metric} is no metric of {data.task}, which the data asks for", remedy)]


def _load_model(source: ModelSource, job: Job, data: Any) -> tuple[Artifact, str]:
    if job.model.onnx is not None:
        from rayopt.models import onnx_model

        place = source.place("onnx")
        artifact = onnx_model.read_file(source.path(job.model.onnx), place)
        if data is not None:
            onnx_model.check_fits(artifact, data["selection"].x[:2], data.outputs_count, place)
        return artifact, artifact.sha256
    from rayopt.models import torch_model

    if data is None:
        return torch_model.to_artifact(torch_model.build(source, job.seed)), ""
    example = data["train"].x[:2]
    module = torch_model.check(source, job.seed, example, data.outputs_count)
    return torch_model.to_artifact(module), torch_model.fingerprint(source, module, example)
