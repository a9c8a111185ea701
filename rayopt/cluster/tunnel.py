"""A way from here to the dashboard of a cluster, which listens on its head's loopback alone."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterator

from rayopt.cluster.files import ClusterFile
from rayopt.cluster.ssh import CONNECT_S, Remote, trouble_of
from rayopt.cluster.state import head_of
from rayopt.errors import WorkError

READY = b"rayopt: the tunnel is open\n"
TRIES = 3  # another program may take the free port before ssh does


@contextlib.contextmanager
def open_tunnel(cluster: ClusterFile, port: int | None = None) -> Iterator[str]:
    """The address of the head's dashboard from here, `http://127.0.0.1:PORT`, for as long as the context lasts.

    The tunnel ends with this process, however that ends. Raises WorkError where the head cannot be reached.
    """
    head = Remote(cluster, head_of(cluster))
    if head.here:
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
    """Starts ssh and waits for its word that the way is open; the far `cat` ends when we do, and ssh with it."""
    way = f"127.0.0.1:{at}:127.0.0.1:{head.cluster.dashboard_port}"
    options = ("-o", "ExitOnForwardFailure=yes", "-L", way)
    process = subprocess.Popen(
        head.argv(f"printf '{READY.decode().strip()}\\n'; exec cat >/dev/null", options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        start_new_session=True,  # Ctrl-C is for whoever uses the tunnel
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018, S101 - for mypy
    ready, _, _ = select.select([process.stdout], [], [], 3 * CONNECT_S)
    if ready and process.stdout.readline().endswith(READY):
        return process, ""
    process.kill()
    err = process.stderr.read().decode(errors="replace")
    _close(process)
    return None, err if ready else f"{err}\ntimed out"


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
