"""What ssh says, as a person needs it; options that check host keys and never ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayopt.cluster.files import read_cluster
from rayopt.cluster.ssh import Remote, trouble_of


@pytest.mark.parametrize(
    ("err", "trouble"),
    [
        ("ssh: connect to host a port 22: Connection timed out", "does not answer"),
        ("ssh: connect to host a port 22: No route to host", "cannot be reached"),
        ("ssh: connect to host a port 22: Connection refused", "no ssh server answers"),
        ("ssh: Could not resolve hostname a: Name or service not known", "there is no host of that name"),
        ("root@a: Permission denied (publickey).", "refuses the key or the user"),
        ("Host key verification failed.", "its host key has changed"),
        ("@@@\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nPermission denied", "its host key has changed"),
        ("something\nelse entirely", "else entirely"),
        ("", "ssh ended without a word"),
    ],
)
def test_ssh_s_words_are_told_as_reasons(err: str, trouble: str) -> None:
    found, remedy = trouble_of(err, "a")
    assert found == trouble
    assert remedy


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    path = tmp_path / "cluster.yaml"
    auth = f"auth: {{ssh_user: me, ssh_private_key: {key}, ssh_proxy_command: nc %h %p}}\n"
    path.write_text(f"cluster_name: mine\nprovider: {{type: local, head_ip: 10.0.0.1}}\n{auth}")
    return Remote(read_cluster(path), "10.0.0.1")


def test_host_keys_are_checked_and_nothing_asks(remote: Remote) -> None:
    argv = remote.argv("uptime")
    assert argv[0] == "ssh"
    assert argv[-3:] == ["me@10.0.0.1", "--", "uptime"]
    assert {"StrictHostKeyChecking=accept-new", "BatchMode=yes", "ProxyCommand=nc %h %p"} <= set(argv)
    assert not [word for word in argv if "StrictHostKeyChecking=no" in word or "UserKnownHostsFile" in word]


def test_this_machine_runs_commands_itself(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 127.0.0.1}\n")
    here = Remote(read_cluster(path), "127.0.0.1")
    done = here.run("cat; echo no >&2; exit 255", given="yes")
    assert (done.code, done.out, done.err, done.trouble) == (255, "yes", "no\n", "")
    late = here.run("echo begun; exec sleep 60", timeout_s=0.3)
    assert (late.out, late.trouble) == ("begun\n", "took more than 0.3 s")


def test_a_machine_without_ssh_is_told(remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert remote.run("uptime").trouble == "ssh is not installed here"
