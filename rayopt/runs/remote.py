"""A run folder that is kept at an address, s3:// or gs://, through the filesystem layer that Ray itself uses (pyarrow).

The run works in a folder of this machine, and what it finishes there is copied to the address as it goes: each file is
written aside and moved, the summary comes last. A run that starts without the folder gets what the address has.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rayopt.errors import InputError, WorkError, did_you_mean, input_error
from rayopt.runs.cache import default_folder
from rayopt.runs.files import BLOCK_BYTES, disk_errors, is_inside, write_json

SCHEMES = ("s3", "gs")
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.+)")
BETWEEN_S = 5.0  # how often what is new is copied while the run goes on
TRIES, WAIT_S = 4, 1.0  # at the end, and each time twice as long
LAST = ("report.html", "summary.json")  # who finds a summary finds all that it names
OWNER = ".owner.json"  # says which run writes there: one that was taken for dead must not write over its successor
ASIDE = ".aside-"
log = logging.getLogger(__name__)


def is_address(out: object) -> bool:
    """Whether an --out is an address and no local path."""
    return isinstance(out, str) and ADDRESS.match(out) is not None


def work_folder(uri: str) -> Path:
    """The folder of this machine that the runs kept at an address work in."""
    uri = uri.rstrip("/")
    place = re.sub(r"[^A-Za-z0-9.-]+", "-", uri.partition("?")[0])[:80]
    return default_folder() / "work" / f"{place}-{uuid.uuid5(uuid.NAMESPACE_URL, uri).hex[:12]}"


class RemoteFolder:
    """`uri` is where the run is kept, `work` the folder of this machine that it works in."""

    def __init__(self, uri: str) -> None:
        """Raises InputError for an address that there cannot be, without looking whether somebody is there."""
        self.uri = uri.rstrip("/")
        self._fs, self._root = _opened(self.uri)
        self.work = work_folder(self.uri)
        self._run = uuid.uuid4().hex
        self._lock: IO[bytes] | None = None
        self._sent: dict[str, tuple[int, int]] = {}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Holds the address for one run, and brings what it has to `work` where that is not newer already.

        Raises InputError where nobody is there, or nothing may be written, or another run of this machine is at work.
        """
        self._take_lock()
        try:
            with self._as_input():
                self._bring()
            yield
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    @contextlib.contextmanager
    def mirrored(self) -> Iterator[None]:
        """Copies what is new for as long as the context lasts, and all of it at its end.

        Raises WorkError where the address does not take it in the end; `work` has it then, for the same run again.
        """
        if not (self.work / "summary.json").exists():
            with self._as_input():  # of another job, which is replaced
                self._delete([name for name in LAST if name in self._names()])
        over = threading.Event()
        thread = threading.Thread(target=self._copy_until, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._copy_last()

    def bring_to(self, folder: Path) -> None:
        """Copies what the address has into a folder; raises InputError where nobody is there."""
        with self._as_input():
            for name in self._names():
                self._get(name, folder / name)

    def _bring(self) -> None:
        """What the address has, unless the last run that wrote there worked here: then all of it is here already."""
        owner = self._owner()
        mine = self.work.with_name(f"{self.work.name}{OWNER}")
        ours = owner is not None and mine.is_file() and owner in json.loads(mine.read_text())
        if not ours:
            aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.work.parent))
            try:
                for name in self._names() if owner is not None else ():
                    self._get(name, aside / name)
                shutil.rmtree(self.work, ignore_errors=True)
                aside.rename(self.work)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        told = {"run": self._run, "host": socket.gethostname(), "pid": os.getpid()}
        write_json(mine, [owner, told] if ours else [told])  # first, and with both: this may break off at any line
        self._put_bytes(OWNER, json.dumps(told).encode())

    def _copy_until(self, over: threading.Event) -> None:
        while not over.wait(BETWEEN_S):
            try:
                self._copy(without=LAST)
            except (OSError, InputError) as error:
                log.warning("%s does not take files just now (%s); they are kept in %s", self.uri, error, self.work)
            except WorkError as error:
                log.warning("%s", error)
                return

    def _copy_last(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._copy(without=LAST)
                there = self._names()
                for name in LAST:
                    if (self.work / name).is_file():
                        self._put(name)
                self._delete([name for name in there if not (self.work / name).is_file()])
                return
            except (OSError, InputError) as error:
                if not left:
                    problem = f"{self.uri} does not take the results ({_reason(error)}); they are kept in {self.work}"
                    raise WorkError(f"{problem}, and the same command goes on from there") from error
                time.sleep(WAIT_S * 2 ** (TRIES - 1 - left))

    def _copy(self, without: tuple[str, ...]) -> None:
        """Copies what has changed since it was last copied."""
        self._check_owner()
        for path in sorted(self.work.rglob("*")):
            name = path.relative_to(self.work).as_posix()
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if hidden or name in without or path.is_symlink() or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):  # a run may take an artifact away
                found = path.stat()
                if self._sent.get(name) != (found.st_mtime_ns, found.st_size):
                    self._put(name)
                    self._sent[name] = (found.st_mtime_ns, found.st_size)

    def _put(self, name: str) -> None:
        """Copies a file as it is now, whole or not at all; what it grows by meanwhile comes the next time."""
        aside = self._at(f"{PurePosixPath(name).parent}/{ASIDE}{self._run[:8]}-{PurePosixPath(name).name}")
        path = self.work / name
        left = size = path.stat().st_size
        with path.open("rb") as file, self._fs.open_output_stream(aside) as stream:
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                stream.write(block)
                left -= len(block)
        self._move(aside, name, size - left)

    def _put_bytes(self, name: str, content: bytes) -> None:
        aside = self._at(f"{ASIDE}{self._run[:8]}-{name}")
        with self._fs.open_output_stream(aside) as stream:
            stream.write(content)
        self._move(aside, name, len(content))

    def _move(self, aside: str, name: str, size: int) -> None:
        """A stream that breaks may leave what it had taken by then as if that were all."""
        if self._fs.get_file_info(aside).size != size:
            raise OSError(f"{name} has not arrived whole")
        self._fs.move(aside, self._at(name))

    def _get(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._fs.open_input_stream(self._at(name)) as stream, target.open("wb") as file:
            while block := stream.read(BLOCK_BYTES):
                file.write(block)

    def _names(self) -> list[str]:
        """The run's files at the address, and what was left aside there; no name that would leave a folder is one."""
        from pyarrow.fs import FileSelector, FileType

        found = self._fs.get_file_info(FileSelector(self._root, allow_not_found=True, recursive=True))
        names = [one.path[len(self._root) + 1 :] for one in found if one.type == FileType.File]
        return [name for name in names if name != OWNER and is_inside(name)]

    def _delete(self, names: list[str]) -> None:
        for name in names:
            self._fs.delete_file(self._at(name))

    def _owner(self) -> dict[str, Any] | None:
        """Which run writes there, None where none ever did; raises InputError where something else lies there."""
        from pyarrow.fs import FileType

        if self._fs.get_file_info(self._at(OWNER)).type == FileType.File:
            with self._fs.open_input_stream(self._at(OWNER)) as stream:
                read: dict[str, Any] = json.loads(stream.read())
                return read
        if self._names():
            raise input_error(self.uri, "holds files that are not a run's", "give an empty or new address with --out")
        return None

    def _check_owner(self) -> None:
        owner = self._owner()
        if owner is None or owner.get("run") != self._run:
            who = f"a run on {owner.get('host')}" if owner else "somebody"
            raise WorkError(f"{self.uri}: {who} has taken this over; this run writes nothing there any more")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name.removeprefix('./')}"

    def _take_lock(self) -> None:
        with disk_errors(self.work):
            self.work.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self.work.with_name(f"{self.work.name}.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise input_error(self.uri, "is in use by another run", "wait for it, or give another --out") from error

    @contextlib.contextmanager
    def _as_input(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "check the address, and what you may do there (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)"
            raise input_error(f"--out {self.uri}", f"cannot be used: {_reason(error)}", remedy) from error


def _opened(uri: str) -> tuple[Any, str]:
    match = ADDRESS.match(uri)
    if match is None or match[1] not in SCHEMES:
        remedy = did_you_mean(match[1] if match else uri, SCHEMES)
        raise input_error(f"--out {uri}", "is no address that results can be kept at", f"{remedy}; or give a folder")
    if "@" in match[2].partition("/")[0]:
        remedy = "leave it out, and give it by the environment (AWS_ACCESS_KEY_ID, ...)"
        raise input_error(f"--out {match[1]}://...", "holds a password", remedy)
    from pyarrow.fs import FileSystem

    try:
        fs, root = FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise input_error(f"--out {uri}", f"cannot be used: {_reason(error)}", "check the address") from error
    if "/" not in root.strip("/"):
        raise input_error(f"--out {uri}", "is a whole bucket", "name a folder in it")
    return fs, root.rstrip("/")


def _reason(error: BaseException) -> str:
    """The first line of what a library says."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
