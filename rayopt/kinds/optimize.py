"""The kind `optimize`: an accuracy budget in; the models worth having out, measured, with one recommended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from rayopt import plugins
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings, SplitSettings
from rayopt.errors import Fault, InputError, did_you_mean
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.records import Artifact, digest
from rayopt.spec import Document, Settings, validate
from rayopt.training.settings import FitSettings
from rayopt.tree import Chain, TreeReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rayopt.data.dataset import Dataset
    from rayopt.engine import Desk
    from rayopt.runs.cache import Cache
    from rayopt.study import Search, Study

T = TypeVar("T")
METRICS = ("auto", "accuracy", "log_loss", "r2", "rmse", "agreement", "cosine", "kl")
BY_TASK = {"classification": "accuracy", "regression": "r2"}
# An ONNX file is not trained here: more rows are left to choose by and to report on.
UNTRAINED_SPLIT = SplitSettings(test=0.3, selection=0.4, calibration=0.2)


class MeasureSettings(Settings):
    """How models are timed: batch sizes, threads, and about how many seconds each model and batch size may take."""

    batch_sizes: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field((1, 32), min_length=1, max_length=8)
    threads: int = Field(1, ge=1, le=1024)
    timing_s: float = Field(0.3, gt=0, le=600)


class LimitSettings(Settings):
    """What a step may take before it is ended: seconds, and bytes of memory (0: no limit)."""

    step_s: float = Field(3600, gt=0)
    step_bytes: int = Field(0, ge=0)


class BudgetSettings(Settings):
    """What the recipe `auto` may spend: how many chains it tries, and after how many minutes it proposes no more."""

    trials: int = Field(64, ge=1, le=10_000)
    minutes: float = Field(30, gt=0)


class Job(JobSettings):
    """The fields of an `optimize` job; `max_accuracy_drop` is in the metric's own unit (0.01: a point of accuracy).

    Without `steps` the recipe `auto` proposes what to try. Without labels the budget is on how close the outputs stay
    to the original's; without `data` only what provably keeps them is recommended. `target` says on which nodes models
    are timed: by Ray labels, or `resource: NAME`.
    """

    model: ModelSettings
    data: DataSettings | None = None
    train: FitSettings | None = None
    steps: list[Any] | None = Field(None, min_length=1)
    recipe: Literal["auto"] | None = None
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    max_accuracy_drop: float = Field(0.01, ge=0)
    budget_by: Literal["estimate", "likely", "bound"] = "likely"
    metric: str = "auto"
    objective: Literal["balanced", "size", "speed"] = "balanced"
    measure: MeasureSettings = Field(default_factory=MeasureSettings)
    keep: Literal["front", "all"] = "front"
    limits: LimitSettings = Field(default_factory=LimitSettings)
    target: dict[str, str] = Field({}, max_length=8)


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of model, data and steps that show without loading anything."""
    faults = model_settings.check(job.model, document)
    faults += data_settings.check(job.data, document) if job.data else []
    if job.data is None and job.model.onnx is None:
        faults.append(document.fault(("data",), "is missing", "add `data:`; only an ONNX file tells its own inputs"))
    if job.train is not None and job.model.onnx is not None:
        faults.append(
            document.fault(("train",), "an ONNX file cannot be trained", "leave `train:` out, or give a `factory:`")
        )
    if job.steps is not None and job.recipe is not None:
        faults.append(document.fault(("recipe",), "there are `steps:` as well", "leave one of them out"))
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


