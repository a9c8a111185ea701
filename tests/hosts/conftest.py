"""Hosts for tests: a world of its own for each file, where this machine can have one; CI must."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.hosts.world import World, missing


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A head, two workers and a client, up and reachable over ssh."""
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no test hosts: {reason}")
        pytest.skip(f"no test hosts: {reason}")
    with World(tmp_path_factory.mktemp("world")) as made:
        yield made
