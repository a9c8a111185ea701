"""The versions that a host has, beside ours: Python, Ray, rayopt and the libraries that results depend on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rayopt.cluster import on_host

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Difference:
    """One thing that a host has otherwise than we do; empty where it lacks it."""

    name: str
    here: str
    there: str

    def __str__(self) -> str:
        return f"{self.name} {self.there or 'missing'} (here {self.here})"


@dataclass(frozen=True)
class Environment:
    """What runs Python code on a machine."""

    python: str
    versions: Mapping[str, str]
    sources: str

    def differences(self, there: Environment) -> tuple[Difference, ...]:
        """What a host has otherwise; patch releases of Python and local builds (`+cpu`) count as the same."""
        found = []
        if _minor(self.python) != _minor(there.python):
            found.append(Difference("Python", self.python, there.python))
        for name, version in self.versions.items():
            if _public(version) != _public(there.versions.get(name, "")):
                found.append(Difference(name, version, there.versions.get(name, "")))
        if self.sources != there.sources:
            found.append(Difference("rayopt's files", self.sources, there.sources))
        return tuple(found)


@cache
def libraries() -> tuple[str, ...]:
    """The distributions that rayopt needs, by name."""
    required = importlib.metadata.requires("rayopt") or []
    names = (_NAME.match(line) for line in required if "extra ==" not in line)
    return tuple(sorted({found[0] for found in names if found}))


@cache
def our_environment() -> Environment:
    """This process's own."""
    versions = {name: version for name in libraries() if (version := on_host.version_of(name))}
    return Environment(platform.python_version(), versions, on_host.sources_of("rayopt"))


def environment_of(facts: Mapping[str, Any]) -> Environment:
    """A host's, from what `on_host.facts` says."""
    return Environment(facts["python"], facts["versions"], facts["sources"])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _public(version: str) -> str:
    return version.partition("+")[0]
