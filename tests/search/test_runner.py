"""Child processes give the same answers as this one, and what hangs or dies there is told of and scored."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, PredefinedSplit
from sklearn.naive_bayes import GaussianNB

from rayopt.errors import InputError, WorkError
from rayopt.runs.cache import Cache
from rayopt.search import round, wrapped
from rayopt.search.cells import Batch, check_travels
from rayopt.search.crew import Crew, Event, Joined
from rayopt.search.hire import Hire, IsWanted, unwanted
from rayopt.search.ledger import Ledger
from rayopt.search.processes import Processes
from rayopt.search.runner import Means, Progress, Runner
from rayopt.search.store import CachedCells
from tests.search.estimators import Locked, Nearest

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
STRENGTHS = [0.5, 1.0, 2.0, 3.0]
FOLDS = [-1, 0] * 30


def children(deadline_s: float | None = None) -> Means:
    """Everything in two child processes, as if they were a Ray."""
    return Means(open_ray=lambda is_wanted: Processes(2), ray_runs=True, deadline_s=deadline_s, cpus=0)


def search(means: Means, model: Any = None, **options: Any) -> tuple[Any, Runner]:
    found = GridSearchCV(model or Nearest(), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS), **options)
    runner = Runner(means)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)
            wrapped.fit(found, runner, X, Y)
    finally:
        runner.close()
    return found, runner


def scores(found: Any) -> list[list[float]]:
    return [found.cv_results_[f"split{fold}_test_score"].tolist() for fold in range(found.n_splits_)]


def test_children_give_the_same_and_a_death_changes_nothing(tmp_path: Path) -> None:
    expected, _ = search(Means(in_process=True))
    fine, runner = search(children(), Nearest(how="die once", at=2.0, marks=str(tmp_path)))
    assert (tmp_path / "2.0").exists()
    assert scores(fine) == scores(expected)
    assert fine.best_params_ == expected.best_params_
    assert runner.evaluated == {"here": 0, "crews": 4, "cached": 0}


def test_one_that_always_ends_its_worker_is_scored_by_error_score() -> None:
    expected, _ = search(Means(in_process=True))
    found, _ = search(children(), Nearest(how="die", at=1.0), error_score=-1.0)
    for got, true in zip(scores(found), scores(expected), strict=True):
        assert got[1] == -1.0
        assert [got[0], *got[2:]] == [true[0], *true[2:]]


def test_one_that_hangs_is_ended_at_its_deadline() -> None:
    found, _ = search(children(deadline_s=1.0), Nearest(how="hang", at=3.0), error_score=0.0)
    assert [got[3] for got in scores(found)] == [0.0]
    assert found.best_params_ != {"strength": 3.0}


def test_what_took_too_long_is_not_waited_for_again(tmp_path: Path) -> None:
    """A result at the first look: a second wait would be told of as lost workers."""
    for late, known in (("a run", 0), ("a run", 4), ("another run", 3)):
        said = Notes()
        runner = Runner(children(deadline_s=1.0), CachedCells(Cache(tmp_path), "a context", late), said)
        found = GridSearchCV(
            Nearest(how="hang", at=3.0), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS), error_score=0.0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)
            wrapped.fit(found, runner, X, Y)
        runner.close()
        assert runner.evaluated["cached"] == known
        assert scores(found)[0][STRENGTHS.index(3.0)] == 0.0
        assert bool(said.notes[:-1]) == (known < 4)


def test_with_error_score_raise_the_reason_is_raised() -> None:
    with pytest.raises(WorkError, match=r"'strength': 0.5.* on fold .: its worker died twice: .*SIGKILL"):
        search(children(), Nearest(how="die", at=0.5), error_score="raise")


def test_rows_that_cannot_be_sent_are_named() -> None:
    rows = np.empty((len(X), 1), dtype=object)
    rows[:, 0] = [threading.Lock() for _ in X]
    settings: dict[str, Any] = {"error_score": 0.0}
    for x, y, named in ((rows, Y, "X: cannot be sent to another process"), (X, list(rows[:, 0]), "y: cannot be sent")):
        with pytest.raises(InputError, match=named):
            check_travels(Batch(Nearest(), x, y, [], settings, {}), [])


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (Locked(), {}, "the estimator: cannot be sent to another process: TypeError: cannot pickle"),
        (Nearest(), {"scoring": Locked().lock.acquire}, "the scorer: cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_named(model: Any, options: Any, named: str) -> None:
    with pytest.raises(InputError) as caught:
        search(children(), model, **options)
    assert named in str(caught.value)


class Noted(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, bool]] = []
        self.count = 0

    def round_read(self, cells: Any) -> None:
        self.count += len(cells)

    def cell_ended(self, cell: Any, result: Any, cached: bool, left_s: float | None) -> None:
        self.ended.append((cell.index, cached))


def test_no_finished_cell_is_evaluated_again(tmp_path: Path) -> None:
    store = CachedCells(Cache(tmp_path), "a context")
    expected = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1, 1.0]}, cv=3).fit(X, Y)
    stopped = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1, 1.0]}, cv=3)

    class Stop(Progress):
        left = 4

        def cell_ended(self, cell: Any, result: Any, cached: bool, left_s: float | None) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wrapped.fit(stopped, Runner(Means(in_process=True), store, Stop()), X, Y)
    again = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1, 1.0]}, cv=3)
    noted = Noted()
    runner = Runner(Means(in_process=True), store, noted)
    wrapped.fit(again, runner, X, Y)
    assert runner.evaluated == {"here": 5, "crews": 0, "cached": 4}
    assert noted.count == len(noted.ended) == 9
    assert scores(again) == scores(expected)
    wider = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-3, 1e-9, 0.1, 1.0]}, cv=3)
    runner = Runner(Means(in_process=True), store)
    wrapped.fit(wider, runner, X, Y)
    assert runner.evaluated["cached"] == 9, "another grid has these cells too"
    other = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, cv=4)
    runner = Runner(Means(in_process=True), store)
    wrapped.fit(other, runner, X, Y)
    assert runner.evaluated["cached"] == 0, "other folds"


class Notes(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("is_called", [True, False])
def test_what_is_finished_before_ray_is_there_says_so(is_called: bool) -> None:
    def open_ray(is_wanted: IsWanted) -> Crew:
        while is_wanted():
            threading.Event().wait(0.01)
        raise unwanted()

    said = Notes()
    runner = Runner(Means(open_ray, ray_runs=is_called, cpus=1), None, said)
    wrapped.fit(GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, cv=2), runner, X, Y)
    runner.close()
    why = "finished before Ray was there" if is_called else "Ray was not called: it would have taken longer to start"
    assert said.notes == [f"evaluated: 4 in this process; {why}"]


def test_no_call_outlives_the_search() -> None:
    """Whoever comes late is sent home by the thread that has called them, and that thread is waited for."""
    came, left = threading.Event(), threading.Event()

    class Late(Processes):
        def close(self) -> None:
            super().close()
            left.set()

    def open_ray(is_wanted: IsWanted) -> Crew:
        came.wait(300)
        return Late(1)

    class Said(Notes):
        def note(self, text: str) -> None:
            came.set()  # the search is over, and closing

    runner = Runner(Means(open_ray, ray_runs=True, cpus=1), None, Said())
    wrapped.fit(GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, cv=2), runner, X, Y)
    runner.close()
    assert left.is_set()


def test_a_call_that_does_not_end_is_not_waited_for_for_ever() -> None:
    hire = Hire(lambda is_wanted: threading.Event().wait(600))  # type: ignore[arg-type, return-value]
    hire.close()
    assert not hire.wait(0.01)


class Absent:
    """A crew whose workers never come, as those of a Ray without room."""

    name = "nobody"

    def start(self, number: int, batch: Any, deadline_s: float | None) -> None: ...

    def assign(self, worker: str, number: int, cells: Any) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]:
        threading.Event().wait(timeout_s)
        return []

    def finish(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("deadline_s", [None, 600.0])
def test_a_ray_without_room_keeps_no_search_waiting(deadline_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round, "ROOM_S", 0.0)
    said = Notes()
    runner = Runner(Means(lambda is_wanted: Absent(), ray_runs=True, deadline_s=deadline_s, cpus=2), None, said)
    wrapped.fit(GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS)), runner, X, Y)
    runner.close()
    assert runner.by == {"2 processes of this machine": 4}
    assert said.notes[0].endswith("it may have no room for one; the search goes on without it until then")


def test_a_search_on_ray_alone_says_that_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round, "ROOM_S", 0.0)

    class Said(Notes):
        def note(self, text: str) -> None:
            raise KeyboardInterrupt(text)

    runner = Runner(Means(lambda is_wanted: Absent(), ray_runs=True, ray_alone=True, cpus=2), None, Said())
    with pytest.raises(KeyboardInterrupt, match="no room for one; the search waits for it"):
        wrapped.fit(GridSearchCV(GaussianNB(), {"var_smoothing": [0.1]}, cv=2), runner, X, Y)
    runner.close()


def test_a_ray_that_cannot_be_had_leaves_the_work_to_processes() -> None:
    def open_ray(is_wanted: IsWanted) -> Crew:
        raise WorkError("its path has a space")

    said = Notes()
    runner = Runner(Means(open_ray, ray_runs=True, cpus=2), None, said)
    wrapped.fit(GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS)), runner, X, Y)
    runner.close()
    assert runner.by == {"2 processes of this machine": 4}
    assert said.notes[0] == "ray cannot be had: its path has a space; the search goes on without it"


def test_processes_work_until_a_ray_is_up_and_do_not_come_back_in_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The children wait in a cell until the others have come, who come once a child has evaluated another cell."""
    evaluated, is_up = threading.Event(), tmp_path / "up"
    started: list[Processes] = []

    class Children(Processes):
        def start(self, *given: Any) -> None:
            started.append(self)
            super().start(*given)

    monkeypatch.setattr(round, "Processes", Children)

    class Late(Processes):
        def __init__(self) -> None:
            super().__init__(1)
            self.name = "late"

        def wait(self, timeout_s: float) -> list[Event]:
            evaluated.wait(300)
            return super().wait(timeout_s)

    class Told(Notes):
        def cell_ended(self, *given: Any) -> None:
            evaluated.set()

        def crew_joined(self, name: str, seconds: float) -> None:
            if name == "late":
                is_up.touch()

    runner = Runner(Means(lambda is_wanted: Late(), ray_runs=True, cpus=1), None, Told())
    for _ in range(2):
        runner.by.clear()
        model = Nearest(how="wait", at=3.0, marks=str(is_up))
        wrapped.fit(GridSearchCV(model, {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS), refit=False), runner, X, Y)
    runner.close()
    assert is_up.exists()
    assert runner.by["late"]
    assert started
    assert len(set(started)) == len(started), "who was sent home stays there"


