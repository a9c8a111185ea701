"""A submission through a line that is lost: one job, however many tries it takes, and its id where nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from rayopt.cluster.submission import Order
from rayopt.errors import InputError, WorkError
from rayopt.onray import submit
from rayopt.onray.submit import Submissions

ORDER = Order("mine-1", "mine", "optimize", "/out", ("true",), "digest")
LOST = requests.ConnectionError("reset")
TAKEN = RuntimeError("Job with submission_id mine-1 already exists.")


class Answer:
    """What the dashboard says to a question."""

    def __init__(self, code: int, told: Any) -> None:
        self.status_code, self._told, self.text = code, told, str(told)

    def json(self) -> Any:
        return self._told


class Dashboard:
    """Ray's client as it would be: what `submit_job` and each question meet, one after another; what arrived stays."""

    def __init__(self, meets: list[Exception | None], arrived: dict[str, str] | None = None) -> None:
        self.meets, self.arrived, self.sent = meets, arrived, 0

    def submit_job(self, submission_id: str, metadata: dict[str, str], **_: Any) -> None:
        self.sent += 1
        if self.arrived is not None:
            raise TAKEN
        error = self.meets.pop(0) if self.meets else None
        if error is not TAKEN:
            self.arrived = metadata
        if error is not None:
            raise error

    def _do_request(self, method: str, path: str, **_: Any) -> Answer:
        error = self.meets.pop(0) if self.meets else None
        if error is not None:
            raise error
        if path == "/api/jobs/":
            return Answer(200, [{"submission_id": "another", "status": "RUNNING", "metadata": {}}])
        if self.arrived is None:
            return Answer(404, "no such job")
        return Answer(200, {"submission_id": "mine-1", "status": "RUNNING", "metadata": self.arrived})


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dashboard], Submissions]:
    """A connection to such a dashboard, with a clock of its own."""
    now = [0.0]
    monkeypatch.setattr(submit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def made(dashboard: Dashboard) -> Submissions:
        monkeypatch.setattr(submit, "_Client", lambda *_, **__: dashboard)
        return Submissions("http://127.0.0.1:1", "token")

    return made


def test_one_whose_answer_is_lost_is_not_submitted_twice(jobs: Callable[[Dashboard], Submissions]) -> None:
    """The line stays away for some questions more."""
    dashboard = Dashboard([LOST, LOST, LOST, LOST])
    assert jobs(dashboard).submit(ORDER, {}, Path("package.zip"))
    assert dashboard.sent == 1


def test_one_that_stays_without_an_answer_is_told_by_its_id(jobs: Callable[[Dashboard], Submissions]) -> None:
    with pytest.raises(WorkError, match=r"not answered for 60 s .* may run mine-1; `rayopt jobs status mine-1` tells"):
        jobs(Dashboard([LOST] * 1000)).submit(ORDER, {}, Path("package.zip"))


def test_an_id_that_another_job_has_is_not_ours(jobs: Callable[[Dashboard], Submissions]) -> None:
    assert not jobs(Dashboard([], {**ORDER.metadata, "rayopt_digest": "another"})).submit(ORDER, {}, Path("p.zip"))
    assert jobs(Dashboard([], ORDER.metadata)).submit(ORDER, {}, Path("p.zip"))  # the same job, submitted at once


def test_what_the_cluster_refuses_is_said(jobs: Callable[[Dashboard], Submissions]) -> None:
    with pytest.raises(WorkError, match="refuses the job: Job with"):
        jobs(Dashboard([TAKEN])).submit(ORDER, {}, Path("package.zip"))


@pytest.mark.parametrize("id", ["", ".", "..", "a\udcff", "a\nb", "x" * 1001])
def test_what_is_no_id_is_nobody_s_job(jobs: Callable[[Dashboard], Submissions], id: str) -> None:
    """A job that others submitted has no name, and would be the one of the name ""."""
    with pytest.raises(InputError, match=r"^ID: .* is no id or name of a job; see `rayopt jobs list`"):
        jobs(Dashboard([], {})).find(id)