def prepare(job: Job, document: Document, cache: Cache) -> Study:
    """Loads data, model and metric; raises InputError with the faults of all three."""
    from rayopt.measure.metrics import find_metric
    from rayopt.study import Rules, Study
    from rayopt.tasks import Limits, sources
    from rayopt.work import Bench, Timing

    source = model_settings.source_of(job.model, document)
    faults: list[Fault] = []
    data = _collect(faults, lambda: _load_data(job, source, document, cache))
    if job.metric != "auto":
        _collect(faults, lambda: find_metric(job.metric, source.folder, document.place(("metric",))))
        faults += _metric_faults(job, data, document)
    if job.train is not None and data is not None and data.task == "unlabeled":
        faults.append(document.fault(("train",), "the data has no labels to train on", "name the `target:`"))
    model = _collect(faults, lambda: _load_model(source, job, data, cache))
    if faults or data is None or model is None:
        raise InputError(faults)
    metric = _metric_for(data, source, model[0], job.seed) if job.metric == "auto" else job.metric
    original, baseline, candidates, _ = _chains(job, document)
    chains = (baseline, *candidates)
    own = [job.model.factory, *([metric] if ":" in metric else []), *(name for chain in chains for name in chain.own)]
    code = sources({name for name in own if name}, source.folder).sha256
    bench = Bench(data, source, metric, job.seed, job.measure.threads, code)
    timing = Timing(job.measure.batch_sizes, job.measure.timing_s)
    rules = Rules(job.max_accuracy_drop, job.objective, job.keep, job.budget_by)
    search = _search(job, document, original) if job.steps is None else None
    limits = Limits(job.limits.step_s, job.limits.step_bytes, job.target)
    told = job.model_dump(mode="json")
    return Study(told, bench, *model, original, baseline, candidates, timing, rules, limits, search)


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
        chains = [] if job.steps is None else reader.chains(job.steps, ("steps",), original)
    candidates = tuple(chain for chain in chains if chain.last != baseline.last)
    if job.steps is not None and not reader.faults and not candidates:
        remedy = "name at least one step that changes the model"
        reader.faults.append(document.fault(("steps",), "leave only the baseline to try", remedy))
    return original, baseline, candidates, reader.faults


def _search(job: Job, document: Document, original: Chain) -> Search:
    """How the recipe's proposals become chains."""
    from rayopt.recipe.proposals import Budget
    from rayopt.study import Search

    def read(steps: Sequence[Any]) -> Chain:
        reader = TreeReader(document)
        (chain,) = reader.chains(list(steps), ("steps",), original)
        return chain

    return Search(Budget(job.budget.trials, job.budget.minutes), read, trainable=job.model.format == "torch")


def _load_data(job: Job, source: ModelSource, document: Document, cache: Cache) -> Dataset:
    from rayopt.data.remembered import load
    from rayopt.tasks import code_hash, versions

    if job.data is None:
        from rayopt.models.generated import generate

        return generate(_read_onnx(source, job), job.seed, document.place(("model", "onnx")))
    settings = job.data
    if job.model.onnx is not None and "split" not in settings.model_fields_set:
        settings = settings.model_copy(update={"split": UNTRAINED_SPLIT})
    context = digest([versions(), code_hash()])
    return load(settings, document.folder, job.seed, document.place(("data",)), cache, context)


def _metric_faults(job: Job, data: Dataset | None, document: Document) -> list[Fault]:
    """Whether a built-in metric is one for this data."""
    from rayopt.measure.metrics import BUILT_IN, BY_TASK

    if data is None or job.metric not in BUILT_IN or job.metric in BY_TASK[data.task]:
        return []
    remedy = did_you_mean(job.metric, [*BY_TASK[data.task], "package.module:function"])
    what = "data without labels" if data.task == "unlabeled" else data.task
    return [document.fault(("metric",), f"{job.metric} is no metric of {what}, which the data asks for", remedy)]


def _metric_for(data: Dataset, source: ModelSource, model: Artifact, seed: int) -> str:
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


def _read_onnx(source: ModelSource, job: Job) -> Artifact:
    from rayopt.models import onnx_model

    return onnx_model.read_file(source.path(str(job.model.onnx)), source.place("onnx"))


def _load_model(source: ModelSource, job: Job, data: Dataset | None, cache: Cache) -> tuple[Artifact, str]:
    if job.model.onnx is not None:
        from rayopt.models import onnx_model

        artifact = _read_onnx(source, job)
        if data is not None:
            onnx_model.check_fits(artifact, data["selection"].x[:2], data.output_shape, source.place("onnx"))
        return artifact, artifact.sha256
    from rayopt.models.remembered import load
    from rayopt.tasks import code_hash, versions

    about = [job.seed, None if data is None else data.sha256, versions(), code_hash()]
    return load(source, about, cache, lambda: _build_model(source, job, data))


def _build_model(source: ModelSource, job: Job, data: Dataset | None) -> tuple[Artifact, str]:
    from rayopt.models import torch_model

    if data is None:
        return torch_model.to_artifact(torch_model.build(source, job.seed)), ""
    example = data["train"].x[:2]
    module = torch_model.check(source, job.seed, example, data.output_shape)
    return torch_model.to_artifact(module), torch_model.fingerprint(source, module, example)
