"""Commands on a host over ssh: unknown host keys are taken once and then held to, nothing asks, nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rayopt.cluster.files import ClusterFile, is_here

CONNECT_S = 10
ALIVE_S = 5  # a silent connection is given up after three such questions
FAILED = 255  # ssh's own code for what is not the command's

_TROUBLES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed",
        "if that is right, run ssh-keygen -R {host}",
    ),
    ("Host key verification failed", "its host key has changed", "if that is right, run ssh-keygen -R {host}"),
    ("Permission denied", "refuses the key or the user", "check ssh_user and ssh_private_key"),
    ("Connection refused", "no ssh server answers", "start sshd there"),
    ("Could not resolve hostname", "there is no host of that name", "check the address"),
    ("No route to host", "cannot be reached", "check that it is up and the address is right"),
    ("timed out", "does not answer", "check that it is up and the address is right"),
    ("Network is unreachable", "cannot be reached", "check the network"),
)


@dataclass(frozen=True)
class Answer:
    """What a command gave back; `trouble` says why the host itself could not be asked."""

    code: int
    out: str
    err: str
    trouble: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Remote:
    """A host as a cluster's file reaches it; this machine itself without ssh."""

    cluster: ClusterFile
    host: str

    @property
    def here(self) -> bool:
        return self.cluster.provider == "local" and is_here(self.host)

    def argv(self, command: str, options: Sequence[str] = ()) -> list[str]:
        """The words that run a shell command there."""
        if self.here:
            return ["bash", "-c", command]
        return ["ssh", *self.options(), *options, self.target, "--", command]

    @property
    def target(self) -> str:
        return f"{self.cluster.ssh_user}@{self.host}" if self.cluster.ssh_user else self.host

    def options(self) -> list[str]:
        said = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(ALIVE_S),
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
        }
        if self.cluster.ssh_proxy:
            said["ProxyCommand"] = self.cluster.ssh_proxy
        key = self.cluster.ssh_key
        identity = ["-i", str(key), "-o", "IdentitiesOnly=yes"] if key else []
        return [*identity, *(word for name, value in said.items() for word in ("-o", f"{name}={value}"))]

    def environment(self) -> dict[str, str]:
        """Ours; here the programs beside this Python are found first, as in a virtual environment that is active."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "PATH": path} if self.here else dict(os.environ)

    def run(self, command: str, *, given: str | bytes = "", timeout_s: float = 60) -> Answer:
        """Runs a shell command with `given` on its stdin; never raises for what the host or the command does."""
        data = given.encode() if isinstance(given, str) else given
        try:
            done = subprocess.run(
                self.argv(command),
                input=data,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                env=self.environment(),
            )
        except subprocess.TimeoutExpired as error:
            out, err = ((part or b"").decode(errors="replace") for part in (error.stdout, error.stderr))
            return Answer(FAILED, out, err, f"took more than {timeout_s:g} s", "see what keeps the host busy")
        except FileNotFoundError as error:
            return Answer(FAILED, "", str(error), f"{error.filename} is not installed here", "install openssh-client")
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        trouble, remedy = ("", "") if self.here or done.returncode != FAILED else trouble_of(err, self.host)
        return Answer(done.returncode, out, err, trouble, remedy)


def trouble_of(err: str, host: str) -> tuple[str, str]:
    """What ssh's own words mean, and what to do about it."""
    for words, trouble, remedy in _TROUBLES:
        if words in err:
            return trouble, remedy.format(host=host)
    last = err.strip().splitlines()[-1:] or ["ssh ended without a word"]
    return last[0], f"try ssh {host}"
