"""Who listens at a port: a token is not sent to one that another user of the host has taken."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from rayopt.errors import WorkError

ROOT = 0  # may read the token anyway; the proxies of container runtimes run so
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTENS = "0A"  # TCP's state in these tables


def holders(lines: Iterable[str], port: int) -> set[int]:
    """The numbers of the users who listen at a TCP port, on any address, by lines of the kernel's tables."""
    wanted = f"{port:04X}"
    found = set()
    for line in lines:
        words = line.split()
        if len(words) > 7 and words[3] == LISTENS and words[1].rpartition(":")[2] == wanted:
            found.add(int(words[7]))
    return found


def refuse_others(lines: Iterable[str], user: int, host: str, port: int) -> None:
    """Raises WorkError where somebody else than this user or root listens at the port."""
    others = holders(lines, port) - {user, ROOT}
    if others:
        who = ", ".join(map(str, sorted(others)))
        problem = f"another user (uid {who}) listens at port {port}, where the dashboard should be"
        raise WorkError(f"{host}: {problem}; the token was not sent there: end that process, or use another port")


def refuse_others_here(port: int) -> None:
    """The same for this machine; where the kernel has no such tables nothing is known and nothing refused."""
    lines: list[str] = []
    for table in TABLES:
        with contextlib.suppress(OSError):
            lines += Path(table).read_text().splitlines()
    refuse_others(lines, os.getuid(), "this machine", port)
