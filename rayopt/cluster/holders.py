"""Who listens at a port: a token is not sent to one that another user of the host has taken."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from rayopt.cluster import on_host
from rayopt.errors import WorkError

ROOT = 0  # may read the token anyway; the proxies of container runtimes run so
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTENS = on_host.LISTEN
HERE = "127.0.0.1"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TakenError(WorkError):
    """Another user listens where the dashboard should be."""


def holders(lines: Iterable[str], address: str, port: int) -> set[int]:
    """The numbers of the users who may be reached at a TCP address of a host, by lines of its kernel's tables."""
    wanted, found = _plain(ipaddress.ip_address(address)), set()
    for line in lines:
        words = line.split()
        if len(words) > 7 and words[3] == LISTENS:
            there, number = on_host.address_of(words[1])
            at = _plain(ipaddress.ip_address(there))
            if number == port and (at == wanted or at.is_unspecified or wanted.is_unspecified):
                found.add(int(words[7]))
    return found


def refuse_others(lines: Iterable[str], user: int, host: str, port: int, address: str = HERE) -> None:
    """Raises TakenError where somebody else than this user or root listens at the address."""
    others = holders(lines, address, port) - {user, ROOT}
    if others:
        who = ", ".join(map(str, sorted(others)))
        problem = f"another user (uid {who}) listens at port {port}, where the dashboard should be"
        raise TakenError(f"{host}: {problem}; the token was not sent there: end that process, or use another port")


def refuse_others_here(address: str, port: int) -> None:
    """The same for an address of this machine; for others, and without the kernel's tables, nothing is known."""
    try:
        at = _plain(ipaddress.ip_address(address))
    except ValueError:  # such as one of IPv6 with a zone
        return
    if not (at.is_loopback or at.is_unspecified or str(at) in on_host.addresses()):
        return
    lines: list[str] = []
    for table in TABLES:
        with contextlib.suppress(OSError):
            lines += Path(table).read_text().splitlines()
    refuse_others(lines, os.getuid(), "this machine", port, str(at))


def _plain(address: Address) -> Address:
    """IPv4 as such where it is written as IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