def test_children_serve_all_rounds_of_a_search() -> None:
    model = Nearest()
    search = HalvingGridSearchCV(model, {"strength": [*STRENGTHS, 4.0, 5.0]}, cv=2, random_state=0)
    expected = HalvingGridSearchCV(model, {"strength": [*STRENGTHS, 4.0, 5.0]}, cv=2, random_state=0).fit(X, Y)
    runner = Runner(Means(deadline_s=600, cpus=2))
    wrapped.fit(search, runner, X, Y)
    runner.close()
    assert search.n_iterations_ > 1
    assert scores(search) == scores(expected)


def test_it_is_said_who_evaluated_how_many() -> None:
    said = Notes()
    runner = Runner(children(), None, said)
    wrapped.fit(GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS)), runner, X, Y)
    runner.close()
    assert said.notes == ["evaluated: 4 by 2 processes of this machine"]
    assert runner.by == {"2 processes of this machine": 4}


@pytest.mark.parametrize("count", [100, 3000])
def test_the_work_for_each_cell_does_not_grow_with_their_number(count: int) -> None:
    """Steps of the ledger, counted: looking through all that waits would make them 30 times as many."""
    ledger = Ledger({"": range(count)})
    ledger._waiting[""] = Looked(range(count))
    Looked.steps = 0
    while not ledger.is_finished:
        for index in ledger.take("a", 3):
            ledger.finish("a", index)
    assert Looked.steps <= 4 * count


