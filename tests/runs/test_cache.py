"""The cache gives back exactly what was put in, or nothing; and never stops a run."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rayopt.errors import InputError, WorkError
from rayopt.records import Artifact
from rayopt.runs.cache import Cache, Entry, default_folder, parse_size
from rayopt.runs.stored import StoredFiles

KEY = "ab" + "0" * 62
OTHER = "ab" + "1" * 62
ENTRY = Entry({"made": {"seconds": 1.5, "notes": {"é": [1, None]}}}, {"model.onnx": b"\x00\xff" * 50, "sub/w.bin": b""})


def keys(cache: Cache) -> list[str]:
    return sorted(folder.parent.name + folder.name for folder in cache.folder.glob("??/*"))


def sized(size_bytes: int) -> Entry:
    return Entry({}, {"file": b"x" * size_bytes})


def test_what_is_put_in_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, ENTRY)
    assert cache.get(KEY) == ENTRY
    assert cache.get(OTHER) is None
    assert Cache(tmp_path).get(KEY) == ENTRY


def test_what_is_there_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    cache.put(KEY, Entry({"other": 1}, {}))
    assert cache.get(KEY) == ENTRY


def test_any_flipped_byte_is_noticed_and_the_entry_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    for name in ("files/model.onnx", "entry.json"):
        path = tmp_path / KEY[:2] / KEY[2:] / name
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[at] ^= 0x04
            path.write_bytes(bytes(flipped))
            found = cache.get(KEY)
            assert found is None or found == ENTRY  # a space in JSON may be another space
            if found is None:
                assert keys(cache) == []
                cache.put(KEY, ENTRY)
            path.write_bytes(content)
    assert "is damaged" in caplog.text
    assert cache.get(KEY) == ENTRY


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"value": 1}', '{"value": {}, "value_sha256": 3, "files": []}', "\xff"]
)
def test_an_index_that_is_none_is_dropped(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    (tmp_path / KEY[:2] / KEY[2:] / "entry.json").write_bytes(text.encode("latin-1"))
    assert cache.get(KEY) is None
    assert keys(cache) == []


def test_an_index_whose_files_are_a_list_is_dropped(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, Entry({}, {}))
    index = tmp_path / KEY[:2] / KEY[2:] / "entry.json"
    index.write_text(index.read_text().replace('"files": {}', '"files": []'))
    assert cache.get(KEY) is None
    assert keys(cache) == []


def test_an_entry_that_lost_a_file_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    (tmp_path / KEY[:2] / KEY[2:] / "files" / "model.onnx").unlink()
    assert cache.get(KEY) is None


def test_two_writers_of_one_key_both_go_on(tmp_path: Path) -> None:
    """Both processes have looked and found nothing; the second to be ready finds the entry there."""
    one, two = Cache(tmp_path), Cache(tmp_path)

    class Late(dict[str, bytes]):
        """Files that are handed over only once the other writer is done."""

        def items(self):  # type: ignore[no-untyped-def]
            one.put(KEY, ENTRY)
            return super().items()

    two.put(KEY, Entry(ENTRY.value, Late(ENTRY.files)))
    assert two.get(KEY) == ENTRY
    assert not list(tmp_path.glob(".new-*"))
    two.put(OTHER, ENTRY)  # it has not given up on the cache
    assert two.get(OTHER) == ENTRY


def test_many_processes_write_the_same_keys(tmp_path: Path) -> None:
    code = """
import sys
from rayopt.runs.cache import Cache, Entry
cache = Cache(sys.argv[1])
for number in range(60):
    key = f"{number:064x}"
    cache.put(key, Entry({"number": number}, {"file": bytes([number]) * 5000}))
    found = cache.get(key)
    assert found is not None and found.value == {"number": number} and found.files["file"] == bytes([number]) * 5000
