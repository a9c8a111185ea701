"""What `submit` and `jobs` refuse or say by themselves; a Ray that answers them is in test_submit.py."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from rayopt.cli import jobs
from rayopt.cli.commands import cli
from rayopt.cli.submit import follow_to_end
from rayopt.cluster import following
from rayopt.cluster.files import read_cluster
from rayopt.cluster.following import LostError, UnknownError
from rayopt.cluster.submission import Submission
from rayopt.errors import Fault, InputError, WorkError, input_error

NOBODY = ("--address", "http://127.0.0.1:9")
VALUE = "hunter22-hunter22"


def submit(job: Path, *words: str) -> str:
    done = CliRunner().invoke(cli, ["submit", str(job), *NOBODY, *words])
    assert done.exit_code == 2, done.output
    assert VALUE not in done.stderr
    return done.stderr


def test_results_do_not_go_into_the_job_s_own_folder(small_job: Callable[..., Path]) -> None:
    said = submit(small_job(), "--out", "results")
    assert "--out: is no place that lasts on the cluster, got 'results'; give an absolute path" in said


def test_a_secret_in_a_job_or_in_what_it_names_is_refused(small_job: Callable[..., Path]) -> None:
    job = small_job(model={"factory": "own:build", "args": {"password": VALUE}})
    (job.parent / "own.py").write_text("def build(password): ...")
    assert "model.args.password: looks like a secret" in submit(job)
    outer = job.parent / "outer.yaml"
    outer.write_text(
        f"kind: search\nname: outer\njob: {job.name}\nobjective: a.b\nspace: {{seed: {{low: 1, high: 9, int: true}}}}\n"
    )
    assert "model.args.password: looks like a secret" in submit(outer)


def test_a_wrong_runtime_environment_is_told_before_the_cluster_is_asked(small_job: Callable[..., Path]) -> None:
    job = small_job()
    (job.parent / "env.yaml").write_text("{pip: [a], conda: b}\n")
    assert "is not a runtime environment: The 'pip' field" in submit(job, "--runtime-env", str(job.parent / "env.yaml"))


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "", ".", "a/b"])
def test_no_name_of_a_job_is_a_folder_elsewhere(name: str) -> None:
    found = Submission("id", "SUCCEEDED", "", 0, None, None, {"rayopt_name": name, "rayopt_out": "/out"})
    with pytest.raises(InputError, match="no folder is made of"):
        jobs._folder_name(found)


def following_to(*answers: Exception, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is raised in the end, when the cluster gives these answers one after another."""
    left = list(answers)

    def status(id: str) -> Submission:
        raise left.pop(0)

    monkeypatch.setattr(following, "BETWEEN_TRIES_S", 0.0)
    line: Any = SimpleNamespace(jobs=SimpleNamespace(status=status), reopen=lambda: None)
    with pytest.raises(InputError) as caught:
        follow_to_end(line, "mine-1", False)
    return str(caught.value)


def test_only_a_job_that_is_gone_is_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, gone = LostError("reset"), UnknownError([Fault("mine-1", "the cluster knows no job of that id")])
    refused = input_error("the cluster", "asks for another token")
    assert "knows it no longer; submit it again" in following_to(lost, gone, monkeypatch=monkeypatch)
    assert "knows no job of that id" in following_to(gone, monkeypatch=monkeypatch)
    assert "asks for another token" in following_to(lost, refused, monkeypatch=monkeypatch)


class Head:
    """A head whose offer is at first pending, then runs for long, and then is made."""

    def __init__(self, *states: str) -> None:
        self.states, self.said = list(states), b""

    def status(self, id: str) -> Submission:
        state = self.states.pop(0)
        if not self.states:
            self.said = b'rayopt-manifest ["rayopt-x", []]'
        return Submission(id, state, "", None, None, None)

    def log(self, id: str) -> bytes:
        return self.said


def test_what_takes_long_to_offer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 60))
    found = Submission("mine-1", "SUCCEEDED", "", 0, None, None)

    def offered(*states: str) -> Any:
        return jobs._offered(SimpleNamespace(jobs=Head(*states)), "offer", found)  # type: ignore[arg-type]

    assert offered("PENDING", *["RUNNING"] * 50) == ("rayopt-x", [])
    with pytest.raises(WorkError, match="has not begun to offer the files within 120 s"):
        offered(*["PENDING"] * 50)


def test_a_way_to_the_dashboard_that_has_ended_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayopt.cli import show_cluster

    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 10.0.0.1}\n")
    server = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    for name in ("known_state", "token_of"):
        monkeypatch.setattr(show_cluster, name, lambda cluster: None)
    monkeypatch.setattr(show_cluster, "open_tunnel", lambda cluster, port: contextlib.nullcontext(url))
    monkeypatch.setattr(show_cluster.time, "sleep", lambda seconds: server.close())
    with pytest.raises(WorkError, match="nothing answers at http"):
        show_cluster.show_dashboard(read_cluster(path), None)
