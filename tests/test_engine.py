"""The driver's loop against a backend that loses, fails and delays calls as it is told to."""

from __future__ import annotations

import gc
import shutil
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rayopt.backend import Call, Handle, InProcess, Report, Returned, Vanished
from rayopt.engine import Ended, Engine, Of, Task
from rayopt.errors import StepError, WorkError
from rayopt.plan import Node
from rayopt.records import Artifact, Need
from rayopt.runs.cache import Cache, Entry
from rayopt.runs.stored import StoredFiles
from rayopt.watch import Silent


class Numbers:
    """Results are numbers."""

    def encode(self, value: Any) -> Entry:
        return Entry({"value": value}, {})

    def decode(self, entry: Entry) -> Any:
        return entry.value["value"]


class Losing(InProcess):
    """Loses the first calls whose id starts with a given text, without running them."""

    def __init__(self, lost: Mapping[str, int]) -> None:
        super().__init__()
        self.left = dict(lost)
        self.calls: list[str] = []

    def submit(self, call: Call) -> Handle:
        self.calls.append(call.id)
        return super().submit(call)

    def wait(self, timeout_s: float) -> list[Report]:
        if self._calls:
            id = self._calls[0][0].id
            node = id.partition("/")[0]
            if self.left.get(node, 0) > 0:
                self.left[node] -= 1
                self._calls.popleft()
                return [Vanished(id, "its worker process died")]
        return super().wait(timeout_s)


def plus(left: int, right: int) -> int:
    return left + right


def refuse(left: int) -> int:
    raise StepError(f"{left} is no good")


def measure(ids: tuple[str, ...], factor: int, *each: int) -> dict[str, Any]:
    return {id: StepError("odd") if value % 2 else value * factor for id, value in zip(ids, each, strict=True)}


def crash_on_many(ids: tuple[str, ...], *each: int) -> dict[str, int]:
    if len(ids) > 1:
        raise RuntimeError("the batch fails")
    return dict(zip(ids, each, strict=True))


def task(id: str, function: Callable[..., Any], args: tuple[Any, ...], parent: str | None = None, **more: Any) -> Task:
    node = Node(id, parent, more.pop("exclusive", False), more.pop("always", False))
    return Task(node, id, function, args, lambda values: f"{id:x<64}", **more)


def carry_out(tasks: list[Task], backend: InProcess, cache: Cache) -> tuple[dict[str, Ended], Engine]:
    engine = Engine(lambda: backend, cache, Numbers(), Silent())
    ended: dict[str, Ended] = {}

    def on_end(one: Ended) -> None:
        assert one.id not in ended
        ended[one.id] = one

    engine.run(tasks, on_end, list)
    engine.close()
    return ended, engine


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_results_flow_from_task_to_task(cache: Cache) -> None:
    ended, _ = carry_out([task("a", plus, (1, 2)), task("b", plus, (Of("a"), 10), "a")], InProcess(), cache)
    assert {id: one.value for id, one in ended.items()} == {"a": 3, "b": 13}


def test_a_lost_call_is_tried_once_more(cache: Cache) -> None:
    backend = Losing({"b": 1})
    ended, _ = carry_out([task("a", plus, (1, 2)), task("b", plus, (Of("a"), 10), "a")], backend, cache)
    assert ended["b"].value == 13
    assert backend.calls == ["a/1", "b/1", "b/2"]


def test_a_call_that_is_lost_twice_ends_its_chain_only(cache: Cache) -> None:
    tasks = [task("a", plus, (1, 2)), task("b", plus, (Of("a"), 1), "a"), task("c", plus, (Of("a"), 2), "a")]
    tasks.append(task("d", plus, (Of("b"), 1), "b"))
    ended, _ = carry_out(tasks, Losing({"b": 2}), cache)
    assert (ended["b"].status, ended["b"].reason) == ("failed", "its worker process died, 2 times")
    assert (ended["d"].status, ended["d"].because_of) == ("skipped", "b")
    assert ended["c"].value == 5


def test_a_refusal_is_not_tried_again(cache: Cache) -> None:
    backend = Losing({})
    ended, _ = carry_out([task("a", refuse, (7,)), task("b", plus, (1, 1))], backend, cache)
    assert (ended["a"].status, ended["a"].reason) == ("failed", "7 is no good")
    assert ended["b"].value == 2
    assert backend.calls == ["a/1", "b/1"]


def test_exclusive_tasks_go_together_and_fail_alone(cache: Cache) -> None:
    backend = Losing({})
    tasks = [task(id, plus, (number, 0)) for id, number in (("a", 2), ("b", 3), ("c", 4))]
    tasks += [task(f"t{id}", measure, (10,), id, exclusive=True, each=Of(id)) for id in "abc"]
    ended, _ = carry_out(tasks, backend, cache)
    assert [ended[f"t{id}"].value for id in "ac"] == [20, 40]
    assert (ended["tb"].status, ended["tb"].reason) == ("failed", "odd")
    assert backend.calls[3:] == ["ta/1"]


