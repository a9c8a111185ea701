"""A cell is one candidate on one fold; a batch is what all cells of a round share. Pure: the same in any process."""

from __future__ import annotations

import io
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayopt.errors import Fault, InputError
from rayopt.provenance import forget_own_modules
from rayopt.runs.hidden import redact
from rayopt.search.checks import TIMES
from rayopt.search.prefixes import PrefixMemory, group_of

Result = dict[str, Any]
OF_ONE_CELL = ("train", "test", "parameters", "split_progress", "candidate_progress", "caller", "callback_ctx")
SCORE_ERROR = "score_error"  # of a result: what scikit-learn's own results do not have
SCORING_FAILED = "Scoring failed"
SMALL_BYTES = 1 << 20
OWN_PACKAGES = {"sklearn", "numpy", "scipy", "builtins", "functools", "copyreg", "collections", "math"}


@dataclass(frozen=True)
class Cell:
    """Parameters (by the number of their candidate) to be evaluated on a fold; `index` is the place in the round."""

    index: int
    candidate: int
    fold: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Own:
    """Where the modules of a user's own lie, and a hash of them: a process that imported others reads them again."""

    folder: str = ""
    code: str = ""

    def make_importable(self) -> None:
        if self.folder and self.folder not in sys.path:
            sys.path.insert(0, self.folder)
        if _last["code"] not in ("", self.code):
            forget_own_modules()
        _last["code"] = self.code


_last = {"code": ""}


@dataclass(frozen=True)
class Batch:
    """What the cells of one round share. `settings` are the arguments that scikit-learn's evaluation takes.

    x, y: what scikit-learn was given; splits: (train rows, test rows) by fold; config: scikit-learn's configuration.
    """

    estimator: Any
    x: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    share_prefixes: bool = True
    own: Own = field(default_factory=Own)

    @property
    def error_score(self) -> Any:
        return self.settings["error_score"]

    def __getstate__(self) -> dict[str, Any]:
        """Arrays as they are, so that they may be shared; what is made of classes as bytes, read after `own` is set."""
        state = dict(vars(self))
        made = dump((state.pop("estimator"), state.pop("settings")))
        return {**state, "made": made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["own"].make_importable()
        estimator, settings = pickle.loads(state.pop("made"))  # noqa: S301 - of the driver's making
        vars(self).update(state, estimator=estimator, settings=settings)


@dataclass(frozen=True)
class Broken:
    """The evaluation raised, which ends the search: only with `error_score="raise"` does a fit that fails do so."""

    error: BaseException


def read(
    calls: Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]],
    share: bool,
    own: Own,
    known: Callable[[Batch], None] = lambda batch: None,
) -> tuple[Batch | None, list[Cell]]:
    """A round as scikit-learn hands it out, a call of `_fit_and_score` for each cell, as a batch and its cells.

    `known` is told of the batch as soon as all splits were seen: scikit-learn clones the estimator for every call.
    """
    from sklearn import get_config

    cells: list[Cell] = []
    splits: dict[int, tuple[Any, Any]] = {}
    batch: Batch | None = None
    for _, (estimator, x, y), words in calls:
        (fold, count), candidate = words["split_progress"], words["candidate_progress"][0]
        cells.append(Cell(len(cells), candidate, fold, words["parameters"]))
        if batch is None:
            splits[fold] = words["train"], words["test"]
            if len(splits) == count:
                settings = {name: value for name, value in words.items() if name not in OF_ONE_CELL}
                rows = [splits[one] for one in range(count)]
                batch = Batch(estimator, x, y, rows, settings, get_config(), share, own)
                known(batch)
    return batch, cells


class Evaluator:
    """Evaluates cells of one batch in this process; the fitted prefixes of pipelines stay with it."""

    def __init__(self, batch: Batch) -> None:
        from sklearn import config_context
        from sklearn.base import clone
        from sklearn.model_selection._validation import _fit_and_score

        self._batch = batch
        self._content = _content(clone(batch.estimator))
        self._memory = PrefixMemory() if batch.share_prefixes and group_of(batch.estimator) else None
        self._clone, self._context, self._fit_and_score = clone, config_context, _fit_and_score

    def __call__(self, cell: Cell) -> Result | Broken:
        batch = self._batch
        estimator = pickle.loads(self._content) if self._content else self._clone(batch.estimator)  # noqa: S301 - ours
        if self._memory is not None:
            self._memory.start(cell.fold)
            estimator.memory = self._memory
        train, test = batch.splits[cell.fold]
        try:
            with self._context(**batch.config), warnings.catch_warnings(record=True) as said:
                result: Result = self._fit_and_score(
                    estimator,
                    batch.x,
                    batch.y,
                    train=train,
                    test=test,
                    parameters=cell.parameters,
                    split_progress=(cell.fold, len(batch.splits)),
                    **batch.settings,
                )
        except Exception as error:  # noqa: BLE001 - it is raised where scikit-learn would have raised it
            return Broken(error)
        return {**result, **_fit_errors(result), **_scoring_errors(said)}


