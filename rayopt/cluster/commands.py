"""A cluster file's shell commands as they are run on its hosts, and the environment that Ray is started with there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rayopt.cluster import on_host
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.tls import tls_environment

# A dead raylet is noticed after 6 refused questions 2 s apart, a silent one after 6 that wait 4 s each; 20 s of silence
# are forgiven. Ray's defaults (5 questions, 3 s apart, 10 s each) take up to 65 s.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "6",
    # A worker cut off for 20 s gives its connections up by itself, and would let its callers wait for their next ping:
    # with Ray's own setting for 300 s.
    "RAY_grpc_client_keepalive_time_ms": "15000",
    "RAY_grpc_client_keepalive_timeout_ms": "15000",
}
OPTIONS = "--disable-usage-stats"
DEFAULT_HEAD = f"ray start --head --port=6379 --dashboard-host=127.0.0.1 {OPTIONS}"
DEFAULT_WORKER = f"ray start --address=$RAY_HEAD_IP:6379 {OPTIONS}"

_RAY_STOP = re.compile(
    r"""
    (?:(?P<word>(?:"[^"]*"|'[^']*'|\$\([^()]*\)|`[^`]*`|\\.|[^\s"'`;&|()\\])+)  # as the shell takes it
      (?P<module>(?:[ \t]+-\w+)*[ \t]+-m[ \t]+ray\.scripts\.scripts)?)
    (?:(?:[ \t]|\\\n)+--[\w-]+(?:=\S+)?)*
    (?:[ \t]|\\\n)+(?:stop|"stop"|'stop')(?![\w-])
    (?:[ \t]+(?:--force|-f|--grace-period[= ]\d+))*
    """,
    re.VERBOSE,
)
_RAY = re.compile(r"\bray[\\\"')}`]*$")
_RAY_START = re.compile(r"(?P<before>.*?)(?P<ray>\S*\bray)\s+start\b", re.DOTALL)
_AUTOSCALING = re.compile(r"--autoscaling-config[= ]\S+")


def start_commands(cluster: ClusterFile, *, head: bool) -> tuple[str, ...]:
    """What starts Ray on a host: the file's own commands but for a bare `ray stop`, which would end others' Rays."""
    key, default = ("head_start_ray_commands", DEFAULT_HEAD) if head else ("worker_start_ray_commands", DEFAULT_WORKER)
    given = cluster.commands(key) or (default,)
    return _without_stops(_AUTOSCALING.sub("", command) for command in given)


def setup_commands(cluster: ClusterFile, *, head: bool) -> tuple[str, ...]:
    """What is run on a host before Ray is started there, but for a bare `ray stop` as well."""
    own = "head_setup_commands" if head else "worker_setup_commands"
    keys = ("initialization_commands", "setup_commands", own)
    return _without_stops(one for key in keys for one in cluster.commands(key))


def _without_stops(commands: Iterable[str]) -> tuple[str, ...]:
    kept = (_RAY_STOP.sub(_instead, command).strip() for command in commands)
    return tuple(command for command in kept if command != "true")


def _instead(stop: re.Match[str]) -> str:
    """What a `stop` becomes: nothing is done where it is Ray's."""
    return "true" if stop["module"] or _RAY.search(stop["word"]) else stop[0]


def token_place(cluster: ClusterFile, mark: str) -> str:
    """Where a host keeps the cluster's token; another client's cluster of that name has its own there."""
    return f"~/.rayopt/clusters/{cluster.name}.{mark}.token"


def environment(cluster: ClusterFile, mark: str, tls: bool) -> dict[str, str]:
    """What every process of a cluster that rayopt starts has in its environment, as words of the shell."""
    return {
        on_host.MARK: mark,
        on_host.NAME: cluster.name,
        "SPT_NOENV": "1",  # titles of processes leave their environment, and so the mark, alone
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_place(cluster, mark).replace("~", '"$HOME"', 1),
        **HEALTH,
        **(tls_environment(cluster, mark) if tls else {}),
    }


def starting(cluster: ClusterFile, mark: str, *, head: bool, tls: bool = False) -> str:
    """The one shell command that starts Ray on a host; it ends when Ray runs there."""
    words = " ".join(f"{name}={value}" for name, value in environment(cluster, mark, tls).items())
    lines = ["unset RAY_ADDRESS RAY_AUTH_TOKEN", f"export {words} RAY_HEAD_IP={shlex.quote(cluster.hosts[0])}"]
    return in_shell(cluster, "; ".join(lines) + "; " + _joined(start_commands(cluster, head=head)))


def setting_up(cluster: ClusterFile, *, head: bool) -> str:
    """The one shell command that prepares a host, empty where the file asks for nothing."""
    commands = setup_commands(cluster, head=head)
    return in_shell(cluster, _joined(commands)) if commands else ""


def asking(cluster: ClusterFile, *, head: bool) -> str:
    """The one shell command that runs the program on its stdin by the Python that Ray is started with there.

    That Python is the one in the first line of the program `ray`.
    """
    before, ray = _ray_program(start_commands(cluster, head=head))
    find = (
        f'ray=$(command -v {ray}); python=$(head -n 1 "$ray" 2>/dev/null | sed -n "s/^#! *//p"); '
        f'[ -x "$python" ] || python=python3; exec "$python" -'
    )
    return in_shell(cluster, before + find)


def in_shell(cluster: ClusterFile, command: str) -> str:
    """The command in a login shell that has read ~/.bashrc, as Ray's launcher runs it; here in a plain one."""
    if cluster.here:
        return command
    return "bash --login -i -c " + shlex.quote(f"source ~/.bashrc 2>/dev/null; {command}")


def program(does: str, **asked: Any) -> str:
    """The source of `on_host` with a question: it may hold secrets, so it is never part of a command."""
    source = Path(on_host.__file__).read_text(encoding="utf-8")
    return f"{source}\n\nmain({json.dumps({'do': does, **asked})!r})\n"


def plain(err: str) -> str:
    """What a login shell without a terminal says on stderr, less its complaints about that."""
    noise = ("bash: cannot set terminal process group", "bash: no job control in this shell")
    return "\n".join(line for line in err.splitlines() if not line.startswith(noise)).strip()


def last_words(texts: Mapping[str, str], limit: int = 6) -> str:
    """The last lines of what a command has said, for a person to see why it failed."""
    said = plain(texts["err"]) or texts["out"].strip()
    return "\n".join(line.rstrip() for line in said.splitlines()[-limit:])


def _joined(commands: tuple[str, ...]) -> str:
    return " && ".join(f"{{ {command.rstrip().rstrip(';')}; }}" for command in commands)


def _ray_program(commands: tuple[str, ...]) -> tuple[str, str]:
    """What comes before `ray start` in the commands that start Ray, and how they call `ray`."""
    for index, command in enumerate(commands):
        found = _RAY_START.match(command)
        if found:
            earlier = "".join(f"{one.rstrip().rstrip(';')}; " for one in commands[:index])
            return earlier + found["before"], found["ray"]
    return "", "ray"