class Looked(deque[int]):
    """Counts how many of its values are looked at or moved."""

    steps = 0

    def popleft(self) -> int:
        Looked.steps += 1
        return super().popleft()

    def __contains__(self, value: object) -> bool:
        Looked.steps += len(self)
        return super().__contains__(value)

    def remove(self, value: int) -> None:
        Looked.steps += len(self)
        super().remove(value)


def test_what_is_not_scikit_learns_is_evaluated_by_processes_before_a_ray_would_pay() -> None:
    def open_ray(is_wanted: IsWanted) -> Crew:
        raise AssertionError("is not to be called")

    runner = Runner(Means(open_ray, cpus=2))
    wrapped.fit(GridSearchCV(Nearest(), {"strength": STRENGTHS}, cv=PredefinedSplit(FOLDS)), runner, X, Y)
    runner.close()
    assert runner.evaluated == {"here": 0, "crews": 4, "cached": 0}
    assert runner.by == {"2 processes of this machine": 4}


class Keeping(Nearest):
    """Has what its pickle leaves out, and what is read back of it only once it is fitted."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock() if state["classes_"] is not None else None)

    def fit(self, X: Any, y: Any) -> Any:
        with self._lock:
            return super().fit(X, y)


def test_what_does_not_pickle_as_it_is_cloned_is_cloned() -> None:
    expected, _ = search(Means(in_process=True))
    found, _ = search(Means(in_process=True), Keeping())
    assert scores(found) == scores(expected)


class Slow(GaussianNB):
    """Waits until it was evaluated elsewhere as well."""

    elsewhere = threading.Event()

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        assert self.elsewhere.wait(60)
        return super().fit(X, y)


class Prompt(Absent):
    """Comes a little late, says that it has been given something, and leaves."""

    name = "prompt"

    def __init__(self) -> None:
        self._has_joined = False

    def wait(self, timeout_s: float) -> list[Event]:
        if Slow.elsewhere.is_set():
            raise WorkError("it has left")
        if self._has_joined:
            return super().wait(timeout_s)
        self._has_joined = True
        return [Joined("one")]

    def assign(self, worker: str, number: int, cells: Any) -> None:
        Slow.elsewhere.set()


def test_others_are_given_work_while_this_process_is_at_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round, "check_travels", lambda batch, cells: True)  # as for scikit-learn's own estimators

    def open_ray(is_wanted: IsWanted) -> Crew:
        threading.Event().wait(0.3)
        return Prompt()

    runner = Runner(Means(open_ray, ray_runs=True, cpus=2))
    found = GridSearchCV(Slow(), {"var_smoothing": [1e-9, 0.1]}, cv=2, refit=False)
    thread = threading.Thread(target=lambda: wrapped.fit(found, runner, X, Y), daemon=True)
    thread.start()
    thread.join(90)
    assert Slow.elsewhere.is_set()
    assert not thread.is_alive()
    assert runner.evaluated["here"] == 4
