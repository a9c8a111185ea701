"""The host of a run's trainings is made when one is needed, kept for the next, and closed with the run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rayopt import api


def test_the_trainings_of_a_run_share_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    closed: list[object] = []

    class Fake:
        def __init__(self, address: str | None, resources: Mapping[str, float], sharding: str) -> None:
            made.append(self)

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr("rayopt.onray.train.RayTrain", Fake)
    hosts = api.Hosts(None)
    assert not made
    first = hosts.open({}, "ddp")
    assert hosts.open({}, "ddp") is first
    second = hosts.open({}, "fsdp")
    assert (second is first, closed) == (False, [first])
    hosts.close()
    hosts.close()
    assert closed == [first, second] == made
