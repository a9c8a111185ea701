"""A way from here to the dashboard of a cluster, which listens on its head's loopback alone."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from typing import IO

from rayopt.cluster.files import ClusterFile
from rayopt.cluster.holders import HERE, LISTENS, TABLES, refuse_others, refuse_others_here
from rayopt.cluster.ssh import CONNECT_S, Remote, trouble_of
from rayopt.cluster.state import head_of
from rayopt.errors import WorkError

READY = b"rayopt: the tunnel is open\n"
# Says who listens there, then that the way is open; `cat` ends when we do, and ssh with it.
FAR = f"grep -hs ' {LISTENS} ' {' '.join(TABLES)}; id -u; printf '{READY.decode().strip()}\\n'; exec cat >/dev/null"
TRIES = 3  # another program may take the free port before ssh does


@contextlib.contextmanager
def open_tunnel(cluster: ClusterFile, port: int | None = None) -> Iterator[str]:
    """The address of the head's dashboard from here, `http://127.0.0.1:PORT`, for as long as the context lasts.

    The tunnel ends with this process, however that ends. Raises WorkError where the head cannot be reached, and where
    another user of it listens at the dashboard's port.
    """
    head = Remote(cluster, head_of(cluster))
    if head.here:
        refuse_others_here(HERE, cluster.dashboard_port)
        yield f"http://127.0.0.1:{cluster.dashboard_port}"
        return
    process, at = _opened(head, port)
    try:
        yield f"http://127.0.0.1:{at}"
    finally:
        _close(process)


def _opened(head: Remote, port: int | None) -> tuple[subprocess.Popen[bytes], int]:
    for left in reversed(range(TRIES)):
        at = port or _free_port()
        process, err = _open_once(head, at)
        if process is not None:
            return process, at
        taken = "ddress already in use" in err or "cannot listen" in err
        if not taken or port is not None or not left:
            break
    trouble = f"port {at} is taken here" if taken else " ".join(trouble_of(err, head.host)[:1])
    raise WorkError(f"{head.host}: no tunnel to the dashboard: {trouble}")


def _open_once(head: Remote, at: int) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Starts ssh and waits for its word that the way is open."""
    way = f"127.0.0.1:{at}:127.0.0.1:{head.cluster.dashboard_port}"
    options = ("-o", "ExitOnForwardFailure=yes", "-L", way)
    process = subprocess.Popen(
        head.argv(FAR, options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        start_new_session=True,  # Ctrl-C is for whoever uses the tunnel
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018, S101 - for mypy
    ready, _, _ = select.select([process.stdout], [], [], 3 * CONNECT_S)
    said = _said(process.stdout) if ready else None
    if said is not None:
        try:
            refuse_others(said, int(said[-1]), head.host, head.cluster.dashboard_port)
        except BaseException:
            _close(process)
            raise
        return process, ""
    process.kill()
    err = process.stderr.read().decode(errors="replace")
    _close(process)
    return None, err if ready else f"{err}\ntimed out"


def _said(far: IO[bytes]) -> list[str] | None:
    """The lines before the word that the way is open; None where it never came."""
    lines: list[str] = []
    for line in far:
        if line.endswith(READY):
            return lines
        lines.append(line.decode(errors="replace"))
    return None


def _close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
