"""Runs on a cluster's head: offers the files of a run folder among the head's logs, until it is told to stop.

python -m rayopt.cluster.sending LOGS FOLDER

Ray's dashboard gives out what lies among its logs, to whoever has the token. What is complete is offered as a link,
what may still grow as a copy; both go when this process does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayopt.cluster.submission import MANIFEST
from rayopt.runs.files import file_sha256
from rayopt.runs.remote import RemoteFolder, is_address, work_folder

OFFER_S = 3600
BROUGHT = ".brought"
GROWING = (".jsonl", ".txt")
ASIDE = "."  # what a run writes aside, and its lock, begin with this


def main(logs: str, folder: str) -> int:
    """Offers the folder; gives 3 where there is none."""
    source = work_folder(folder) if is_address(folder) else Path(folder).expanduser()
    if not source.is_dir() and not is_address(folder):
        print(f"there is no run folder {source}", flush=True)  # noqa: T201 - the log is what is read
        return 3
    aside = Path(tempfile.mkdtemp(prefix="rayopt-", dir=logs))
    try:
        if not source.is_dir():  # the run worked on another head
            source = aside / BROUGHT
            RemoteFolder(folder).bring_to(source)
        files = list(_offered(source, aside))
        print(f"{MANIFEST}{json.dumps([aside.name, files])}", flush=True)  # noqa: T201
        time.sleep(OFFER_S)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return 0


def _offered(source: Path, aside: Path) -> Iterator[tuple[str, int, str]]:
    """Puts every plain file of the run under its name into `aside`; gives names, bytes and hashes."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_symlink() or not path.is_file() or any(part.startswith(ASIDE) for part in name.parts):
            continue
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in GROWING:
            shutil.copyfile(path, target)
        else:
            target.symlink_to(path.resolve())
        yield name.as_posix(), target.stat().st_size, file_sha256(target)


def _end(number: int, frame: Any) -> None:
    sys.exit(0)


if __name__ == "__main__":
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(*sys.argv[1:]))
