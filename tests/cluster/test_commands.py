"""The shell commands of a cluster, run where they can be: what is left out, the environment, which Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rayopt.cluster import on_host
from rayopt.cluster.commands import (
    HEALTH,
    asking,
    last_words,
    plain,
    program,
    setting_up,
    setup_commands,
    start_commands,
    starting,
)
from rayopt.cluster.files import ClusterFile, read_cluster
from rayopt.cluster.probe import ask, probe
from rayopt.cluster.ssh import Remote


def cluster(tmp_path: Path, more: str = "", head: str = "10.0.0.1") -> ClusterFile:
    path = tmp_path / "cluster.yaml"
    workers = "" if head == "127.0.0.1" else "10.0.0.2"
    path.write_text(f"cluster_name: mine\nprovider: {{type: local, head_ip: {head}, worker_ips: [{workers}]}}\n{more}")
    return read_cluster(path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("[ray stop, ray start --head]", ("ray start --head",)),
        ("[ray stop --force, ulimit -c 1; ray start --head]", ("ulimit -c 1; ray start --head",)),
        ("['~/env/bin/ray stop; ray start --head']", ("true; ray start --head",)),
        (
            "[ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml --port=1]",
            ("ray start --head  --port=1",),
        ),
    ],
)
def test_nobody_else_s_ray_is_stopped(tmp_path: Path, given: str, kept: tuple[str, ...]) -> None:
    assert start_commands(cluster(tmp_path, f"head_start_ray_commands: {given}\n"), head=True) == kept


@pytest.mark.parametrize(
    "stop",
    [
        *("ray  stop", "ray\tstop", "ray \\\n  stop", "/opt/ray stop --force --grace-period 5", "exec ray stop -v"),
        *(
            '"$HOME/my env/ray" stop',
            "'ray' stop",
            "$(which ray) stop",
            '"$(command -v ray)" stop -f',
            "`which ray` stop",
        ),
        *("python -m ray.scripts.scripts stop", "~/env/bin/python3 -u -m  ray.scripts.scripts  stop --force"),
        *("${RAY:-ray} stop", "sudo ray stop", "ray --log-style=record stop", "ray 'stop'", 'bash -c "ray stop"'),
    ],
)
def test_however_it_is_written_nobody_else_s_ray_is_stopped(tmp_path: Path, stop: str) -> None:
    given = json.dumps([f"touch a; {stop}; touch b", stop, f"{stop} || true", "ray start --head"])
    kept = start_commands(cluster(tmp_path, f"head_start_ray_commands: {given}\n"), head=True)
    assert kept[-1] == "ray start --head"
    assert not [one for one in kept if "stop" in one]
    assert kept[0].startswith("touch a; ")
    assert kept[0].endswith("; touch b")
    for one in kept[:-1]:
        subprocess.run(["bash", "-n", "-c", one], check=True)


@pytest.mark.parametrize(
    "other", ["array stop", "echo ray; stop it", "docker stop ray", "ray stopped", "ray-stop", "cd /opt/ray\nstop it"]
)
def test_what_is_no_stop_of_ray_is_kept(tmp_path: Path, other: str) -> None:
    given = json.dumps([other])
    assert setup_commands(cluster(tmp_path, f"setup_commands: {given}\n"), head=True) == (other,)


def test_nobody_else_s_ray_is_stopped_by_the_set_up(tmp_path: Path) -> None:
    given = "initialization_commands: [ray stop]\nsetup_commands: ['~/env/bin/ray stop -f; touch a', touch b]\n"
    assert setup_commands(cluster(tmp_path, given), head=True) == ("true; touch a", "touch b")
    assert setting_up(cluster(tmp_path, "head_setup_commands: [ray stop --force]\n"), head=True) == ""


def test_a_file_without_commands_starts_ray_on_loopback(tmp_path: Path) -> None:
    found = start_commands(cluster(tmp_path), head=True)
    assert len(found) == 1
    assert "--dashboard-host=127.0.0.1" in found[0]
    assert "--address=$RAY_HEAD_IP:6379" in start_commands(cluster(tmp_path), head=False)[0]


def test_commands_see_the_mark_the_token_and_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's own view: what the start command would find in its environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    shown = "worker_start_ray_commands: [export MORE=1; env]\n"
    done = subprocess.run(
        ["bash", "-c", starting(cluster(tmp_path, shown), "abc", head=False)],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert (seen[on_host.MARK], seen[on_host.NAME]) == ("abc", "mine")
    assert seen["RAY_HEAD_IP"] == "10.0.0.1"
    token = f"{tmp_path}/.rayopt/clusters/mine.abc.token"
    assert (seen["RAY_AUTH_MODE"], seen["RAY_AUTH_TOKEN_PATH"]) == ("token", token)
    assert {name: seen[name] for name in HEALTH} == HEALTH
    assert seen["MORE"] == "1"
    assert "RAY_ADDRESS" not in seen


def test_the_first_command_that_fails_ends_it(tmp_path: Path) -> None:
    shown = "worker_start_ray_commands: [echo one, 'false; ', echo two]\n"
    command = starting(cluster(tmp_path, shown), "abc", head=False)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "one\n")


def test_set_up_commands_come_in_ray_s_order(tmp_path: Path) -> None:
    more = "setup_commands: [echo b]\ninitialization_commands: [echo a]\nhead_setup_commands: [echo c]\n"
    command = setting_up(cluster(tmp_path, more, head="127.0.0.1"), head=True)
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout == "a\nb\nc\n"
    assert setting_up(cluster(tmp_path), head=True) == ""


@pytest.mark.parametrize("words", ["{ray} start --head", "export A=1; cd / && {ray} start --head", "A=1 {ray} start"])
def test_questions_are_answered_by_the_python_that_ray_has(tmp_path: Path, words: str) -> None:
    """The program `ray` names its Python in its first line."""
    ray = tmp_path / "ray"
    ray.write_text(f"#!{sys.executable}\n")
    ray.chmod(0o755)
    found = cluster(tmp_path, f"head_start_ray_commands: ['{words.format(ray=ray)}']\n", head="127.0.0.1")
    command = asking(found, head=True)
    done = subprocess.run(
        ["bash", "-c", command],
        input=program("facts", mark="", libraries=["ray"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["executable"] == sys.executable


def test_secrets_are_in_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ps` would show, here and there."""
    seen: list[list[str]] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(argv)
        assert b"the secret" in options["input"]
        return subprocess.CompletedProcess(argv, 0, b'{"kept": 1}', b"")

    monkeypatch.setattr(subprocess, "run", run)
    assert ask(Remote(cluster(tmp_path), "10.0.0.1"), "keep", files={"~/token": "the secret"}).facts == {"kept": 1}
    assert len(seen) == 1
    assert not [word for word in seen[0] if "secret" in word]


def test_a_host_without_python_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster(tmp_path, "head_start_ray_commands: [/nowhere/ray start]\n", head="127.0.0.1")
    (tmp_path / "bash").symlink_to("/bin/bash")
    monkeypatch.setattr(os, "environ", {"PATH": str(tmp_path)})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    answer = ask(Remote(found, "127.0.0.1"), "facts", mark="", libraries=[])
    assert answer.trouble is not None
    assert "cannot be asked" in answer.trouble.problem
    assert "python3" in answer.trouble.problem


def test_this_machine_is_asked_without_ssh(tmp_path: Path) -> None:
    found = probe(cluster(tmp_path, head="127.0.0.1"), ["127.0.0.1"])["127.0.0.1"]
    assert found.trouble is None
    assert Path(found.facts["executable"]).resolve() == Path(sys.executable).resolve()


def test_what_a_login_shell_complains_about_is_left_out() -> None:
    err = (
        "bash: cannot set terminal process group (-1): Inappropriate ioctl\nbash: no job control in this shell\nmine\n"
    )
    assert plain(err) == "mine"
    assert last_words({"err": err, "out": "x"}) == "mine"
    assert last_words({"err": "", "out": "a\nb\n"}, 1) == "b"
