"""Results by the content of what they were made from: the same work is never done twice, on any run of any job.

An entry is a folder named by its key: `entry.json` and files. It is written aside and renamed, checked against its
hashes when read (a damaged one is dropped and made again), and the least recently used go when the cache is full.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_BYTES = 5 << 30
ABANDONED_S = 24 * 3600
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A JSON-able value and files."""

    value: Mapping[str, Any]
    files: Mapping[str, bytes]


class Cache:
    """Safe for several runs at once. A cache that cannot be written is a slower run, not a failed one."""

    def __init__(self, folder: str | Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self._limit = limit_bytes
        self._failed = False
        self._written = limit_bytes  # by earlier runs, for all that is known: the first entry looks after the limit

    def get(self, key: str) -> Entry | None:
        """The entry of a key, None where there is none or it is damaged."""
        folder = self._path(key)
        if not folder.is_dir():
            return None
        try:
            index = json.loads((folder / "entry.json").read_bytes())
            value = index["value"]
            if index["value_sha256"] != _hash(_canonical(value)):
                raise ValueError("value")
            files = {}
            for name, sha256 in index["files"].items():
                files[name] = (folder / "files" / name).read_bytes()
                if _hash(files[name]) != sha256:
                    raise ValueError(name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("cache entry %s is damaged (%s) and is made again", key[:12], error)
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is of use too
            os.utime(folder)
        return Entry(value, files)

    def put(self, key: str, entry: Entry) -> None:
        """Keeps an entry; one that is there already stays."""
        folder = self._path(key)
        if self._failed or folder.exists():
            return
        index = {
            "value": entry.value,
            "value_sha256": _hash(_canonical(entry.value)),
            "files": {name: _hash(content) for name, content in entry.files.items()},
        }
        aside: Path | None = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
            for name, content in entry.files.items():
                target = aside / "files" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            (aside / "entry.json").write_text(json.dumps(index))
            aside.rename(folder)
        except OSError as error:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
            if not folder.exists():  # otherwise another run was first with the same entry
                self._failed = True
                log.warning("the cache %s cannot be written (%s); this run goes on without it", self.folder, error)
            return
        self._written += sum(map(len, entry.files.values()))
        if self._written > self._limit // 20:
            self._written = 0
            self.prune(self._limit)

    def prune(self, limit_bytes: int) -> int:
        """Drops the least recently used entries until the rest fit; gives the bytes that were freed.

        What a killed run left half-written goes as well, once it is a day old.
        """
        for folder in self.folder.glob(".new-*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)
        entries = []
        for folder in self.folder.glob("??/*"):
            try:
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                entries.append((folder.stat().st_mtime, size, folder))
            except OSError:
                continue  # another run has just dropped it
        total = sum(size for _, size, _ in entries)
        freed = 0
        for _, size, folder in sorted(entries):
            if total - freed <= limit_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            freed += size
        return freed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


def default_folder() -> Path:
    """$RAYOPT_CACHE, or `rayopt` in the user's cache folder."""
    named = os.environ.get("RAYOPT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayopt"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
