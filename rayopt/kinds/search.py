"""The kind `search`: an estimator and a grid or space in; the best parameters out, with scikit-learn's answers.

Or another job and a space over its fields in (`rayopt.searching.inner`); the fields out with which it comes out best.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from rayopt import plugins
from rayopt.data import settings as data_settings
from rayopt.data.settings import DataSettings
from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.kinds import JobSettings, read_job
from rayopt.search import checks, recipe
from rayopt.search.goals import Bound, Goal
from rayopt.search.recipe import Part, Recipe
from rayopt.search.rungs import EarlyStop
from rayopt.search.stopping import Stop
from rayopt.searching import inner
from rayopt.spec import Document, Settings, validate

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.runs.cache import Cache
    from rayopt.searching.jobs import JobSearch
    from rayopt.searching.search import Search

OWN_STRATEGIES = ("grid", "halving", "random")
CONFIRM = "make it smaller, use `strategy: random`, or confirm it: --set confirm_large=true"


class Data(DataSettings):
    """Features as scikit-learn has them from pandas; float32 is what models in files compute with."""

    dtype: Literal["float64", "float32", "int64"] = "float64"  # type: ignore[assignment]  # wider, and never set


class HalvingSettings(Settings):
    """As HalvingGridSearchCV takes them: each round leaves one of `factor` candidates and has as many times more of
    `resource`, which is rows (`n_samples`) or a parameter."""

    factor: int = Field(3, ge=2)
    resource: str = "n_samples"
    min_resources: int | Literal["exhaust", "smallest"] = "exhaust"
    max_resources: int | Literal["auto"] = "auto"
    aggressive_elimination: bool = False


class Job(JobSettings):
    """The fields of a `search` job: either an `estimator` with `data`, or a `job`.

    `grid` is for `grid`, `halving` and `random` (n_trials points drawn from its lists), `space` for all other
    strategies. `groups` and `sample_weight` name columns of the data: for the splitter, and for the fits. All rows
    of the data take part in `cv`, but for the share `test`, which grades the best one once. `job` is a job file or
    a job: the space is over its dotted fields, `objective` a dotted name of its summary. Of an estimator `objective`
    and `constraints` name metrics of `scoring`, `fit_time` and `score_time` (seconds of a fold).
    """

    estimator: Recipe | None = None
    data: Data | None = None
    job: str | dict[str, Any] | None = None
    objective: str | Annotated[list[Goal], Field(min_length=1, max_length=8)] | None = None
    direction: Literal["max", "min"] = "max"
    constraints: dict[str, Bound] = Field({})
    early_stop: EarlyStop | None = None
    stop: Stop = Stop()
    warm_start: str | None = None
    grid: dict[str, Any] | list[dict[str, Any]] | None = None
    space: dict[str, Any] | None = None
    strategy: str = "grid"
    options: dict[str, Any] = Field({})
    halving: HalvingSettings = HalvingSettings()
    n_trials: int = Field(20, ge=1, le=1_000_000)
    parallel: int = Field(1, ge=1, le=1024)
    cv: int | Part = 5
    groups: str | None = None
    sample_weight: str | None = None
    scoring: str | list[str] | None = None
    refit: bool | str = True
    error_score: float | Literal["nan", "raise"] = "nan"
    return_train_score: bool = False
    test: float = Field(0, ge=0, lt=0.9)
    deadline_s: float | None = Field(None, gt=0)
    share_prefixes: bool = True
    confirm_large: bool = False

    @property
    def parts(self) -> Recipe:
        """The estimator, where the search is of one."""
        return self.estimator or []

    @property
    def rows(self) -> Data:
        """The data of the estimator, where the search is of one."""
        assert self.data is not None  # noqa: S101 - `check` has asked
        return self.data

    @model_validator(mode="before")
    @classmethod
    def _strategy_of_jobs(cls, given: Any) -> Any:
        """A job has no grid: its fields are searched by `bayes` where nothing else is said."""
        return {"strategy": "bayes", **given} if isinstance(given, dict) and "job" in given else given


def check(job: Job, document: Document) -> list[Fault]:
    """Faults of estimator, data, grid and strategy that show without importing or loading anything."""
    faults = inner.faults_of_fields(job, document)
    if faults:
        return faults
    if job.job is not None:
        return inner.check(job, document, read_job)
    faults = recipe.check(job.parts, document, ("estimator",)) + data_settings.check(job.rows, document)
    faults += _strategy_faults(job, document) + _aim_faults(job, document)
    if job.grid is not None:
        confirmed = job.confirm_large or job.strategy == "random"
        faults += checks.check_grid(job.grid, document.place(("grid",)), confirmed, CONFIRM)
    if job.space is not None and not faults:
        faults += _space_faults(job, document)
    if isinstance(job.cv, int) and job.cv < 2:
        faults.append(document.fault(("cv",), f"{job.cv} folds are too few", "give at least 2"))
    if job.scoring == []:
        faults.append(document.fault(("scoring",), "names no metric", "name one, or leave it out"))
    if isinstance(job.scoring, list) and len(job.scoring) > 1 and job.refit is True and job.objective is None:
        remedy = f"add `objective:` or `refit:` with one of {', '.join(job.scoring)}, or `refit: false`"
        faults.append(document.fault(("refit",), "does not say which of several metrics decides", remedy))
    return faults


def _aim_faults(job: Job, document: Document) -> list[Fault]:
    """Whether objectives and bounds are of what is measured, and can be kept."""
    goals = [] if job.objective is None else [job.objective] if isinstance(job.objective, str) else job.objective
    names = [(("objective",), goal if isinstance(goal, str) else goal.metric) for goal in goals]
    names += [(("constraints",), name) for name in job.constraints]
    known = [*checks.metric_names(job.scoring), *checks.TIMES]
    faults = [
        document.fault(place, f"{name!r} is not measured", f"{did_you_mean(name, known)}; add metrics to `scoring:`")
        for place, name in names
        if name not in known
    ]
    if (goals or job.constraints) and job.strategy == "halving":
        faults.append(
            document.fault(("strategy",), "`halving` decides by one score", "take `grid`, `random` or `bayes`")
        )
    if goals and isinstance(job.refit, str):
        faults.append(document.fault(("refit",), "names a metric beside `objective:`", "leave it out"))
    return faults + inner.bound_faults(job, document) + inner.direction_faults(job, document)


def _strategy_faults(job: Job, document: Document) -> list[Fault]:
    """Whether there is such a strategy, and what it searches."""
    faults: list[Fault] = []
    is_own = job.strategy in OWN_STRATEGIES and (job.strategy != "random" or job.space is None)
    if not is_own:
        try:
            with plugins.importable(document.folder):
                plugins.load("rayopt.strategies", job.strategy, document.place(("strategy",)), ("Options", "propose"))
        except (InputError, ModuleNotFoundError):
            known = sorted({*OWN_STRATEGIES, *_strategies()})
            problem = f"unknown strategy {job.strategy!r}"
            return [document.fault(("strategy",), problem, did_you_mean(job.strategy, known))]
    wanted, other = ("grid", "space") if is_own else ("space", "grid")
    if getattr(job, wanted) is None:
        faults.append(document.fault((), f"names no `{wanted}:`", f"the strategy {job.strategy!r} searches one"))
    if getattr(job, other) is not None:
        problem = f"is not searched by the strategy {job.strategy!r}"
        faults.append(document.fault((other,), problem, f"write `{wanted}:`, or take another strategy"))
    return faults


def _space_faults(job: Job, document: Document) -> list[Fault]:
    """What is wrong with the space, and with the strategy's own options."""
    from rayopt import strategies
    from rayopt.search.space import Space

    faults: list[Fault] = []
    with plugins.importable(document.folder):
        strategy = strategies.find(job.strategy, document.place(("strategy",)))
    try:
        Space.from_settings(job.space or {}, lambda at: document.place(("space", *at)))
    except InputError as error:
        faults += error.faults
    faults += inner.aim_faults(job, strategy, document.place(("strategy",)))
    return faults + validate(strategy.Options, job.options, document, ("options",))[1]


