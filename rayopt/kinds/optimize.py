"""The kind `optimize`: an accuracy budget in; the models worth having out, measured, with one recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from rayopt import plugins
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault, InputError
from rayopt.kinds import JobSettings
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings
from rayopt.spec import Document, Settings, validate
from rayopt.subject import check_metric, collect, load_data, load_model, metric_faults, metric_for
from rayopt.training.settings import FitSettings
from rayopt.tree import Chain, TreeReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rayopt.engine import Desk
    from rayopt.runs.cache import Cache
    from rayopt.study import Search, Study


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
    faults += check_metric(job.metric, document)
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
    from rayopt.study import Rules, Study
    from rayopt.tasks import Limits, sources
    from rayopt.work import Bench, Timing

    source = model_settings.source_of(job.model, document)
    faults: list[Fault] = []
    data = collect(faults, lambda: load_data(job.data, source, job.seed, document, cache))
    faults += metric_faults(job.metric, source, data, document)
    if job.train is not None and data is not None and data.task == "unlabeled":
        faults.append(document.fault(("train",), "the data has no labels to train on", "name the `target:`"))
    model = collect(faults, lambda: load_model(source, data, job.seed, cache))
    if faults or data is None or model is None:
        raise InputError(faults)
    metric = metric_for(data, source, model[0], job.seed) if job.metric == "auto" else job.metric
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
