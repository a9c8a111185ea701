"""Asking hosts what they are and have, all at once; a host that cannot be asked is told with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rayopt.cluster.commands import asking, last_words, program, token_place
from rayopt.cluster.environment import Difference, Environment, environment_of, libraries
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.ssh import Remote

AT_ONCE = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Trouble:
    """Why a host is not what was asked of it, and what to do about it."""

    host: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.host}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Found:
    """A host and what it said; or why it said nothing."""

    host: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    trouble: Trouble | None = None

    def differences(self, ours: Environment) -> tuple[Difference, ...]:
        return ours.differences(environment_of(self.facts)) if self.facts else ()


def on_all(cluster: ClusterFile, hosts: Iterable[str], does: Callable[[Remote], T]) -> dict[str, T]:
    """Does something on every host at once; gives what came of it by host."""
    remotes = [Remote(cluster, host) for host in hosts]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return dict(zip((remote.host for remote in remotes), pool.map(does, remotes), strict=True))


def is_head(cluster: ClusterFile, host: str) -> bool:
    return not cluster.hosts or host == cluster.hosts[0]


def ask(remote: Remote, does: str, *, timeout_s: float = 60, **asked: Any) -> Found:
    """What `on_host` says to a question, asked by the Python that Ray is started with on that host."""
    command = asking(remote.cluster, head=is_head(remote.cluster, remote.host))
    answer = remote.run(command, given=program(does, **asked), timeout_s=timeout_s)
    if answer.trouble:
        return Found(remote.host, trouble=Trouble(remote.host, answer.trouble, answer.remedy))
    if answer.code == 0:
        try:
            return Found(remote.host, json.loads(answer.out.strip().splitlines()[-1]))
        except (ValueError, IndexError):
            pass
    said = last_words({"err": answer.err, "out": answer.out}) or f"exit code {answer.code}"
    return Found(remote.host, trouble=Trouble(remote.host, f"cannot be asked: {said}", "install Python 3.11 there"))


def probe(cluster: ClusterFile, hosts: Iterable[str], mark: str = "") -> dict[str, Found]:
    """The facts of every host; with the mark of what was started also whether others may read its token."""
    private = [token_place(cluster, mark)] if mark else []
    asked: dict[str, Any] = {"mark": mark, "libraries": list(libraries()), "name": cluster.name, "private": private}
    return on_all(cluster, hosts, lambda remote: ask(remote, "facts", **asked))
