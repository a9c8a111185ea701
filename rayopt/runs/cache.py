"""Results by the content of what they were made from: the same work is never done twice, on any run of any job.

An entry is a folder named by its key: `entry.json` and files. It is written aside and renamed, checked against its
hashes when read (a damaged one is dropped and made again), and the least recently used go when the cache is full,
but for those that a run which is under way has used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rayopt.errors import input_error
from rayopt.runs.stored import StoredFiles

LIMIT_BYTES = 5 << 30
ABANDONED_S = 24 * 3600
UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A JSON-able value and files."""

    value: Mapping[str, Any]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Info:
    """What a cache holds; `oldest` and `newest` are when an entry was last used, in seconds since 1970."""

    folder: Path
    entries_count: int
    size_bytes: int
    limit_bytes: int
    oldest: float | None
    newest: float | None


@dataclass(frozen=True)
class _File:
    """What is known of a file's content."""

    size_bytes: int
    sha256: str


class Cache:
    """Safe for several runs at once. A cache that cannot be written is a slower run, not a failed one."""

    def __init__(self, folder: str | Path | None = None, limit_bytes: int | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self._limit = default_limit() if limit_bytes is None else limit_bytes
        self._failed = False
        self._written = self._limit  # by earlier runs, for all that is known: the first entry looks after the limit
        self._over = False  # larger than it is to be, because of what is held
        self._release: weakref.finalize[..., Cache] | None = None

    def get(self, key: str) -> Entry | None:
        """The entry of a key, None where there is none or it is damaged. Its files are read again when asked for."""
        folder = self._path(key)
        if not folder.is_dir():
            return None
        try:
            index = json.loads((folder / "entry.json").read_bytes())
            value = index["value"]
            if index["value_sha256"] != _hash(_canonical(value)):
                raise ValueError("value")
            sizes = {}
            for name, sha256 in index["files"].items():
                found = _of_file(folder / "files" / name)
                if found.sha256 != sha256:
                    raise ValueError(name)
                sizes[name] = found.size_bytes
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("cache entry %s is damaged (%s) and is made again", key[:12], error)
            self._drop(folder)
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is of use too
            os.utime(folder)
        return Entry(value, StoredFiles(folder / "files", sizes, index["files"]))

    def put(self, key: str, entry: Entry) -> Entry | None:
        """Keeps an entry and gives it with its files on disk, None where it cannot; one that is there already stays."""

        def write(folder: Path) -> dict[str, _File]:
            return {name: _written(folder / name, content) for name, content in entry.files.items()}

        return self._keep(key, entry.value, write)

    def make(self, key: str, value: Mapping[str, Any], write: Callable[[Path], None]) -> Entry | None:
        """As `put`, for files that memory may not hold: `write` writes them into a folder that it is given."""

        def written(folder: Path) -> dict[str, _File]:
            folder.mkdir()
            write(folder)
            return {path.name: _of_file(path) for path in sorted(folder.iterdir())}

        return self._keep(key, value, written)

    def _keep(self, key: str, value: Mapping[str, Any], write: Callable[[Path], dict[str, _File]]) -> Entry | None:
        folder = self._path(key)
        if folder.exists():
            return self.get(key)
        if self._failed:
            return None
        aside: Path | None = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
            files = write(aside / "files")
            hashes = {name: file.sha256 for name, file in files.items()}
            index = {"value": value, "value_sha256": _hash(_canonical(value)), "files": hashes}
            (aside / "entry.json").write_text(json.dumps(index))
            aside.rename(folder)
        except OSError as error:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
            if folder.exists():  # another run was first with the same entry
                return self.get(key)
            self._failed = True
            log.warning("the cache %s cannot be written (%s); this run goes on without it", self.folder, error)
            return None
        sizes = {name: file.size_bytes for name, file in files.items()}
        self._written += sum(sizes.values())
        if self._written > self._limit // 20:
            self._written = 0
            self.prune(self._limit)
        return Entry(value, StoredFiles(folder / "files", sizes, hashes))

    def hold(self) -> None:
        """From now until `release`, or the end of the process, no run drops what this one uses."""
        if self._release is not None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            file = os.fdopen(handle, "wb")
            fcntl.flock(file, fcntl.LOCK_EX)
            path = self.folder / Path(aside).name.replace(".new-", ".run-")
            Path(aside).rename(path)  # locked before it can be taken for one that a killed run left
        except OSError:
            return  # nothing can be written there, so nothing is dropped there by us either
        self._release = weakref.finalize(self, _let_go, path, file)

    def release(self) -> None:
        """Lets go of what was held, and makes the cache as small as it is to be."""
        if self._release is not None:
            self._release()
            self._release = None
            if self._over:
                self.prune(self._limit)

    def info(self) -> Info:
        """What the cache holds."""
        entries = list(self._entries())
        used = [at for at, _, _ in entries]
        total = sum(size for _, size, _ in entries)
        return Info(self.folder, len(entries), total, self._limit, min(used, default=None), max(used, default=None))

    def prune(self, limit_bytes: int | None = None, unused_s: float = math.inf) -> int:
        """Drops what was not used for `unused_s` seconds, then the least recently used until the rest fit.

        Gives the bytes that were freed. None: the cache's own limit. What runs under way have used stays, whatever its
        size; what a killed run left half-written goes, once it is a day old.
        """
        limit = self._limit if limit_bytes is None else limit_bytes
        for path in self.folder.glob(".new-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        held = self._held_since()
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        freed = 0
        for used, size, folder in entries:
            old = time.time() - used > unused_s
            if used >= held or not (old or total - freed > limit):
                break
            self._drop(folder)
            freed += size
        self._over = total - freed > limit
        return freed

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each entry was last used, its size and its folder."""
        for folder in self.folder.glob("??/*"):
            try:
                size = _size(str(folder))
                yield folder.stat().st_mtime, size, folder
            except OSError:
                continue  # another run has just dropped it

    def _held_since(self) -> float:
        """When the oldest of the runs under way began; those that were killed hold nothing."""
        since = math.inf
        for path in self.folder.glob(".run-*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    since = min(since, path.stat().st_mtime)
                else:
                    path.unlink(missing_ok=True)
        return since

    def _drop(self, folder: Path) -> None:
        """Takes an entry away at once, so that nobody reads half of it."""
        try:
            aside = tempfile.mkdtemp(prefix=".new-", dir=self.folder)
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


def default_folder() -> Path:
    """$RAYOPT_CACHE, or `rayopt` in the user's cache folder."""
    named = os.environ.get("RAYOPT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayopt"


def default_limit() -> int:
    """$RAYOPT_CACHE_LIMIT, or 5 GiB; raises InputError for what is no size."""
    named = os.environ.get("RAYOPT_CACHE_LIMIT")
    return parse_size(named, "RAYOPT_CACHE_LIMIT") if named else LIMIT_BYTES


def parse_size(text: str, place: str) -> int:
    """Bytes of `800 MB`, `5GiB` or `1000000`; raises InputError at `place`."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    unit = match[2].lower() if match else "?"
    if match is None or unit not in UNITS:
        raise input_error(place, f"{text!r} is no size", "write a number of bytes, or a size such as 800MB or 5GiB")
    return int(float(match[1]) * UNITS[unit])


def _let_go(path: Path, file: IO[bytes]) -> None:
    path.unlink(missing_ok=True)
    file.close()


def _written(path: Path, content: bytes) -> _File:
    path.parent.mkdir(parents=True, exist_ok=True)
    return _File(path.write_bytes(content), _hash(content))


def _of_file(path: Path) -> _File:
    """Read piece by piece: it may be larger than memory."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _File(file.tell(), sha256)


def _size(folder: str) -> int:
    """Bytes of all files below a folder; without a Path for each, as there may be very many entries."""
    with os.scandir(folder) as found:
        return sum(
            _size(one.path) if one.is_dir(follow_symlinks=False) else one.stat(follow_symlinks=False).st_size
            for one in found
        )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