def test_a_batch_that_raises_is_taken_apart(cache: Cache) -> None:
    tasks = [task(id, plus, (1, 1)) for id in "ab"]
    tasks += [task(f"t{id}", crash_on_many, (), id, exclusive=True, each=Of(id)) for id in "ab"]
    ended, _ = carry_out(tasks, InProcess(), cache)
    assert [ended[f"t{id}"].value for id in "ab"] == [2, 2]


def test_what_is_in_the_cache_needs_no_backend(cache: Cache) -> None:
    tasks = [task("a", plus, (1, 2)), task("b", plus, (Of("a"), 10), "a")]
    carry_out(tasks, InProcess(), cache)
    engine = Engine(lambda: pytest.fail("a backend was opened"), cache, Numbers(), Silent())
    ended: list[Ended] = []
    engine.run(tasks, ended.append, list)
    assert [(one.value, one.cached) for one in ended] == [(3, True), (13, True)]


def test_a_cached_parent_is_sent_to_where_its_child_runs(cache: Cache) -> None:
    parent = task("a", plus, (1, 2))
    carry_out([parent], InProcess(), cache)
    ended, _ = carry_out([parent, task("b", plus, (Of("a"), 10), "a")], InProcess(), cache)
    assert ended["a"].cached
    assert ended["b"].value == 13


def test_the_plan_grows_until_there_is_no_more(cache: Cache) -> None:
    engine = Engine(InProcess, cache, Numbers(), Silent())
    more = [[task("b", plus, (Of("a"), 1))], [task("c", plus, (Of("b"), 1))], []]
    ended: list[Ended] = []
    engine.run([task("a", plus, (1, 0))], ended.append, lambda: more.pop(0))
    assert [one.value for one in ended] == [1, 2, 3]


def test_an_interrupt_keeps_what_was_finished(cache: Cache) -> None:
    def stop(value: int) -> int:
        raise KeyboardInterrupt

    engine = Engine(InProcess, cache, Numbers(), Silent())
    ended: list[Ended] = []
    with pytest.raises(KeyboardInterrupt):
        engine.run([task("a", plus, (1, 0)), task("b", stop, (1,)), task("c", plus, (1, 1))], ended.append, list)
    assert [one.id for one in ended] == ["a"]
    again, _ = carry_out([task("a", refuse, (1,))], InProcess(), cache)
    assert again["a"].value == 1


# A budget of seconds


class Clock:
    """Goes on by one second whenever a call ends."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, value: int) -> int:
        self.now += 1
        return value


def test_after_its_budget_nothing_starts_but_timings_and_what_is_to_run_always(cache: Cache) -> None:
    clock = Clock()
    tasks = [task(f"n{number}", clock.work, (number,)) for number in range(6)]
    tasks += [task(f"after{number}", clock.work, (Of(f"n{number}"),), f"n{number}") for number in range(6)]
    tasks += [task("score", plus, (Of("n1"), 10), "n1", always=True)]
    tasks += [task("time", measure, (10,), "n0", exclusive=True, each=Of("n0"))]
    engine = Engine(InProcess, cache, Numbers(), Silent(), clock=clock)
    ended: dict[str, Ended] = {}
    more = [[task("late", plus, (1, 1)), task("grade", plus, (2, 2), always=True)], []]
    engine.run(tasks, lambda one: ended.update({one.id: one}), lambda: more.pop(0), seconds=3.0)
    engine.close()
    assert {id for id, one in ended.items() if one.status == "done"} == {"n0", "after0", "n1", "score", "time", "grade"}
    skipped = [one for one in ended.values() if one.status != "done"]
    assert len(skipped) == 10
    assert {(one.status, one.reason) for one in skipped} == {("skipped", "out of budget")}
    assert clock.now == 103


def test_without_a_budget_the_clock_does_not_matter(cache: Cache) -> None:
    clock = Clock()
    engine = Engine(InProcess, cache, Numbers(), Silent(), clock=clock)
    ended: list[Ended] = []
    engine.run([task(f"n{number}", clock.work, (number,)) for number in range(9)], ended.append, list)
    assert [one.status for one in ended] == ["done"] * 9


# Limits of a call, and where it runs


def test_what_does_not_end_within_its_limit_fails_and_is_not_tried_again(cache: Cache) -> None:
    def hang(value: int) -> int:
        while True:
            try:
                time.sleep(60)
            except Exception as error:  # noqa: BLE001
                print(error)  # noqa: T201

    backend = Losing({})
    tasks = [task("a", hang, (1,), need=Need(limit_s=0.05)), task("b", plus, (1, 1), need=Need(limit_s=60))]
    ended, _ = carry_out(tasks, backend, cache)
    assert (ended["a"].status, ended["a"].reason) == ("failed", "did not end within 0.05 s")
    assert ended["b"].value == 2
    assert backend.calls == ["a/1", "b/1"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_thread_that_is_not_the_main_one_has_no_limit_but_works() -> None:
    backend = InProcess()
    backend.submit(Call("a", "a", plus, (1, 2), Need(limit_s=60)))
    found: list[Report] = []
    thread = threading.Thread(target=lambda: found.extend(backend.wait(1.0)))
    thread.start()
    thread.join()
    assert found == [Returned("a", 3)]


def test_a_call_is_told_where_and_how_long(cache: Cache) -> None:
    class Seen(InProcess):
        seen: ClassVar[dict[str, Call]] = {}

        def submit(self, call: Call) -> Handle:
            self.seen[call.id] = call
            return super().submit(call)

    where = {"kind": "edge"}
    tasks = [task(id, plus, (1, 1), need=Need(limit_s=7)) for id in "ab"]
    tasks += [
        task(f"t{id}", measure, (10,), id, exclusive=True, each=Of(id), where=where, need=Need(limit_s=5))
        for id in "ab"
    ]
    carry_out(tasks, Seen(), cache)
    assert (Seen.seen["a/1"].where, Seen.seen["a/1"].need.limit_s) == ({}, 7)
    assert (Seen.seen["ta/1"].where, Seen.seen["ta/1"].need.limit_s) == (where, 10)


# Memory


class Models:
    """Results are artifacts."""

    def encode(self, value: Any) -> Entry:
        return Entry({"notes": dict(value.notes)}, value.files)

    def decode(self, entry: Entry) -> Any:
        return Artifact("onnx", entry.files, entry.value["notes"])


class Counting(InProcess):
    """Knows which handles are still alive."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.alive: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self.most = 0

    def put(self, value: Any) -> Handle:
        return self._count(super().put(value))

    def submit(self, call: Call) -> Handle:
        return self._count(super().submit(call))

    def _count(self, handle: Handle) -> Handle:
        self.alive[id(handle)] = handle
        self.most = max(self.most, len(self.alive))
        return handle


