"""Whole jobs as trials on Ray Tune: in flight together, ended early, lost, late, killed with their driver."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayopt import api
from rayopt.errors import InputError
from rayopt.onray.nodes import Node
from rayopt.onray.searcher import OUTCOME, STEP, VALUE, OnTune, Proposals, Referee, most_in_flight, namer
from rayopt.search.asking import Asking
from rayopt.search.history import History
from rayopt.search.hosts import Early, Flight, Team
from rayopt.search.rungs import Halving
from rayopt.searching.trial import trial_id

PROGRAM = str(Path(sys.executable).parent / "rayopt")


class Heard:
    """What a flight tells of."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: list[Any] = []
        self.most = 0

    def trial_started(self, params: Mapping[str, Any]) -> None:
        self.started.append(dict(params))
        self.most = max(self.most, len(self.started) - len(self.ended))

    def trial_reported(self, params: Mapping[str, Any], step: int, value: float) -> None: ...

    def trial_ended(self, observation: Any) -> None:
        self.ended.append(observation)


def flight(count: int, history: History | None = None, early: Early | None = None) -> tuple[Flight, Heard]:
    asked = iter(range(100))
    heard = Heard()
    asking = Asking(lambda seen, pending: {"x": next(asked)}, history or History(), count)
    return Flight(asking, lambda params, measured: {}, 2, heard, early), heard


def test_trials_are_named_by_their_search_and_their_id() -> None:
    one, _ = flight(1)
    one.name, one.id_of = "widths", trial_id
    trial = SimpleNamespace(config={"params": {"x": 3}}, trial_id="ab12_00001")
    assert namer(one)(trial) == f"widths-{trial_id({'x': 3})}"


def test_the_searcher_asks_tells_and_ends() -> None:
    one, heard = flight(2)
    searcher = Proposals(one)
    assert searcher.suggest("a") == {"params": {"x": 0}}
    assert searcher.suggest("b") == {"params": {"x": 1}}
    assert searcher.suggest("c") == "FINISHED"
    searcher.on_trial_result("a", {STEP: 1, VALUE: 0.5})
    searcher.on_trial_complete("a", {OUTCOME: json.dumps({"value": 3.0, "metrics": {"m": 3.0}})})
    searcher.on_trial_complete("b", error=True)
    assert [(seen.params, seen.value) for seen in heard.ended] == [({"x": 0}, 3.0), ({"x": 1}, None)]
    assert heard.ended[1].reason == "its process died twice"
    assert one.asking.history.reports == {'{"x": 0}': ((1, 0.5),)}


def test_a_saved_searcher_tells_a_journal_what_it_lacks(tmp_path: Path) -> None:
    one, _ = flight(3)
    before = Proposals(one)
    before.suggest("a"), before.suggest("b")
    before.on_trial_complete("a", {OUTCOME: json.dumps({"value": 3.0})})
    before.save(str(tmp_path / "state"))
    other, heard = flight(3)
    after = Proposals(other)
    after.restore(str(tmp_path / "state"))
    assert [seen.value for seen in other.asking.observations] == [3.0]
    after.on_trial_complete("b", {OUTCOME: json.dumps({"value": 5.0})})
    assert [seen.params for seen in heard.ended] == [{"x": 1}]


def test_the_referee_ends_what_the_rule_ends_and_knows_of_earlier_tries() -> None:
    referee = Referee(Halving(1, 2))
    assert referee.begin("a") is None
    assert (referee.begin("a") or 0) >= 0
    assert not referee.judge("a", 1, 1.0)
    assert referee.judge("b", 1, 0.0)


