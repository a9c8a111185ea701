"""What every kind of job owes: this file runs over each file of the room, and over the jobs that show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayopt import kinds, loading, plugins
from rayopt.measure.metrics import BUILT_IN
from rayopt.subject import METRICS

NAMES = plugins.names("rayopt.kinds")
ROOT = Path(__file__).parent.parent.parent
JOBS = sorted(ROOT.glob("jobs/**/*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_it_has_every_part(name: str) -> None:
    kind = plugins.load("rayopt.kinds", name, name)
    assert issubclass(kind.Job, kinds.JobSettings)
    assert kind.Job.model_config["extra"] == "forbid"
    assert all(callable(getattr(kind, part)) for part in ("check", "prepare", "run"))
    assert len((kind.__doc__ or "").strip()) > 20


def test_every_kind_has_a_job_that_shows_it() -> None:
    assert {loading.load(path).job.kind for path in JOBS} == set(NAMES)


def test_the_metrics_that_a_job_may_name_are_those_that_there_are() -> None:
    assert set(METRICS) == {"auto", *BUILT_IN}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_jobs_are_valid_and_say_the_same_when_filled_in(path: Path) -> None:
    loaded = loading.load(path)
    filled = loaded.job.model_dump(mode="json")
    assert loaded.kind.Job.model_validate(filled) == loaded.job
