"""The driver's loop against a backend that loses, fails and delays calls as it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rayopt.backend import Call, Handle, InProcess, Report, Vanished
from rayopt.engine import Ended, Engine, Of, Task
from rayopt.errors import StepError
from rayopt.plan import Node
from rayopt.runs.cache import Cache, Entry
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
    exclusive = more.pop("exclusive", False)
    return Task(Node(id, parent, exclusive), id, function, args, lambda values: f"{id:x<64}", **more)


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
