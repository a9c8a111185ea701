"""What a job is about: its model, data and metric, checked, loaded, and held against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rayopt.data.settings import DataSettings, SplitSettings
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.records import Artifact, digest
from rayopt.spec import Document

if TYPE_CHECKING:
    from rayopt.data.dataset import Dataset
    from rayopt.runs.cache import Cache
    from rayopt.work import Bench

T = TypeVar("T")
METRICS = ("auto", "accuracy", "log_loss", "r2", "rmse", "agreement", "cosine", "kl")
BY_TASK = {"classification": "accuracy", "regression": "r2"}
# An ONNX file is not trained here: more rows are left to choose by and to report on.
UNTRAINED_SPLIT = SplitSettings(test=0.3, selection=0.4, calibration=0.2)


def collect(faults: list[Fault], load: Callable[[], T]) -> T | None:
    """What `load` gives, or None and its faults."""
    try:
        return load()
    except InputError as error:
        faults += error.faults
        return None


def check_metric(metric: str, document: Document) -> list[Fault]:
    """Whether a metric's name can be one, without importing anything."""
    if metric in METRICS or ":" in metric:
        return []
    remedy = did_you_mean(metric, [*METRICS, "package.module:function"])
    return [document.fault(("metric",), f"unknown metric {metric!r}", remedy)]


def load_bench(
    model: ModelSettings, data: DataSettings, metric: str, seed: int, document: Document, cache: Cache
) -> tuple[Bench, Artifact, str]:
    """A torch model with labelled data: what all work on it shares, the model, and its fingerprint.

    Raises InputError with the faults of all.
    """
    from rayopt.tasks import sources
    from rayopt.work import Bench

    source = model_settings.source_of(model, document)
    faults: list[Fault] = []
    loaded = collect(faults, lambda: load_data(data, source, seed, document, cache))
    faults += metric_faults(metric, source, loaded, document)
    if loaded is not None and loaded.task == "unlabeled":
        faults.append(document.fault(("data",), "the data has no labels to train on", "name the `target:`"))
    made = collect(faults, lambda: load_model(source, loaded, seed, cache))
    if faults or loaded is None or made is None:
        raise InputError(faults)
    name = metric_for(loaded, source, made[0], seed) if metric == "auto" else metric
    own = {one for one in (model.factory, name if ":" in name else None) if one}
    return Bench(loaded, source, name, seed, code=sources(own, source.folder).sha256), *made


def load_data(
    settings: DataSettings | None, source: ModelSource, seed: int, document: Document, cache: Cache
) -> Dataset:
    """The data of a job; rows that the ONNX model asks for where the job names none."""
    from rayopt.data.remembered import load
    from rayopt.tasks import code_hash, versions

    if settings is None:
        from rayopt.models.generated import generate

        return generate(_read_onnx(source), seed, document.place(("model", "onnx")))
    if source.settings.onnx is not None and "split" not in settings.model_fields_set:
        settings = settings.model_copy(update={"split": UNTRAINED_SPLIT})
    context = digest([versions(), code_hash()])
    return load(settings, document.folder, seed, document.place(("data",)), cache, context)


def load_model(source: ModelSource, data: Dataset | None, seed: int, cache: Cache) -> tuple[Artifact, str]:
    """The model of a job, once it has been seen to take the data, and its fingerprint."""
    if source.settings.onnx is not None:
        from rayopt.models import onnx_model

        artifact = _read_onnx(source)
        if data is not None:
            onnx_model.check_fits(artifact, data["selection"].x[:2], data.output_shape, source.place("onnx"))
        return artifact, artifact.sha256
    from rayopt.models.remembered import load
    from rayopt.tasks import code_hash, versions

    about = [seed, None if data is None else data.sha256, versions(), code_hash()]
    return load(source, about, cache, lambda: _build_model(source, data, seed))


def metric_faults(metric: str, source: ModelSource, data: Dataset | None, document: Document) -> list[Fault]:
    """Whether the metric is there, and a built-in one is for this data."""
    from rayopt.measure.metrics import BUILT_IN, BY_TASK, find_metric

    if metric == "auto":
        return []
    faults: list[Fault] = []
    collect(faults, lambda: find_metric(metric, source.folder, document.place(("metric",))))
    if data is None or metric not in BUILT_IN or metric in BY_TASK[data.task]:
        return faults
    remedy = did_you_mean(metric, [*BY_TASK[data.task], "package.module:function"])
    what = "data without labels" if data.task == "unlabeled" else data.task
    return [document.fault(("metric",), f"{metric} is no metric of {what}, which the data asks for", remedy)]


def metric_for(data: Dataset, source: ModelSource, model: Artifact, seed: int) -> str:
    """The metric where the job leaves it open: by the task, or by what the model's outputs look like."""
    from rayopt.measure.metrics import suited

    if data.task != "unlabeled":
        return BY_TASK[data.task]
    example = data["selection"].x[:8]
    if model.format == "onnx":
        from rayopt.models.onnx_model import predict, session

        return suited(predict(session(model), example))[0]
    from rayopt.models.torch_model import from_artifact, run

    return suited(run(from_artifact(model, source, seed), example))[0]


def _read_onnx(source: ModelSource) -> Artifact:
    from rayopt.models import onnx_model

    return onnx_model.read_file(source.path(str(source.settings.onnx)), source.place("onnx"))


def _build_model(source: ModelSource, data: Dataset | None, seed: int) -> tuple[Artifact, str]:
    from rayopt.models import torch_model

    if data is None:
        return torch_model.to_artifact(torch_model.build(source, seed)), ""
    example = data["train"].x[:2]
    module = torch_model.check(source, seed, example, data.output_shape)
    return torch_model.to_artifact(module), torch_model.fingerprint(source, module, example)
