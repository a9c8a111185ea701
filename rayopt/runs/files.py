"""Writing files so that a reader sees all of the old or all of the new, and a full disk is an error with a remedy."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rayopt.errors import input_error

BLOCK_BYTES = 1 << 23


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the disk says into an InputError that names the path and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        problem = "the disk is full" if full else f"cannot be written: {error.strerror or error}"
        remedy = "free some space or give another --out" if full else "give an --out that you may write to"
        raise input_error(str(path), problem, remedy) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the file at once, or leaves it as it was; raises InputError when the disk does not take it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).chmod(0o644)
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes several files; each of them is whole or not there."""
    for name, content in files.items():
        write_bytes(folder / name, content)


def is_inside(name: str) -> bool:
    """Whether a relative name stays below the folder that it is put into, on any system."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not set("\\\0:") & set(name) and len(name) < 1000


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> str:
    """Copies a file of any size, whole or not at all, and gives its SHA-256; raises InputError as `write_bytes`."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        total = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file, source.open("rb") as given:
                while block := given.read(BLOCK_BYTES):
                    file.write(block)
                    total.update(block)
            Path(aside).chmod(0o644)
            Path(aside).replace(target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    return total.hexdigest()