def _strategies() -> list[str]:
    try:
        return plugins.names("rayopt.strategies")
    except ModuleNotFoundError:
        return []


def prepare(job: Job, document: Document, cache: Cache) -> Search | JobSearch:
    """Makes the estimator and loads the data, or what the searched job names; raises InputError with all faults."""
    if job.job is not None:
        from rayopt.searching.jobs import prepare as prepare_jobs

        return prepare_jobs(job, document, cache, read_job)
    from rayopt.data.sources import arrays
    from rayopt.search.rows import Rows, check_folds, check_rows, check_use, rows_of
    from rayopt.search.space import Space
    from rayopt.search.warmth import warmed
    from rayopt.searching.search import Search
    from rayopt.tasks import sources

    faults: list[Fault] = []
    place = document.place
    estimator = cv = scoring = data = None
    rows = Rows()
    try:
        estimator = recipe.build(job.parts, document, ("estimator",), job.seed)
        faults += checks.check_names(estimator, job.grid or job.space, place(("grid" if job.grid else "space",)))
        if job.strategy == "halving":
            faults += checks.check_resource(estimator, job.halving.resource, place(("halving", "resource")))
    except InputError as error:
        faults += error.faults
    try:
        settings, rows = rows_of(job, document)
        data = arrays(settings, document.folder, place(("data",)))
        faults += checks.check_data(*data, place(("data",))) + check_rows(rows, len(data[0]), document)
    except InputError as error:
        faults += error.faults
    try:
        cv, scoring = _splitter(job, document), _scoring(job, document)
    except InputError as error:
        faults += error.faults
    if not faults:
        faults += check_use(rows, estimator, cv, document)
    if faults or data is None:
        raise InputError(faults)
    names = [part.use for part in recipe.parts_of(job.parts)]
    names += [name for name in _scorer_names(job) if ":" in name]
    names += [job.cv.use] if isinstance(job.cv, Part) else []
    code = sources([name for name in names if not name.startswith("sklearn.")], str(document.folder)).sha256
    search = Search(job.model_dump(mode="json"), estimator, *data, cv, scoring, code, str(document.folder), rows)
    if isinstance(job.cv, int):
        checks.raise_if(check_folds(job.cv, estimator, search.y[search.split()[0]], document))
    if job.space is None:
        return search
    space = Space.from_settings(job.space)
    return replace(
        search, warm=warmed(job.warm_start, document.folder, space, search.aim.about(), place(("warm_start",)))
    )


