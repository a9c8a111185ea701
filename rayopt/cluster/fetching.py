"""A run folder that comes home from a cluster: files are held against their hashes, and put in place all at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rayopt.cluster.submission import SentFile
from rayopt.errors import WorkError, input_error
from rayopt.runs.files import disk_errors
from rayopt.runs.folder import RunFolder

Download = Callable[[str], Iterator[bytes]]


def fetch(download: Download, files: Sequence[SentFile], target: Path, name: str, overwrite: bool) -> None:
    """Brings the files into `target`, which is as it was until all of them are there.

    Raises InputError where `target` holds something else, WorkError where a file is not what was offered.
    """
    with arriving(target, name, overwrite) as folder:
        for file in files:
            _write(download(file.path), file, folder)


@contextlib.contextmanager
def arriving(target: Path, name: str, overwrite: bool) -> Iterator[Path]:
    """A folder beside `target` to put a run into; once the context ends well it takes the place of `target`."""
    target = Path(os.path.normpath(target.absolute()))
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield aside
        aside.chmod(0o755)
        _put_in_place(aside, target, name, overwrite)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(folder: Path, target: Path, name: str, overwrite: bool) -> None:
    owner = RunFolder(folder).owner()
    if owner is None:
        raise input_error(name, "has no run to fetch yet", f"see `rayopt jobs logs {name}`")
    there = RunFolder(target)
    there.claim(owner, name, overwrite)
    try:
        with disk_errors(target):
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.rename(old)
            folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        there.release()


def _write(blocks: Iterator[bytes], file: SentFile, folder: Path) -> None:
    path, total, size = folder / file.path, hashlib.sha256(), 0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as written:
            for block in blocks:
                size += len(block)
                if size > file.size_bytes:
                    break
                total.update(block)
                written.write(block)
    if size != file.size_bytes or total.hexdigest() != file.sha256:
        raise WorkError(f"{file.path} has changed while it was fetched; fetch it again")