def _content(estimator: Any) -> bytes:
    """An estimator as bytes, read much sooner than it is cloned; empty where that might not be the same: classes that
    are not scikit-learn's may pickle as they like, and what clones share may be large."""
    try:
        content = pickle.dumps(estimator, protocol=pickle.HIGHEST_PROTOCOL)
        reader = _Reader(io.BytesIO(content))
        reader.load()
    except Exception:  # noqa: BLE001 - any class may fail in its own way
        return b""
    return content if reader.packages <= OWN_PACKAGES and len(content) < SMALL_BYTES else b""


def _fit_errors(result: Result) -> dict[str, str]:
    """Why a fit failed, without secrets: it goes into results that are kept."""
    return {"fit_error": redact(result["fit_error"])} if result.get("fit_error") else {}


def _scoring_errors(said: Iterable[warnings.WarningMessage]) -> dict[str, str]:
    """Why a scorer gave no score, which scikit-learn only warns of; all warnings go where they would have gone."""
    found: dict[str, str] = {}
    for one in said:
        text = str(one.message)
        if text.startswith(SCORING_FAILED):
            found = {SCORE_ERROR: redact(text)}
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return found


def scikit_learns(result: Result) -> Result:
    """A result without what scikit-learn does not know: it takes all results to have the same parts."""
    return {name: value for name, value in result.items() if name != SCORE_ERROR}


def quantity(result: Result, name: str) -> float:
    """The score of that name, the only one, or seconds; NaN where there is none."""
    if name in TIMES:
        return float(result[name])
    scores = result["test_scores"]
    return float(scores.get(name, math.nan) if isinstance(scores, Mapping) else scores)


def mean(values: Iterable[float]) -> float:
    """As scikit-learn has it over the folds: infinite where the sum is more than a number can be."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(list(values)))


def error_of(result: Result) -> str:
    """Why a fit or a score failed in one line, the first of what was raised; empty where none did."""
    text = str(result.get("fit_error") or result.get(SCORE_ERROR) or "")
    lines = text.rpartition("Traceback (most recent call last):")[2].splitlines()
    return next((line.strip() for line in lines if line.strip() and not line.startswith(" ")), "")


def without_score(batch: Batch, cell: Cell, reason: str, seconds: float) -> Result:
    """The result of a cell that gave none, as scikit-learn has it for a fit that raised."""
    from sklearn.metrics._scorer import _MultimetricScorer

    scorer, value = batch.settings["scorer"], batch.error_score
    scores = dict.fromkeys(scorer._scorers, value) if isinstance(scorer, _MultimetricScorer) else value
    result = {"fit_error": reason, "test_scores": scores, "fit_time": seconds, "score_time": 0.0}
    if batch.settings.get("return_train_score"):
        result["train_scores"] = dict(scores) if isinstance(scores, dict) else scores
    return {**result, "n_test_samples": len(batch.splits[cell.fold][1])}


def check_travels(batch: Batch, cells: Sequence[Cell]) -> bool:
    """Raises InputError naming what cannot be sent to another process; tells whether all of it is scikit-learn's.

    What is others' may hang or end the process that runs it.
    """
    parts = {
        "the estimator": batch.estimator,
        "the scorer": batch.settings.get("scorer"),
        "the fit parameters": (batch.settings.get("fit_params"), batch.settings.get("score_params")),
        "the grid": [cell.parameters for cell in cells if cell.fold == 0],
        "X": None if _are_numbers(batch.x) else batch.x,
        "y": None if _are_numbers(batch.y) else batch.y,
    }
    faults: list[Fault] = []
    packages: set[str] = set()
    for name, part in parts.items():
        try:
            reader = _Reader(io.BytesIO(dump(part)))
            reader.load()
            packages |= reader.packages
        except Exception as error:  # noqa: BLE001 - any class may fail in its own way
            problem = redact(f"cannot be sent to another process: {type(error).__name__}: {error}")
            if problem not in [one.problem for one in faults]:  # a scorer may hold the estimator
                faults.append(Fault(name, problem, "keep locks, open files and connections out of it"))
    if faults:
        raise InputError(faults)
    return packages <= OWN_PACKAGES


def _are_numbers(array: Any) -> bool:
    """Arrays of numbers travel for certain, and may be too large to be written twice."""
    kinds = getattr(array, "dtypes", getattr(array, "dtype", None))  # of a table, or of an array
    many = kinds if isinstance(kinds, Iterable) else [kinds]
    return kinds is not None and all(getattr(one, "kind", "O") in "biuf" for one in many)


def dump(value: Any) -> bytes:
    """A value as bytes for another process; classes and functions of the user's own script travel along."""
    import cloudpickle

    return bytes(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


class _Reader(pickle.Unpickler):
    """Notes from which packages the classes and functions of a value are."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.packages: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.packages.add(module.partition(".")[0])
        return super().find_class(module, name)