def run(search: Search | JobSearch, desk: Desk) -> dict[str, Any]:
    """Searches and returns the summary; raises WorkError when no candidate could be scored."""
    from rayopt.searching.jobs import JobSearch, Trials
    from rayopt.searching.run import Searching

    if isinstance(search, JobSearch):
        return Trials(search, desk).run()

    return Searching(search, desk).run()


def _splitter(job: Job, document: Document) -> Any:
    if isinstance(job.cv, int):
        return job.cv
    with plugins.importable(document.folder):
        splitter = recipe.make(job.cv, document.place(("cv",)))
    if not hasattr(splitter, "split") or not hasattr(splitter, "get_n_splits"):
        remedy = "name a splitter, such as sklearn.model_selection:StratifiedKFold"
        raise input_error(document.place(("cv",)), f"{job.cv.use} gives no splitter", remedy)
    return splitter


def _scorer_names(job: Job) -> list[str]:
    return [job.scoring] if isinstance(job.scoring, str) else list(job.scoring or ())


def _scoring(job: Job, document: Document) -> Any:
    """What scikit-learn takes for `scoring`: names of its own, or a user's `package.module:function`s."""
    from sklearn.metrics import get_scorer_names

    faults, found = [], {}
    for name in _scorer_names(job):
        if ":" in name:
            with plugins.importable(document.folder):
                found[name.rpartition(":")[2]] = plugins.locate(name, document.place(("scoring",)))
        elif name in get_scorer_names():
            found[name] = name
        else:
            remedy = did_you_mean(name, [*get_scorer_names(), "package.module:function"])
            faults.append(document.fault(("scoring",), f"unknown metric {name!r}", remedy))
    if isinstance(job.refit, str) and job.refit not in found:
        remedy = did_you_mean(job.refit, list(found))
        faults.append(document.fault(("refit",), f"{job.refit!r} is no metric of the job", remedy))
    if faults:
        raise InputError(faults)
    return found if isinstance(job.scoring, list) else next(iter(found.values()), None)
