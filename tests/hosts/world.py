"""Several hosts on one machine, made of Linux namespaces: a switch, and hosts with sshd whose plugs can be pulled.

Each host has its own network, processes, mounts, name, IPC, home, /tmp, /run and /dev/shm; it sees this machine's files
read-only, so that all hosts have the same Python. All of a host is one init's family: killing that ends everything, and
the kernel takes the network away with it, so that nothing is left even where these tests are killed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TOOLS = ("ip", "mount", "nft", "nsenter", "setpriv", "ssh", "ssh-keygen", "rsync", "unshare", "/usr/sbin/sshd")
NAMES = ("head", "one", "two", "client", "stranger")
NETWORK = "10.77.0"
SHM_BYTES = 8 << 30  # as much as is written is taken, no more
MINE = ("setpriv", "--pdeathsig", "KILL")  # what is started so ends when these tests end, however they do
START_S = 20.0


def missing() -> str:
    """Why there can be no hosts here; empty where there can."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root makes namespaces"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}; apt-get install openssh-server rsync iproute2 nftables"
    tried = subprocess.run(["unshare", *KINDS, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


KINDS = ("--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc")

# The init of a host. What it keeps of the folders that it covers is held open, and bound into the new ones.
INIT = """
set -e
hostname "$NAME"
number=10
for path in $KEPT; do eval "exec $number<\\"$path\\""; number=$((number + 1)); done
mount -o remount,bind,ro /
for folder in /tmp /run "$HOME"; do mount -t tmpfs -o mode=755,nosuid tmpfs "$folder"; done
chmod 1777 /tmp
chmod 700 "$HOME"
mount -t tmpfs -o "mode=1777,size=$SHM_BYTES" tmpfs /dev/shm
number=10
for path in $KEPT; do
    mkdir -p "$path"
    mount -c --bind "/proc/self/fd/$number" "$path"
    mount -o remount,bind,ro "$path"
    eval "exec $number<&-"
    number=$((number + 1))
done
mkdir -p /run/sshd /run/files "$HOME/.ssh"
printf '%s' "$HOSTS" > /run/files/hosts
: > /run/files/resolv.conf
mount --bind /run/files/hosts /etc/hosts
mount --bind /run/files/resolv.conf /etc/resolv.conf
printf '%s\\n' "$AUTHORIZED" > "$HOME/.ssh/authorized_keys"
printf '%s\\n' "$HOST_KEY" > /run/files/host_key
chmod 600 "$HOME/.ssh/authorized_keys" /run/files/host_key
echo ready
read -r go
/usr/sbin/sshd -D -f /dev/null -h /run/files/host_key -o UsePAM=no -o PasswordAuthentication=no -o UseDNS=no \
    -o PrintMotd=no -o PrintLastLog=no -o PidFile=none -o Subsystem="sftp internal-sftp" -o MaxStartups=100 \
    -o MaxSessions=100 -E /run/files/sshd.log </dev/null >/dev/null 2>&1 &
wait
"""


class Host:
    """One host; its commands run as root in all of its namespaces, with nothing of this process's environment."""

    def __init__(self, name: str, address: str, root: Path) -> None:
        self.name = name
        self.address = address
        self.alive = False
        self.home = Path.home()
        self.root = root  # of the world: the keys are there
        self._unshare: subprocess.Popen[str] | None = None
        self.init = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "USER": "root",
            "LANG": "C.UTF-8",
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(REPOSITORY),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def argv(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, where: Path | None = None
    ) -> list[str]:
        """The words that run a command inside, in the home or the folder `where`."""
        given = [f"{key}={value}" for key, value in {**self.environment, **(env or {})}.items()]
        inside = ["env", "-i", *given, *map(str, command)]
        return ["nsenter", f"--target={self.init}", *SPACES, f"--wdns={where or self.home}", *inside]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        where: Path | None = None,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end, as `subprocess.run` does with text and both streams taken."""
        done = subprocess.run(
            self.argv(argv, env, where), check=False, capture_output=True, text=True, **{"timeout": 120, **options}
        )
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            raise AssertionError(f"{self.name}: {shlex.join(map(str, argv))} ended with {done.returncode}:\n{said}")
        return done

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        where: Path | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Starts a command inside; killing it leaves what it started inside alone."""
        return subprocess.Popen(self.argv(argv, env, where), text=True, **options)

    def write(self, path: Path | str, content: str | bytes, mode: int = 0o644) -> None:
        """Writes a file inside; a relative path is one of the home's."""
        data = content.encode() if isinstance(content, str) else content
        at = self.home / path
        command = f'mkdir -p "{at.parent}" && cat > "{at}" && chmod {mode:o} "{at}"'
        subprocess.run(self.argv(["bash", "-c", command]), input=data, check=True, timeout=60)

    def read(self, path: Path | str) -> str:
        return self.run(["cat", self.home / path]).stdout

    def processes(self) -> dict[int, str]:
        """The command lines of what runs inside besides the init, sshd and this question."""
        listed = self.run(["ps", "-eo", "pid=,args="]).stdout.splitlines()
        found = {int(pid): words for pid, _, words in (line.strip().partition(" ") for line in listed)}
        mine = ("ps -eo", "sshd", "[", "bash -c \nset -e\nhostname")
        return {pid: words.strip() for pid, words in found.items() if pid != 1 and not words.strip().startswith(mine)}

    def start(self, settings: Mapping[str, str]) -> None:
        """Starts the init, which waits for its network."""
        self._unshare = subprocess.Popen(
            [*MINE, "unshare", *KINDS, "bash", "-c", INIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, "NAME": self.name, **settings},
        )

    def wait_ready(self) -> None:
        out, _ = self._pipes()
        process = self._unshare
        if out.readline() != "ready\n":
            said = process.stderr.read() if process and process.stderr else ""
            raise AssertionError(f"{self.name} did not start: {said}")
        pid = process.pid if process else 0
        self.init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        self.alive = True

    def go(self) -> None:
        _, into = self._pipes()
        into.write("go\n")
        into.flush()

    def reaches(self, other: Host, port: int = 22) -> bool:
        """Whether this host can connect to a port of another within a second."""
        command = ["timeout", "1", "bash", "-c", f"</dev/tcp/{other.address}/{port}"]
        return self.run(command, check=False).returncode == 0

    def end(self) -> None:
        """Kills the init, and with it all that runs inside."""
        self.alive = False
        process, init = self._unshare, self.init
        self._unshare, self.init = None, 0
        if init:
            os.kill(init, signal.SIGKILL)
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):
                    if stream is not None:
                        stream.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._unshare is not None
        assert self._unshare.stdout is not None
        assert self._unshare.stdin is not None
        return self._unshare.stdout, self._unshare.stdin


SPACES = ("--net", "--pid", "--mount", "--uts", "--ipc")


class World:
    """A switch with hosts on it; those of `NAMES` unless others are given."""

    def __init__(self, folder: Path, names: Iterable[str] = NAMES) -> None:
        self.folder = folder
        self.hosts = {name: Host(name, f"{NETWORK}.{10 + n}", folder) for n, name in enumerate(names)}
        self._switch: subprocess.Popen[bytes] | None = None

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every host and the switch; whatever they had goes with them."""
        for host in self.hosts.values():
            host.end()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()

    def cut(self, name: str) -> None:
        """Takes a host's cable out of the switch: nothing arrives, and nobody is told."""
        self._on_switch(f"link set {name} nomaster")

    def mend(self, name: str) -> None:
        self._on_switch(f"link set {name} master switch")

    def pull_plug(self, name: str) -> None:
        """The host is gone at once: no process of it says goodbye on the network."""
        self.cut(name)
        self.hosts[name].end()

    @property
    def key(self) -> str:
        """The private key that every host lets in; each host has it as ~/.ssh/id_ed25519."""
        return (self.folder / "key").read_text()

    def _start(self) -> None:
        for name in ("key", "host_key"):
            _make_key(self.folder / name)
        self._switch = subprocess.Popen(
            [*MINE, "unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE
        )
        assert self._switch.stdout is not None
        assert self._switch.stdout.readline() == b"ready\n"
        self._switch.stdout.close()
        names = "".join(f"{host.address} {host.name}\n" for host in self.hosts.values())
        settings = {
            "KEPT": " ".join(map(str, _kept())),
            "SHM_BYTES": str(SHM_BYTES),
            "HOSTS": f"127.0.0.1 localhost\n{names}",
            "AUTHORIZED": (self.folder / "key.pub").read_text(),
            "HOST_KEY": (self.folder / "host_key").read_text(),
        }
        for host in self.hosts.values():
            host.start(settings)
        self._on_switch("link add switch type bridge", "link set switch up", f"addr add {NETWORK}.1/24 dev switch")
        for host in self.hosts.values():
            host.wait_ready()
            self._connect(host)
        self._wait_for_sshd()

    def _connect(self, host: Host) -> None:
        self._on_switch(
            f"link add {host.name} type veth peer name eth0 netns {host.init}",
            f"link set {host.name} master switch",
            f"link set {host.name} up",
        )
        lines = ("link set lo up", f"addr add {host.address}/24 dev eth0", "link set eth0 up")
        _ip(host.init, *lines, f"route add default via {NETWORK}.1")
        host.go()
        host.write(".ssh/id_ed25519", self.key, 0o600)

    def _wait_for_sshd(self) -> None:
        deadline = time.monotonic() + START_S
        waiting = list(self.hosts.values())
        while waiting := [host for host in waiting if not host.reaches(host)]:
            if time.monotonic() > deadline:
                raise AssertionError(f"no sshd on {waiting[0].name}")
            time.sleep(0.02)

    def _on_switch(self, *lines: str) -> None:
        assert self._switch is not None
        _ip(self._switch.pid, *lines)


def _ip(pid: int, *lines: str) -> None:
    """Runs lines of iproute2 in the network of a process."""
    command = ["nsenter", f"--target={pid}", "--net", "ip", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{lines}: {done.stderr}"


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)


@functools.cache
def _kept() -> list[Path]:
    """What hosts must see although they have a /tmp and a home of their own: Python, its libraries, this checkout."""
    found: list[Path] = []
    for path in sorted({Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), REPOSITORY}, key=str):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found
