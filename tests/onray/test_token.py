"""The token of a Ray of ours: there, long, and nobody else's to read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from rayopt.errors import InputError
from rayopt.onray.token import private_token
from rayopt.runs.private import lies_open


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_token_is_made_once_for_its_owner_alone(home: Path) -> None:
    path = private_token()
    assert path == home / ".ray" / "auth_token"
    token = path.read_text()
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert private_token() == path
    assert path.read_text() == token


def test_two_that_make_one_at_once_have_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is there first, and whole: nobody ever sees an empty file."""
    path = home / ".ray" / "auth_token"

    def first(aside: str, target: Path) -> None:
        assert not path.exists()
        path.write_text("c" * 64)
        path.chmod(0o600)
        raise FileExistsError

    monkeypatch.setattr("os.link", first)
    assert private_token() == path
    assert path.read_text() == "c" * 64
    assert [one.name for one in path.parent.iterdir()] == ["auth_token"]


def open_token(home: Path) -> Path:
    """A token as Ray 2.60 leaves it."""
    (home / ".ray").mkdir()
    path = home / ".ray" / "auth_token"
    path.write_text("a" * 64)
    path.chmod(0o644)
    return path


def test_a_token_whose_mode_alone_is_open_is_closed(home: Path) -> None:
    """The folder above lets nobody else in, as most homes do: nobody has read it."""
    home.chmod(0o700)
    path = open_token(home)
    assert private_token() == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "a" * 64


@pytest.mark.parametrize(("mode", "folders"), [(0o644, 0o755), (0o602, 0o701)])
def test_a_token_that_others_could_reach_is_refused(monkeypatch: pytest.MonkeyPatch, mode: int, folders: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders let nobody in
        home = Path(folder)
        monkeypatch.setenv("HOME", folder)
        path = open_token(home)
        path.chmod(mode)
        path.parent.chmod(folders)
        home.chmod(folders)
        with pytest.raises(InputError, match="auth_token: others can read this token of Ray; remove the file") as told:
            private_token()
        assert path.stat().st_mode & 0o777 == mode
        path.unlink()
        assert private_token() == path
    assert "a" * 64 not in str(told.value)


@pytest.mark.parametrize("shared", [True, False])
def test_a_group_counts_where_others_are_in_it(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    users = [SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid(), pw_name="me")]
    if shared:
        users.append(SimpleNamespace(pw_uid=4321, pw_gid=os.getgid(), pw_name="colleague"))
    monkeypatch.setattr("pwd.getpwall", lambda: users)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        home = Path(folder)
        path = open_token(home)
        path.chmod(0o640)
        for one in (path.parent, home):
            one.chmod(0o750)
        assert lies_open(path) == shared


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "b" * 64)])
def test_what_the_environment_says_stands(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert private_token() is None
    assert not (home / ".ray").exists()