@pytest.mark.ray
def test_trials_are_in_flight_together_and_one_whose_process_dies_is_told_of(
    bowl_search: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    space = {"loss.alpha": {"low": 0, "high": 1}, "fail": ["", "die"]}
    job = bowl_search({"epochs": 4}, space=space, n_trials=6, parallel=2, early_stop={"grace": 1}, strategy="random")
    summary = api.run(job, tmp_path / "out", address=ray_session)
    assert len(summary["trials"]) == 6
    assert {one["reason"] for one in summary["trials"] if one["params"]["fail"]} == {"its process died twice"}
    assert all(one["score"] is not None for one in summary["trials"] if not one["params"]["fail"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "observations.jsonl").read_text().splitlines()]
    flying = most = 0
    for line in lines:
        flying += {"asked": 1, "told": -1}.get(line["event"], 0)
        most = max(most, flying)
    assert most == 2
    assert any(line["event"] == "reported" for line in lines)


@pytest.mark.ray
def test_a_trial_that_hangs_is_ended_and_an_objective_that_is_not_there_ends_all(
    bowl_search: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    job = bowl_search(space={"fail": ["", "hang"]}, n_trials=2, parallel=2, deadline_s=2)
    summary = api.run(job, tmp_path / "out", address=ray_session)
    assert {one["params"]["fail"]: one["status"] for one in summary["trials"]} == {"": "done", "hang": "failed"}
    assert summary["trials"][1]["reason"] == "the trial took longer than 2 s"
    with pytest.raises(InputError, match="has no 'acuracy'"):
        api.run(bowl_search(objective="metrics.acuracy"), tmp_path / "bad", address=ray_session)


@pytest.mark.ray
def test_a_killed_driver_loses_nothing_and_repeats_nothing(
    bowl_search: Callable[..., Path], tmp_path: Path, ray_session: str, killed_after: Callable[[list[str], int], None]
) -> None:
    job, out = bowl_search({"epoch_s": 0.1}, n_trials=8, parallel=2), tmp_path / "out"
    journal = out / "observations.jsonl"

    def told() -> list[Any]:
        text = journal.read_text() if journal.is_file() else ""
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"] == "told"]

    command = [PROGRAM, "run", str(job), "--out", str(out), "--address", ray_session]
    killed_after(command, 3)
    before = told()
    assert 3 <= len(before) < 8
    summary = api.run(job, out, address=ray_session)
    assert told()[: len(before)] == before
    assert len({json.dumps(one["params"]) for one in told()}) == len(told()) == len(summary["trials"]) == 8


@pytest.mark.ray
def test_an_interrupt_ends_the_trials(ray_session: str) -> None:
    one, _ = flight(1000)
    one.evaluate = lambda params, measured: {"value": 1.0}

    class Interrupting(Heard):
        def trial_ended(self, observation: Any) -> None:
            super().trial_ended(observation)
            if len(self.ended) == 3:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    one.watch = heard = Interrupting()
    host = OnTune(ray_session)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            host.run(one)
    finally:
        signal.signal(signal.SIGINT, before)
    host.close()
    assert 3 <= len(heard.ended) < 1000
    for thread in threading.enumerate():
        if thread.name == "tune":  # Tune takes its time on a busy machine
            thread.join(60)
            assert not thread.is_alive()


def test_what_a_journal_raises_ends_the_search() -> None:
    one, _ = flight(5)

    class Full(Heard):
        def trial_ended(self, observation: Any) -> None:
            raise OSError("no space left")

    one.watch = Full()
    searcher = Proposals(one)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {OUTCOME: json.dumps({"value": 1.0})})
    assert isinstance(one.error, OSError)
    assert searcher.suggest("b") == "FINISHED"


def test_trials_that_train_with_workers_leave_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node({"CPU": 8}, {}), Node({"CPU": 3, "GPU": 1}, {})]
    monkeypatch.setattr("rayopt.onray.group.Nodes.alive", lambda self: nodes)
    found, _ = flight(8)
    assert most_in_flight(replace(found, parallel=8, team=Team())) == 8
    assert most_in_flight(replace(found, parallel=8, team=Team(2))) == 5
    assert most_in_flight(replace(found, parallel=3, team=Team(2))) == 3
    assert most_in_flight(replace(found, parallel=8, team=Team(2, {"CPU": 4}))) == 1
    with pytest.raises(InputError, match="12 workers of 1 CPU each, but the cluster has room for 11"):
        most_in_flight(replace(found, team=Team(12)))


@pytest.mark.ray
@pytest.mark.skipif(" " in sys.executable, reason="Ray Train starts no worker whose path has a space")
def test_a_job_with_several_workers_is_searched(tmp_path: Path, ray_session: str) -> None:
    model = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [4]}}
    inner = {"kind": "train", "name": "inside", "model": model, "data": {"source": "digits"}, "epochs": 1}
    plain = {"precision": "fp32", "layout": "contiguous", "workers": 2, "batch_size": 64}
    search = {"kind": "search", "name": "outside", "strategy": "random", "n_trials": 2, "parallel": 2}
    space = {"optimizer.lr": {"low": 0.01, "high": 0.2, "log": True}}
    job = {**search, "job": {**inner, **plain}, "space": space, "objective": "metrics.accuracy"}
    with pytest.raises(InputError, match="workers: 2 workers need Ray; leave `--address inprocess` out"):
        api.run(job, tmp_path / "here", address="inprocess")
    summary = api.run(job, tmp_path / "out", address=ray_session)
    assert [one["status"] for one in summary["trials"]] == ["done", "done"]
    trained = [json.loads(path.read_text()) for path in (tmp_path / "out" / "trials").glob("*/summary.json")]
    assert [one["workers"] for one in trained] == [2, 2]
