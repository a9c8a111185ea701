"""Searches of whole jobs in this process: what they find, what they say, what goes wrong, and going on after a kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from click.testing import CliRunner

from rayopt import api
from rayopt.cli.commands import cli
from rayopt.errors import InputError, WorkError
from rayopt.watch import Silent
from tests.conftest import BOWL_SPACE

PROGRAM = str(Path(sys.executable).parent / "rayopt")


def run(job: Path, out: Path) -> dict[str, Any]:
    return api.run(job, out, address="inprocess")


def told(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "observations.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "told"]


def test_the_fields_with_which_a_job_comes_out_best_are_found(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run(bowl_search(n_trials=20), out)
    top = 1 - 0.5**3
    assert summary["best_score"] == pytest.approx(top, abs=0.01)
    assert summary["best_params"]["loss.temperature"] == pytest.approx(3, abs=0.6)
    best = summary["trials"][0]
    assert best["score"] == max(one["score"] for one in summary["trials"]) == summary["best_score"]
    again = json.loads((out / summary["path"] / "summary.json").read_text())
    assert again["metrics"]["accuracy"] == summary["best_score"]
    ran = yaml.safe_load((out / summary["path"] / "job.yaml").read_text())
    assert ran["loss"] == {"temperature": best["params"]["loss.temperature"], "alpha": best["params"]["loss.alpha"]}
    assert (len(told(out)), len((out / "outcomes.jsonl").read_text().splitlines())) == (20, 20)
    assert sum(summary["importance"].values()) == pytest.approx(1)
    assert summary["importance"]["width"] < 0.05
    table = pandas.read_parquet(out / "trials.parquet")
    assert table["score"].tolist() == [one["score"] for one in summary["trials"]]
    assert list(pandas.read_csv(out / "trials.csv")["id"]) == list(table["id"])


def test_the_time_that_is_left_is_told(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(Silent):
        def ended(self, id: str, name: str, status: str, reason: str, cached: bool) -> None:
            told.append(name)

    api.run(bowl_search(n_trials=3, strategy="random"), tmp_path / "out", address="inprocess", watcher=Listening())
    assert [name.endswith("left)") for name in told] == [True, True, False]
    assert all("best so far" in name for name in told)


def test_less_may_be_better_and_an_inline_job_has_its_lines(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    inner = {"kind": "bowl.kind", "name": "inside"}
    summary = run(
        bowl_search(job=inner, objective="latency_ms.1", direction="min", stop={"target": 1.4}, n_trials=30),
        tmp_path / "out",
    )
    assert summary["best_params"]["width"] == 14
    assert summary["stopped"] == "the target 1.4 is reached"
    assert len(summary["trials"]) < 30


def test_trials_that_promise_nothing_are_ended_early(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    job = bowl_search(
        {"epochs": 9}, early_stop={"use": "asha", "grace": 1, "factor": 3}, n_trials=15, strategy="random"
    )
    summary = run(job, tmp_path / "out")
    stopped = [one for one in summary["trials"] if one["status"] == "stopped"]
    assert len(stopped) >= 3
    epochs = {
        one["id"]: json.loads((tmp_path / "out" / "trials" / one["id"] / "summary.json").read_text())["epochs"]
        for one in summary["trials"]
    }
    assert all(epochs[one["id"]] == int(one["reason"].split()[-1]) for one in stopped)
    assert epochs[summary["trials"][0]["id"]] == 9
    assert summary["trials"][0]["status"] == "done"


def test_bounds_are_kept_and_several_goals_make_a_front(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    goals = [{"metric": "metrics.accuracy"}, {"metric": "latency_ms.1", "direction": "min"}]
    summary = run(
        bowl_search(objective=goals, constraints={"latency_ms.1": {"at_most": 2}}, n_trials=15), tmp_path / "out"
    )
    trials = {one["id"]: one for one in summary["trials"]}
    assert {one["allowed"] for one in trials.values()} == {True, False}
    assert all(one["allowed"] == (one["metrics"]["latency_ms.1"] <= 2) for one in trials.values())
    assert all((one["rank"] is not None) == one["allowed"] for one in trials.values())
    points = [(one["score"], one["metrics"]["latency_ms.1"]) for one in trials.values() if one["allowed"]]
    front = [(trials[id]["score"], trials[id]["metrics"]["latency_ms.1"]) for id in summary["front"]]
    assert front == sorted(front, reverse=True)
    for score, latency in front:
        assert not any(a >= score and t <= latency and (a, t) != (score, latency) for a, t in points)
    assert summary["hypervolume"]["value"] > 0
    assert ">Front<" in (tmp_path / "out" / "report.html").read_text()


def test_failures_and_missing_numbers_are_learnt_around(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    space = {**BOWL_SPACE, "fail": ["", "no luck"], "nothing": [True, False]}
    summary = run(bowl_search(space=space, n_trials=16), tmp_path / "out")
    reasons = {one["reason"] for one in summary["trials"] if one["status"] == "failed"}
    assert "ValueError: no luck" in reasons
    assert any("no number at metrics.accuracy" in one for one in reasons)
    assert summary["trials"][0]["params"]["fail"] == ""


def test_a_job_that_always_fails_ends_the_search_soon(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="all 8 trials failed; the last one: ValueError: no luck"):
        run(bowl_search({"fail": "no luck"}, n_trials=100), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"


def test_bounds_that_nothing_keeps_are_said(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"none of 4 trials keeps latency_ms.1 \{'at_most': 0.1\}"):
        run(bowl_search(constraints={"latency_ms.1": {"at_most": 0.1}}, n_trials=4), tmp_path / "out")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"space": {"loss.temprature": [1, 2]}}, "space.loss.temprature: |unknown key 'temprature'; did you mean"),
    ({"space": {"loss.temperature": {"low": 0, "high": 1}}}, "space.loss.temperature: input should be greater than 0"),
    ({"space": {"loss.temperature": {"low": 3, "high": 1}}}, "low 3 is not below high 1"),
    ({"space": {"loss.alpha": {"low": 0, "high": 1, "log": True}}}, "a log scale has no 0"),
    ({"space": {"width": [7, 13]}}, "space.width: 13 brings bad luck; take another"),
    ({"space": {"width": [20, 7, 8, 13]}}, "space.width: 13 brings bad luck (width=13); take another"),
    ({"space": {"name.x": [1, 2]}}, "name holds the plain value 'bowl'"),
    ({"space": None}, "names no `space:`"),
    ({"objective": None}, "names no `objective:`"),
    ({"objective": "metrics.acuracy"}, "has no 'acuracy' (of metrics.acuracy); did you mean 'metrics.accuracy'?"),
    ({"early_stop": {"metric": "acc"}}, "early_stop.metric: trials report accuracy, loss on the way, and no 'acc'"),
    ({"constraints": {"latency_ms.1": {}}}, "constraints.latency_ms.1: bounds nothing"),
    ({"strategy": "bayse"}, "unknown strategy 'bayse'; did you mean 'bayes'?"),
    ({"strategy": "grid"}, "'grid' searches the grid of an estimator"),
    ({"strategy": "bayes_opt", "constraints": {"latency_ms.1": {"at_most": 1}}}, "'bayes_opt' knows no constraints"),
    ({"options": {"initail": 3}}, "unknown key 'initail'; did you mean 'initial'?"),
    ({"job": "gone.yaml"}, "there is no such file"),
    ({"job": "search.yaml"}, "is a search itself"),
    ({"job": {"kind": "bowl.kind", "name": "b", "widht": 3}}, "unknown key 'widht'; did you mean 'width'?"),
    ({"cv": 3, "grid": {"C": [1]}}, "cv: is for searches of an `estimator:`"),
    ({"job": None}, "add `estimator:`, or `job:`"),
    ({"warm_start": "nowhere"}, "nowhere holds no observations.jsonl"),
]


@pytest.mark.parametrize(("fields", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_what_is_wrong_is_said_before_anything_runs(
    bowl_search: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    job = bowl_search(**fields)
    result = CliRunner().invoke(cli, ["run", str(job), "--out", str(tmp_path / "out"), "--address", "inprocess"])
    assert result.exit_code == 2, result.stderr
    assert all(part in result.stderr for part in said.split("|"))
    assert not (tmp_path / "out" / "trials").exists() or "acuracy" in said or "trials report" in said


def test_a_search_begins_with_what_an_earlier_one_found(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    first = run(bowl_search(n_trials=15), tmp_path / "first")
    warm = run(bowl_search(n_trials=3, warm_start=str(tmp_path / "first"), name="warm"), tmp_path / "warm")
    assert (warm["warm_start"], len(warm["trials"])) == (15, 3)
    assert warm["best_score"] > first["best_score"] - 0.02
    assert not {one["id"] for one in warm["trials"]} & {one["id"] for one in first["trials"]}
    with pytest.raises(InputError, match=r"has values of metrics.accuracy \(max\), this search of metrics.accuracy"):
        run(bowl_search(direction="min", warm_start=str(tmp_path / "first")), tmp_path / "other")


def test_an_earlier_search_may_leave_nothing_to_try(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    space = {"width": [1, 2]}
    run(bowl_search(space=space, n_trials=2), tmp_path / "first")
    job = bowl_search(space=space, n_trials=2, warm_start=str(tmp_path / "first"))
    with pytest.raises(InputError, match=r"^warm_start: has every point of this space; leave it out"):
        run(job, tmp_path / "warm")


def test_a_killed_search_goes_on_and_evaluates_nothing_twice(
    bowl_search: Callable[..., Path], tmp_path: Path, killed_after: Callable[[list[str], int], None]
) -> None:
    job, out = bowl_search({"epoch_s": 0.03}, n_trials=10), tmp_path / "out"
    command = [PROGRAM, "run", str(job), "--out", str(out), "--address", "inprocess"]
    killed_after(command, 4)
    before = told(out)
    assert 4 <= len(before) < 10
    summary = run(job, out)
    after = told(out)
    assert after[: len(before)] == before
    assert len({json.dumps(one["params"]) for one in after}) == len(after) == len(summary["trials"]) == 10
    whole = run(bowl_search({"epoch_s": 0.03}, n_trials=10), tmp_path / "whole")
    assert [one["params"] for one in summary["trials"]] == [one["params"] for one in whole["trials"]]


def test_a_finished_search_is_not_run_again(bowl_search: Callable[..., Path], tmp_path: Path) -> None:
    first = run(bowl_search(n_trials=5), tmp_path / "out")
    before = told(tmp_path / "out")
    again = run(bowl_search(n_trials=5), tmp_path / "out")
    assert told(tmp_path / "out") == before
    assert again["trials"] == first["trials"]