def made(number: int) -> Artifact:
    return Artifact("onnx", {"model.onnx": bytes([number]) * 1000}, {"number": number})


def changed(model: Artifact) -> Artifact:
    return Artifact("onnx", {"model.onnx": model.files["model.onnx"] * 2}, model.notes)


def chains(count: int) -> list[Task]:
    tasks = [task(f"m{number}", made, (number,)) for number in range(count)]
    return tasks + [task(f"c{number}", changed, (Of(f"m{number}"),), f"m{number}") for number in range(count)]


def run_chains(cache: Cache, backend: InProcess, count: int) -> Engine:
    engine = Engine(lambda: backend, cache, Models(), Silent())
    engine.run(chains(count), lambda ended: None, list)
    return engine


def test_models_stay_on_disk_and_come_when_asked_for(cache: Cache) -> None:
    for _ in range(2):
        engine = run_chains(cache, InProcess(), 20)
        for number in range(20):
            value = engine.values[f"c{number}"]
            assert isinstance(value.files, StoredFiles)
            assert value == changed(made(number))
            assert value.sha256 == changed(made(number)).sha256
    assert [path.suffix for path in cache.folder.iterdir() if path.name.startswith(".run")]
    cache.release()


def test_without_a_cache_that_can_be_written_the_values_stay(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = run_chains(Cache(tmp_path / "file"), InProcess(), 3)
    assert engine.values["c2"] == changed(made(2))
    assert type(engine.values["c2"].files) is dict


def test_what_no_task_is_left_for_is_let_go_on_the_machines(cache: Cache) -> None:
    backend = Counting(room=4)
    engine = run_chains(cache, backend, 200)
    assert len(engine.values) == 400
    assert backend.most <= 3 * backend.room
    gc.collect()
    assert len(backend.alive) == 0


def test_a_result_is_sent_again_to_a_task_that_comes_later(cache: Cache) -> None:
    backend = Counting(room=2)
    engine = Engine(lambda: backend, cache, Models(), Silent())
    more = [[task("late", changed, (Of("c1"),))], [task("later", changed, (Of("late"),))], []]
    engine.run(chains(2), lambda ended: None, lambda: more.pop(0))
    assert engine.values["later"].files == {"model.onnx": b"\x01" * 8000}


def test_no_more_calls_are_under_way_than_there_is_room_for(cache: Cache) -> None:
    class Crowded(Counting):
        def submit(self, call: Call) -> Handle:
            assert len(self._calls) < self.room
            return super().submit(call)

    run_chains(cache, Crowded(room=3), 100)


def test_a_model_that_left_the_cache_during_the_run_is_said(cache: Cache) -> None:
    engine = run_chains(cache, InProcess(), 1)
    shutil.rmtree(cache.folder)
    with pytest.raises(WorkError, match="the same command goes on from there"):
        dict(engine.values["c0"].files)
