"""Who listens at a port, as the kernel says it: sockets of this user, and of another one where root can make such."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayopt.cli.commands import cli
from rayopt.cli.reach import Line
from rayopt.cluster import holders
from rayopt.cluster.following import Following, LostError
from rayopt.cluster.holders import TakenError, refuse_others, refuse_others_here
from rayopt.cluster.submission import Submission
from rayopt.errors import WorkError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tables are those of Linux")
NOBODY = 65534


class Opened:
    """Stands for the jobs at the far end."""


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's socket")


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - for a moment
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as one:
        try:
            one.bind((request.param, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        one.listen()
        yield one


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def lines() -> list[str]:
    return [line for table in holders.TABLES for line in Path(table).read_text().splitlines()]


def test_who_listens_is_known(listener: socket.socket) -> None:
    port = port_of(listener)
    at = listener.getsockname()[0]
    assert holders.holders(lines(), at, port) == {os.getuid()}
    assert holders.holders(lines(), "0.0.0.0", port) == {os.getuid()}  # noqa: S104 - asked for, not bound
    assert holders.holders(lines(), "192.0.2.77", port) == ({os.getuid()} if at == "0.0.0.0" else set())  # noqa: S104
    refuse_others_here(at, port)
    listener.close()
    assert holders.holders(lines(), at, port) == set()


def test_others_than_oneself_and_root_are_refused(listener: socket.socket) -> None:
    told = lines()
    at = listener.getsockname()[0]
    refuse_others(told, os.getuid(), "head", port_of(listener), at)
    if os.getuid() == 0:
        refuse_others(told, NOBODY, "head", port_of(listener), at)  # root may read the token anyway
    else:
        with pytest.raises(WorkError, match=f"head: another user .uid {os.getuid()}. listens at port"):
            refuse_others(told, NOBODY, "head", port_of(listener), at)


@as_root
def test_the_token_is_not_sent_to_another_users_port(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    os.fchown(listener.fileno(), NOBODY, -1)  # whose it then is in the kernel's tables as well
    at = f"[{listener.getsockname()[0]}]" if listener.family == socket.AF_INET6 else listener.getsockname()[0]
    done = CliRunner().invoke(cli, ["jobs", "list", "--address", f"{at}:{port_of(listener)}"])
    assert done.exit_code == 1
    assert f"another user (uid {NOBODY}) listens at port {port_of(listener)}" in done.stderr
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


@as_root
def test_a_line_that_is_made_again_does_not_go_to_who_has_taken_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked meanwhile either: the near end of a tunnel that has closed may be anybody's."""
    monkeypatch.setattr(Line, "_open", lambda self: Opened())
    line = Line(None, "http://127.0.0.1:1", "a" * 64, looks=True)
    assert isinstance(line.jobs, Opened)
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        os.fchown(taken.fileno(), NOBODY, -1)
        line._address = f"http://127.0.0.1:{port_of(taken)}"
        with pytest.raises(TakenError):
            line.reopen()
    with pytest.raises(LostError, match="there is no way to it"):
        _ = line.jobs


def test_following_ends_where_another_has_taken_the_place() -> None:
    def status() -> Submission:
        raise LostError("connection refused")

    def reopen() -> None:
        raise TakenError("another user listens there")

    following = Following(status, lambda: b"", reopen, lambda text: None, lambda text: None, sleep=lambda s: None)
    with pytest.raises(TakenError):
        following.run()
