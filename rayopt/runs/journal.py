"""An append-only file of JSON lines. A line that was torn by a crash is passed over; the others stay readable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayopt.runs.files import disk_errors


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole line of the journal, oldest first; no file means no lines."""
    return _entries(path.read_bytes()) if path.is_file() else []


def read_on(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The lines that were ended since `offset` bytes, and where the next ones begin."""
    if not path.is_file():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        new = file.read()
    new = new[: new.rfind(b"\n") + 1]
    return _entries(new), offset + len(new)


def _entries(content: bytes) -> list[dict[str, Any]]:
    entries = []
    for line in content.decode("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds one line and waits until the disk has it; a torn line before it is closed off first.

    A line that the disk does not take whole is taken back.
    """
    line = json.dumps(entry, allow_nan=False).encode() + b"\n"
    with disk_errors(path), path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
