"""A file is the old one or the new one, whatever the disk does; so is a journal but for its last line."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rayopt.errors import InputError
from rayopt.runs import journal
from rayopt.runs.files import disk_errors, write_bytes, write_folder, write_json


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow further, as a full disk does."""
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "file", b"old")
    write_bytes(tmp_path / "new" / "file", b"new")
    assert (tmp_path / "new" / "file").read_bytes() == b"new"
    assert names(tmp_path / "new") == ["file"]
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with files_of_at_most(1000), pytest.raises(InputError) as caught:
        write_bytes(tmp_path / "file", b"n" * 5000)
    assert str(caught.value) == f"{tmp_path / 'file'}: the disk is full; free some space or give another --out"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """One process writes two long contents by turns; every read is one of them, whole."""
    path = tmp_path / "file"
    write_bytes(path, b"a" * 200_000)
    code = f"""
from pathlib import Path
from rayopt.runs.files import write_bytes
for turn in range(40):
    write_bytes(Path({str(path)!r}), (b"a", b"b")[turn % 2] * 200_000)
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    seen = set()
    while writer.poll() is None:
        content = path.read_bytes()
        assert len(content) == 200_000
        seen |= set(content)
    assert writer.returncode == 0
    assert seen <= set(b"ab")
    assert path.read_bytes() == b"b" * 200_000


def test_a_folder_of_files_keeps_its_layout(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", {"model.onnx": b"1", "weights/w.bin": b"2"})
    assert (tmp_path / "model" / "weights" / "w.bin").read_bytes() == b"2"


def test_json_that_is_none_is_not_written(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert (tmp_path / "file.json").read_text() == '{\n  "a": 1\n}\n'


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: .*; give an --out that you may write to"):
        write_bytes(tmp_path / "file" / "below", b"")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_way_of_being_full_is_a_full_disk(code: int) -> None:
    with pytest.raises(InputError, match=r"^here: the disk is full; free some space"), disk_errors(Path("here")):
        raise OSError(code, os.strerror(code))


def test_other_errors_of_the_disk_say_what_they_are() -> None:
    with pytest.raises(InputError, match=r"^here: cannot be written: Permission denied"), disk_errors(Path("here")):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_errors_that_are_not_of_the_disk_pass() -> None:
    with pytest.raises(KeyError), disk_errors(Path("here")):
        raise KeyError


# The journal


def test_no_journal_has_no_lines(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none.jsonl") == []


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    entries = [{"id": "a", "text": "two\nlines\u2028or three"}, {"id": "b"}]
    for entry in entries:
        journal.append(tmp_path / "j.jsonl", entry)
    assert journal.read(tmp_path / "j.jsonl") == entries
    assert len((tmp_path / "j.jsonl").read_bytes().split(b"\n")) == 3


def test_a_line_that_was_torn_anywhere_is_passed_over_and_closed_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal.append(path, {"id": "first"})
    start = path.stat().st_size
    journal.append(path, {"id": "sécond", "value": [1, 2]})
    whole = path.read_bytes()
    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        torn = [] if length < len(whole) - 1 else [{"id": "sécond", "value": [1, 2]}]  # only its line end is missing
        assert journal.read(path) == [{"id": "first"}, *torn]
        journal.append(path, {"id": "third"})
        assert journal.read(path) == [{"id": "first"}, *torn, {"id": "third"}]


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[1]\n", b"3\n", b"\n", b"null\n", b"{}}\n"])
def test_a_line_that_is_no_entry_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j.jsonl"
    journal.append(path, {"id": "a"})
    with path.open("ab") as file:
        file.write(line)
    journal.append(path, {"id": "b"})
    assert [entry["id"] for entry in journal.read(path)] == ["a", "b"]


def test_a_journal_that_cannot_grow_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal.append(path, {"id": "a"})
    before = path.read_bytes()
    with files_of_at_most(100), pytest.raises(InputError, match="the disk is full"):
        journal.append(path, {"id": "b", "text": "x" * 500})
    assert path.read_bytes() == before
    journal.append(path, {"id": "c"})
    assert [entry["id"] for entry in journal.read(path)] == ["a", "c"]
