"""What all tests share: a cache of their own, small data and models, and one Ray session."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.head import Head

BOWL_SPACE = {
    "loss.temperature": {"low": 0.5, "high": 10, "log": True},
    "loss.alpha": {"low": 0, "high": 1},
    "width": {"low": 14, "high": 30, "int": True},
}
JOBS = Path(__file__).parent.parent / "jobs"

settings.register_profile("any machine", deadline=None)  # timings decide no test
settings.load_profile("any machine")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job: programs are sent Ctrl-C here
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads what another left in the user's cache."""
    monkeypatch.setenv("RAYOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    """120 points in four dimensions of two classes that a line separates but for some noise."""
    generator = np.random.default_rng(7)
    x = generator.normal(size=(120, 4)).astype(np.float32)
    y = (x[:, 0] - x[:, 1] + 0.3 * generator.normal(size=120) > 0).astype(np.int64)
    return x, y


@pytest.fixture
def small_job(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """Writes a quick job with its data beside it; keyword arguments replace its fields."""
    import yaml

    def write(folder: str = "job", **fields: Any) -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        np.savez(place / "points.npz", x=points[0], y=points[1])
        job = {
            "kind": "optimize",
            "name": "small",
            "model": {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 2, "hidden": 16}},
            "data": {"source": "points.npz"},
            "train": {"epochs": 2, "batch_size": 16},
            "steps": [{"any": ["quantize_dynamic", "quantize_static"]}],
            "max_accuracy_drop": 0.5,
            "measure": {"batch_sizes": [1, 8], "timing_s": 0.01},
        }
        job.update(fields)
        path = place / "job.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in job.items() if value is not None}))
        return path

    return write


@pytest.fixture
def bowl_search(tmp_path: Path) -> Callable[..., Path]:
    """Writes a search of the bowl with the kind beside it; keyword arguments replace its fields, None drops them."""

    def write(inner: dict[str, Any] | None = None, **fields: Any) -> Path:
        import yaml

        place = tmp_path / "job"
        shutil.copytree(Path(__file__).parent / "bowl", place / "bowl", dirs_exist_ok=True)
        (place / "inner.yaml").write_text(yaml.safe_dump({"kind": "bowl.kind", "name": "bowl", **(inner or {})}))
        job = {
            "kind": "search",
            "name": "bowls",
            "job": "inner.yaml",
            "space": BOWL_SPACE,
            "objective": "metrics.accuracy",
            "n_trials": 12,
            **fields,
        }
        (place / "search.yaml").write_text(yaml.safe_dump({key: one for key, one in job.items() if one is not None}))
        return place / "search.yaml"

    return write


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """One Ray for all tests that need one, ended with them."""
    import logging

    import ray

    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=True,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def killed_after() -> Callable[[list[str], int], None]:
    """Starts a program and kills it (SIGKILL) once it has said so often that something is done."""

    def kill(command: list[str], count: int) -> None:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ
        )
        assert process.stderr is not None
        done = 0
        for line in process.stderr:
            done += " done: " in line
            if done == count:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()

    return kill


@pytest.fixture(scope="session")
def ray_head() -> Iterator[Head]:
    """A Ray with a token that jobs are submitted to, in processes of its own."""
    if " " in sys.executable:
        pytest.skip("`ray start` does not live where the path of its Python has a space")
    folder = Path(tempfile.mkdtemp(prefix="rh-"))  # short: Ray's sockets lie below it
    head = Head(folder, {"NODE_TOKEN": secrets.token_hex(12), "RAY_metrics_report_interval_ms": "500"})
    yield head
    head.stop()
    shutil.rmtree(folder, ignore_errors=True)
