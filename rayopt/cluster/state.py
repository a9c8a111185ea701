"""What rayopt has started: a file for each cluster, whole or not there, and a lock against two at once."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayopt.cluster.files import ClusterFile
from rayopt.cluster.token import clusters_folder
from rayopt.errors import WorkError, input_error
from rayopt.runs.files import disk_errors


@dataclass(frozen=True)
class Started:
    """A cluster as it was started: `mark` is in the environment of every process of it, on every host."""

    name: str
    mark: str
    provider: str
    head: str
    hosts: tuple[str, ...]
    since: float
    file: str


def state_path(cluster: ClusterFile) -> Path:
    return clusters_folder() / f"{cluster.name}.json"


def new_mark() -> str:
    return secrets.token_hex(8)


def read_state(cluster: ClusterFile) -> Started | None:
    """What was started, None where nothing was; raises InputError for a file that is not ours."""
    path = state_path(cluster)
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Started(**{**read, "hosts": tuple(read["hosts"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        remedy = "see what runs on the hosts, then remove the file"
        raise input_error(str(path), "is not what rayopt has written", remedy) from error


def write_state(cluster: ClusterFile, started: Started) -> None:
    """Remembers a cluster, in a file for its owner alone."""
    path = state_path(cluster)
    with disk_errors(path):
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        with os.fdopen(handle, "w") as file:
            json.dump(dataclasses.asdict(started), file, indent=2)
        Path(aside).replace(path)


def drop_state(cluster: ClusterFile) -> None:
    state_path(cluster).unlink(missing_ok=True)


def known_state(cluster: ClusterFile) -> Started:
    """What was started; raises InputError where nothing was."""
    started = read_state(cluster)
    if started is None:
        problem = f"the cluster {cluster.name!r} was not started from here"
        raise input_error(str(cluster.path), problem, f"start it with `rayopt cluster up {cluster.path}`")
    return started


def head_of(cluster: ClusterFile) -> str:
    """The head's address: the file's, or the one that a cloud gave at `up`."""
    return cluster.head_ip or known_state(cluster).head


@contextlib.contextmanager
def only_one(cluster: ClusterFile, doing: str) -> Iterator[None]:
    """Holds the cluster's lock, which ends with the process; raises WorkError while another holds it."""
    path = clusters_folder() / f"{cluster.name}.lock"
    with disk_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = file.read().strip() or "another command"
            raise WorkError(f"{cluster.name}: {other} is at work on this cluster; wait until it has ended") from error
        file.truncate(0)
        file.write(f"{doing} (process {os.getpid()})")
        file.flush()
        yield
        file.truncate(0)
