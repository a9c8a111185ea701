"""No process stays behind the tests of graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rayopt.graph import child


@pytest.fixture(scope="session", autouse=True)
def _no_nursery_stays() -> Iterator[None]:
    yield
    child.close()
