"""Every port on which a cluster listens, what is asked there, and what a stranger on the network is answered."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hosts.world import REPOSITORY, Host

KNOCKING = (REPOSITORY / "tests" / "hosts" / "knocking.py").read_text()
TOKENS = ("nothing", "wrong token")
PAGES = ("foreign Host", "foreign Origin")
MILD = {"UNAUTHENTICATED", "401", "403", "ConnectionRefusedError"}

CLOSED = ("ConnectionRefusedError", "ConnectionRefusedError")
HTTP = ("401", "403")
GRPC = ("UNAUTHENTICATED", "UNAUTHENTICATED")
OPEN = ("200", "200")  # says something to anybody: what the firewall is for


@dataclass(frozen=True)
class Knock:
    """A question to a port; `wanted` is the answer without a token, and with a wrong one."""

    port: int
    kind: str
    path: str
    wanted: tuple[str, str]


# What a head of Ray 2.60 listens on.
HEAD = [
    Knock(6379, "grpc", "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", GRPC),
    Knock(6379, "grpc", "/ray.rpc.InternalKVGcsService/InternalKVKeys", GRPC),
    Knock(6379, "grpc", "/ray.rpc.JobInfoGcsService/GetAllJobInfo", GRPC),
    Knock(6379, "grpc", "/ray.rpc.NodeInfoGcsService/DrainNode", GRPC),
    Knock(8265, "GET", "/api/jobs/", CLOSED),
    Knock(8265, "POST", "/api/jobs/", CLOSED),
    Knock(10001, "grpc", "/ray.rpc.RayletDriver/Init", GRPC),
    Knock(10001, "grpc", "/ray.rpc.RayletDriver/ClusterInfo", GRPC),
    Knock(44217, "GET", "/metrics", OPEN),
    Knock(44227, "GET", "/metrics", OPEN),
]
# What every node listens on, the head too.
NODE = [
    Knock(6380, "grpc", "/ray.rpc.NodeManagerService/GetNodeStats", GRPC),
    Knock(6380, "grpc", "/ray.rpc.NodeManagerService/RequestWorkerLease", GRPC),
    Knock(6380, "grpc", "/ray.rpc.NodeManagerService/ShutdownRaylet", GRPC),
    Knock(6381, "grpc", "/ray.rpc.ObjectManagerService/Push", GRPC),
    Knock(6381, "grpc", "/ray.rpc.ObjectManagerService/Pull", GRPC),
    Knock(8080, "GET", "/metrics", OPEN),
    Knock(52365, "GET", "/api/local_raylet_healthz", OPEN),
    Knock(52365, "GET", "/api/job_agent/jobs/", HTTP),
    Knock(52365, "POST", "/api/job_agent/jobs/", HTTP),
    Knock(52366, "grpc", "/ray.rpc.ReporterService/GetTraceback", GRPC),
    Knock(52367, "POST", "/get_or_create_runtime_env", HTTP),
    Knock(52367, "POST", "/get_runtime_envs_info", HTTP),
]
KNOCKS = {"head": [*HEAD, *NODE], "one": NODE, "two": NODE}
PROCESS_CALLS = ("GetCoreWorkerStats", "PushTask", "Exit")  # of the processes that work, each on a port of its own
PROCESS_PORTS = range(10002, 20000)


def of_process(port: int) -> list[Knock]:
    """What is asked of a process that works for a job."""
    return [Knock(port, "grpc", f"/ray.rpc.CoreWorkerService/{name}", GRPC) for name in PROCESS_CALLS]


def knock(stranger: Host, target: Host, knocks: Iterable[Knock]) -> dict[Knock, dict[str, str]]:
    """What each question was answered, by the manner in which it was asked."""
    knocks = list(knocks)
    asked = json.dumps([(one.port, one.kind, one.path) for one in knocks])
    done = stranger.run([f"{sys.prefix}/bin/python", "-c", KNOCKING, target.address], input=asked, timeout=600)
    return dict(zip(knocks, json.loads(done.stdout), strict=True))


def unwanted(answers: Mapping[Knock, Mapping[str, str]]) -> list[tuple[Knock, str, str]]:
    """Answers that a stranger should not get; a page elsewhere gets no more than anybody."""
    found = []
    for one, by_manner in answers.items():
        allowed = {manner: {answer} for manner, answer in zip(TOKENS, one.wanted, strict=True)}
        allowed |= {manner: {*MILD, *(one.wanted if one.wanted is OPEN else ())} for manner in PAGES}
        found += [(one, manner, answer) for manner, answer in by_manner.items() if answer not in allowed[manner]]
    return found


def table(name: str, listening: Iterable[Mapping[str, Any]], answers: Mapping[Knock, Mapping[str, str]]) -> str:
    """The ports of a host as lines; `listening` is what `rayopt doctor` says of it."""
    who = {one["port"]: one for one in listening}
    lines = [f"{name:<5} {'port':>5}  {'whose':<22} {'reached by':<10} {'asked':<52} " + " ".join(map(_cell, ANSWERS))]
    for one, by_manner in sorted(answers.items(), key=lambda pair: (pair[0].port, pair[0].path, pair[0].kind)):
        listener = who.get(one.port, {"name": "?", "open": True})
        reach = "others" if listener["open"] else "itself"
        asked = f"{one.kind} {one.path}"
        told = " ".join(_cell(by_manner[manner]) for manner in ANSWERS)
        lines.append(f"{'':<5} {one.port:>5}  {listener['name']:<22} {reach:<10} {asked:<52} {told}")
    return "\n".join(line.rstrip() for line in lines)


ANSWERS = (*TOKENS, *PAGES)


def _cell(text: str) -> str:
    return f"{text.replace('ConnectionRefusedError', 'refused'):<15}"
