"""What rayopt asks of a host, as a program that is sent there whole: the standard library alone, nothing to install.

`facts` (versions, addresses, what runs of a cluster), `listening` (who listens), `keep` (secret files), `stop` (ends
what carries a cluster's mark, and nothing else). The question comes with the program, by stdin:
what is in argv is seen by all.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MARK = "RAYOPT_CLUSTER"
NAME = "RAYOPT_CLUSTER_NAME"
GRACE_S = 1.5  # a raylet whose GCS ends at the same time never ends politely
DASHBOARD = "dashboard.py"
ASK_S = 2.0
LISTEN = "0A"  # TCP's state in /proc/net/tcp


def facts(mark: str, libraries: list[str], name: str = "", private: Sequence[str] = ()) -> dict[str, Any]:
    """What a host has, and what of the marked cluster runs there; a node lives as long as its raylet does.

    `others`: how many processes there belong to clusters of that name with other marks. `too_open`: the modes of those
    `private` files that others than their owner may use.
    """
    ours = marked(mark) if mark else set()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "host": socket.gethostname(),
        "addresses": sorted(addresses()),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_bytes": _free_bytes(),
        "versions": {name: found for name in libraries if (found := version_of(name))},
        "sources": sources_of("rayopt"),
        "marked": len(ours),
        "raylet": any(_comm(pid) == "raylet" for pid in ours),
        "others": len(_others(name, mark)) if name else 0,
        "too_open": {path: mode for path in private if (mode := _mode(path)) & 0o077},
    }


def _mode(path: str) -> int:
    """Who may use a file; nobody where there is none."""
    with contextlib.suppress(OSError):
        return Path(path).expanduser().stat().st_mode & 0o777
    return 0


def version_of(name: str) -> str:
    """The installed version of a distribution, empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def sources_of(package: str) -> str:
    """A short hash of a package's Python files: two copies of one version may differ."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    folder = Path(found.origin).parent
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda one: one.relative_to(folder).as_posix()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def keep(files: dict[str, str]) -> dict[str, Any]:
    """Writes files for their owner alone, each whole or not at all."""
    for path, content in files.items():
        _write(Path(path).expanduser(), content)
    return {"kept": len(files)}


def _write(at: Path, content: str) -> None:
    at.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = at.with_name(f".{at.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)
    aside.replace(at)


def stop(mark: str, remove: list[str]) -> dict[str, Any]:
    """Ends every process of a cluster, and no other: politely, then at once; then removes files."""
    ended: set[int] = set()
    deadline = time.monotonic() + GRACE_S
    while (found := marked(mark)) and time.monotonic() < deadline + GRACE_S:
        late = time.monotonic() > deadline
        ended |= _send(found if late else found - ended, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)
    for path in remove:
        Path(path).expanduser().unlink(missing_ok=True)
    return {"ended": len(ended), "left": len(marked(mark))}


def marked(mark: str) -> set[int]:
    """The processes of a cluster: its mark is in the environment that they were started with, or their parent's is.

    A process may overwrite its environment by a long title, as Ray's do; its parent is then still known by the mark.
    """
    wanted = f"{MARK}={mark}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(folder.name)] = int(parent)
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _others(name: str, mark: str) -> set[int]:
    """The processes of clusters of that name that another client has started."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (folder / "environ").read_bytes().split(b"\0")
                if f"{NAME}={name}".encode() in words and f"{MARK}={mark}".encode() not in words:
                    found.add(int(folder.name))
    return found


def listening(mark: str) -> dict[str, Any]:
    """Every TCP port that is listened on: address, port, process, and whether it belongs to the marked cluster.

    `lets_in`: it is a dashboard that answers whoever asks.
    """
    owners = _owners()
    ours = marked(mark) if mark else set()
    rows = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTEN:
                    address, port = address_of(words[1])
                    pid = owners.get(words[9], 0)
                    row = {"address": address, "port": port, "pid": pid, "name": _title(pid), "ours": pid in ours}
                    rows.append({**row, "lets_in": row["name"] == DASHBOARD and _lets_in(address, port)})
    return {"ports": sorted(rows, key=lambda row: (row["port"], row["address"]))}


def _lets_in(address: str, port: int) -> bool:
    """Whether a dashboard lists its jobs for somebody who shows no token."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
    asked = http.client.HTTPConnection(host, port, timeout=ASK_S)
    try:
        asked.request("GET", "/api/jobs/")
        return asked.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def _send(pids: set[int], number: signal.Signals) -> set[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return pids


def addresses() -> set[str]:
    """The host's own IPv4 addresses, from the kernel's table of local routes, and IPv6 ones."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        last = ""
        for line in Path("/proc/net/fib_trie").read_text().splitlines():
            if "|--" in line:
                last = line.split()[-1]
            elif "host LOCAL" in line:
                found.add(last)
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    return found


def _free_bytes() -> int:
    space = os.statvfs("/tmp")  # noqa: S108 - where Ray keeps its sessions
    return space.f_bavail * space.f_frsize


def _owners() -> dict[str, int]:
    """Which process holds the socket of an inode; those of other users stay unknown."""
    found: dict[str, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                for link in (folder / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        target = str(link.readlink())
                        if target.startswith("socket:["):
                            found[target[8:-1]] = int(folder.name)
    return found


def _comm(pid: int) -> str:
    """The name of a process's program, as the kernel has it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def address_of(text: str) -> tuple[str, int]:
    """`0100007F:1F90` as ("127.0.0.1", 8080): words of four bytes in the machine's order."""
    address, port = text.split(":")
    raw = bytes.fromhex(address)
    words = b"".join(
        raw[at : at + 4][::-1] if sys.byteorder == "little" else raw[at : at + 4] for at in range(0, len(raw), 4)
    )
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words), int(port, 16)


def _title(pid: int) -> str:
    """What a process is: its title or program, and for Python the script."""
    with contextlib.suppress(OSError):
        words = [
            word.decode(errors="replace") for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word
        ]
        if words and "python" in words[0]:
            scripts = [Path(word).name for word in words[1:] if word.endswith(".py")]
            modules = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "-m"]
            return (modules + scripts + [Path(words[0]).name])[0]
        if words:
            return Path(words[0].split()[0].rstrip(":")).name
    return ""


DOES: dict[str, Callable[..., dict[str, Any]]] = {"facts": facts, "keep": keep, "stop": stop, "listening": listening}


def main(question: str) -> None:
    """Answers a question; the call of this function is the last line of what is sent."""
    asked = json.loads(question)
    print(json.dumps(DOES[asked.pop("do")](**asked)))  # noqa: T201 - the answer