"""
    writers = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(keys(Cache(tmp_path))) == 60
    assert not list(tmp_path.glob(".new-*"))


# Staying small


def used(cache: Cache, key: str, seconds: float) -> None:
    """Says when an entry was last used."""
    os.utime(cache.folder / key[:2] / key[2:], (seconds, seconds))


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    names = [f"{number}{number}" + "0" * 62 for number in range(5)]
    for age, name in enumerate(names):
        cache.put(name, sized(10_000))
        used(cache, name, 1000 + age)
    assert cache.get(names[0]) is not None  # using it makes it the most recent
    assert 30_000 <= cache.prune(25_000) <= 31_000
    assert keys(cache) == [names[0], names[4]]
    assert cache.prune(25_000) == 0


def test_a_cache_prunes_itself_when_enough_was_written(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=100_000)
    for number in range(40):
        cache.put(f"{number:02d}" + "0" * 62, sized(10_000))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert total <= 100_000 + 2 * 10_000


def test_runs_that_write_little_each_do_not_fill_the_disk_together(tmp_path: Path) -> None:
    for number in range(40):
        Cache(tmp_path, limit_bytes=100_000).put(f"{number:02d}" + "0" * 62, sized(4_000))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert total <= 105_000


def test_an_entry_that_vanishes_while_pruning_is_no_error(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    shutil.rmtree(tmp_path / KEY[:2])
    assert cache.prune(0) == 0
    assert Cache(tmp_path / "never").prune(0) == 0


# A cache that cannot be written


def test_a_cache_that_cannot_be_written_only_warns_and_only_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
        cache.put(KEY, ENTRY)
        cache.put(OTHER, ENTRY)
        assert cache.get(OTHER) is None
    (record,) = caplog.records
    assert "cannot be written" in record.message
    assert "this run goes on without it" in record.message


def test_a_cache_that_may_only_be_read_is_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)

    def refuse(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.get(KEY) == ENTRY
    assert cache.get(KEY) == ENTRY


# Where it is


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYOPT_CACHE", str(tmp_path / "mine"))
    assert Cache().folder == default_folder() == tmp_path / "mine"
    monkeypatch.delenv("RAYOPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "rayopt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "rayopt"


def test_what_a_killed_run_left_goes_once_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".new-old", tmp_path / ".new-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "entry.json").touch()
    os.utime(old, (0, 0))
    Cache(tmp_path).prune(1 << 20)
    assert (old.exists(), new.exists()) == (False, True)


# Files stay on disk until they are asked for


def test_files_are_read_when_asked_for_and_known_before(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for entry in (cache.put(KEY, ENTRY), cache.get(KEY), cache.put(KEY, ENTRY)):
        assert entry is not None
        made = Artifact("onnx", entry.files)
        plain = Artifact("onnx", dict(ENTRY.files))
        assert isinstance(entry.files, StoredFiles)
        assert (made.sha256, made.size_bytes) == (plain.sha256, plain.size_bytes)
        sent = pickle.loads(pickle.dumps(entry.files))  # noqa: S301 - our own
        assert type(sent) is dict
        assert sent == ENTRY.files


def test_a_file_that_changed_or_went_during_the_run_is_told(tmp_path: Path) -> None:
    entry = Cache(tmp_path).put(KEY, ENTRY)
    assert entry is not None
    path = tmp_path / KEY[:2] / KEY[2:] / "files" / "model.onnx"
    path.write_bytes(b"other")
    with pytest.raises(WorkError, match="it has changed"):
        entry.files["model.onnx"]
    path.unlink()
    with pytest.raises(WorkError, match="the same command goes on from there"):
        entry.files["model.onnx"]
    with pytest.raises(KeyError):
        entry.files["other.onnx"]


# What a run uses is kept for it


def test_what_a_run_has_used_stays_to_its_end(tmp_path: Path) -> None:
    names = [f"{number}{number}" + "0" * 62 for number in range(3)]
    one = Cache(tmp_path, limit_bytes=15_000)
    for name in names[:2]:
        one.put(name, sized(10_000))
        used(one, name, 1000)
    one.hold()
    one.hold()
    assert one.get(names[1]) is not None
    one.put(names[2], sized(10_000))
    other = Cache(tmp_path, limit_bytes=0)
    other.prune()
    one.prune()
    assert keys(one) == names[1:]
    one.release()
    assert len(keys(one)) == 1
    assert not list(tmp_path.glob(".run-*"))
    other.prune()
    assert keys(one) == []


def test_two_runs_on_one_cache_do_not_take_from_each_other(tmp_path: Path) -> None:
    """Two processes, each with more than the limit allows, read all that they wrote at their end."""
    code = """
import sys
from rayopt.runs.cache import Cache, Entry
cache = Cache(sys.argv[1], limit_bytes=50_000)
cache.hold()
kept = {}
for number in range(60):
    key = f"{number:02d}" + f"{int(sys.argv[2]) if number % 2 else 0:062x}"  # every second one is the other's as well
    kept[number] = cache.put(key, Entry({}, {"file": bytes([number]) * 5000}))
print("written", flush=True)
sys.stdin.readline()
for number, entry in kept.items():
    assert entry.files["file"] == bytes([number]) * 5000
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen([*command, str(number)], **pipes) for number in (1, 2)]  # type: ignore[call-overload]
    for run in runs:
        assert run.stdout.readline() == "written\n"
    assert [run.communicate("go on\n")[1] for run in runs] == [None, None]
    assert [run.returncode for run in runs] == [0, 0]
    assert not list(tmp_path.glob(".run-*"))
    Cache(tmp_path, limit_bytes=50_000).prune()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 50_000


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    code = """
import os, sys
from rayopt.runs.cache import Cache, Entry
cache = Cache(sys.argv[1])
cache.hold()
cache.put(sys.argv[2], Entry({}, {"file": b"x"}))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path), KEY], check=False)
    assert list(tmp_path.glob(".run-*"))
    Cache(tmp_path).prune(0)
    assert keys(Cache(tmp_path)) == []
    assert not list(tmp_path.glob(".run-*"))


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("12", 12), ("1k", 1000), ("1.5 KiB", 1536), ("5GB", 5 * 10**9), (" 2 mi ", 2 << 20)]
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert parse_size(text, "here") == size_bytes


@pytest.mark.parametrize("text", ["", "-1", "5 apples", "1e3", "i", "5iB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="here: "):
        parse_size(text, "here")


def test_files_that_are_written_into_the_cache_itself(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def write(folder: Path) -> None:
        (folder / "large.npy").write_bytes(b"\x07" * 3_000_000)

    made = cache.make(KEY, {"rows": 3}, write)
    assert made is not None
    assert made == cache.get(KEY) == Entry({"rows": 3}, {"large.npy": b"\x07" * 3_000_000})
    assert isinstance(made.files, StoredFiles)
    assert made.files.path("large.npy").read_bytes() == b"\x07" * 3_000_000
