"""The token of a cluster that rayopt has started: a file for its owner alone, one for each cluster."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from rayopt.cluster.files import ClusterFile
from rayopt.errors import input_error
from rayopt.runs.files import disk_errors

MIN_LENGTH = 32


def clusters_folder() -> Path:
    """Where rayopt remembers the clusters that it has started; nobody else may look into it."""
    folder = Path.home() / ".rayopt" / "clusters"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    return folder


def token_path(cluster: ClusterFile) -> Path:
    return clusters_folder() / f"{cluster.name}.token"


def token_of(cluster: ClusterFile) -> str:
    """The token of a cluster that is up; raises InputError where there is none or others could read it."""
    path = token_path(cluster)
    if not path.is_file():
        problem = f"there is no token of the cluster {cluster.name!r} here"
        raise input_error(str(path), problem, f"start it with `rayopt cluster up {cluster.path}`")
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in a file; raises InputError for one that others could read, or that holds no token."""
    with disk_errors(path):
        if path.stat().st_mode & 0o077:
            raise input_error(
                str(path),
                "others can read this token",
                f"chmod 600 {path}, end the cluster with `down`, and start it anew",
            )
        token = path.read_text(encoding="utf-8", errors="replace").strip()  # what is no text is no token below
    if len(token) < MIN_LENGTH or not token.isascii() or not token.isprintable():
        raise input_error(str(path), "holds no token", "end the cluster with `down`, and start it anew")
    return token


def make_token(cluster: ClusterFile) -> str:
    """The cluster's token, made now where there is none yet."""
    path = token_path(cluster)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_token(path)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return read_token(path)


def drop_token(cluster: ClusterFile) -> None:
    token_path(cluster).unlink(missing_ok=True)
