"""Ray carries out what the in-process twin does: the same outcomes, the same bytes, and what only Ray can lose."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayopt import api
from rayopt.backend import Call, Raised, Report, Returned, Vanished
from rayopt.onray.backend import OnRay
from rayopt.records import Need

pytestmark = pytest.mark.ray

PROGRAM = str(Path(sys.executable).parent / "rayopt")
QUICKSTART = Path(__file__).parent.parent.parent / "jobs" / "quickstart.yaml"

TREE = [
    {"any": ["nothing", [{"use": "prune_channels", "keep": 0.5}, {"use": "recover", "epochs": 1}]]},
    {"any": ["nothing", "optimize_graph"]},
    {"any": ["nothing", "quantize_dynamic", "quantize_static"]},
]

FRAGILE = '''
"""A method that kills the process which runs it, as often as it is told to."""
import os, signal
from pathlib import Path
from rayopt.spec import Settings

accepts = gives = "onnx"
version = 1

class Params(Settings):
    deaths: int = 1
    name: str = "a"

def apply(model, params, context):
    for number in range(params.deaths):
        mark = Path(context.source.folder) / f"{params.name}{number}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return model
'''


BAD = '''
"""A method that is no good in one of three ways."""
import os, signal, time
from rayopt.records import Need
from rayopt.spec import Settings

accepts = gives = "onnx"
version = 1

class Params(Settings):
    what: str = "hang"

def need(params):
    return {"hang": Need(limit_s=1), "eat": Need(memory_bytes=1_000_000_000), "die": Need()}[params.what]

def apply(model, params, context):
    kept = []
    while params.what == "eat":
        kept.append(b"x" * (1 << 20))
        time.sleep(0.0005)
    if params.what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(300)
'''


def outcomes(folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal by id, without what is measured in time."""
    lines = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["latency"]
    return sorted(lines, key=lambda line: str(line["id"]))


def all_reports(backend: OnRay, count: int) -> dict[str, Report]:
    found: dict[str, Report] = {}
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found.update({report.id: report for report in backend.wait(1.0)})
    return found


def test_both_backends_give_the_same_outcomes_and_bytes(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    job = small_job(steps=TREE, keep="all")
    here = api.run(job, tmp_path / "here", address="inprocess", cache=tmp_path / "cache here")
    there = api.run(job, tmp_path / "there", address=ray_session, cache=tmp_path / "cache there")
    assert outcomes(tmp_path / "here") == outcomes(tmp_path / "there")
    assert len(here["candidates"]) == 11
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here" / "artifacts").rglob("*.onnx"))
    assert len(files) == 12
    for file in files:
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()
    graded = [{key: row[key] for key in ("id", "sha256", "selection_accuracy")} for row in here["candidates"]]
    assert graded == [{key: row[key] for key in ("id", "sha256", "selection_accuracy")} for row in there["candidates"]]


def test_a_killed_worker_costs_only_its_own_chain(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    steps = [
        "export_onnx",
        {
            "any": [
                {"use": "fragile.method", "deaths": 1, "name": "once"},
                {"use": "fragile.method", "deaths": 2, "name": "twice"},
                "quantize_dynamic",
            ]
        },
    ]
    (tmp_path / "job" / "fragile").mkdir(parents=True)
    (tmp_path / "job" / "fragile" / "method.py").write_text(FRAGILE)
    job = small_job(steps=steps)
    summary = api.run(job, tmp_path / "out", address=ray_session)
    assert summary["status"] == "done"
    ends = [row["steps"][-1] for row in summary["candidates"]]
    assert ends == ["fragile.method(deaths=1, name=once)", "quantize_dynamic"]
    (failed,) = summary["failed"]
    assert failed["step"] == "fragile.method(deaths=2, name=twice)"
    assert failed["reason"] == "its worker process died, 2 times"
    lines = outcomes(tmp_path / "out")
    assert sorted(line["status"] for line in lines) == ["done", "done", "done", "failed"]


def test_tasks_are_named_after_their_chain(small_job: Callable[..., Path], tmp_path: Path, ray_session: str) -> None:
    from ray.util.state import list_tasks

    job = small_job(steps=["quantize_static"])
    api.run(job, tmp_path / "out", address=ray_session)
    deadline = time.monotonic() + 60
    wanted = {"train(epochs=2, batch_size=16)", "train(epochs=2, batch_size=16) > export_onnx > quantize_static"}
    seen: set[str] = set()
    while not wanted <= seen and time.monotonic() < deadline:  # the dashboard hears of tasks once a second
        seen = {task.name for task in list_tasks(address=ray_session, limit=1000)}
    assert wanted <= seen


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise ValueError(f"no {value}")


def leave(value: int) -> int:
    import os

    os._exit(1)


def nap(seconds: float) -> tuple[float, float]:
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


def test_results_errors_and_losses_are_told_apart(ray_session: str) -> None:
    backend = OnRay(ray_session)
    first = backend.submit(Call("a", "a", double, (4,)))
    backend.submit(Call("b", "b", double, (first,)))
    backend.submit(Call("c", "c", fail, (backend.put(7),)))
    backend.submit(Call("d", "d", leave, (1,)))
    found = all_reports(backend, 4)
    assert [found[id] for id in "ab"] == [Returned("a", 8), Returned("b", 16)]
    assert isinstance(found["c"], Raised)
    assert found["c"].reason == "ValueError: no 7"
    assert found["d"] == Vanished("d", "its worker process died")
    assert backend.drain() == []
    backend.close()


def test_what_no_node_has_is_refused_at_once(ray_session: str) -> None:
    backend = OnRay(ray_session)
    backend.submit(Call("a", "a", double, (4,), Need(cpus=1, gpus=3)))
    backend.submit(Call("b", "b", double, (4,), Need(cpus=64)))
    backend.submit(Call("c", "c", double, (4,)))
    found = all_reports(backend, 3)
    assert found["a"] == Raised("a", "no node has what it asks for: 1 CPUs, 3 GPUs")
    assert found["b"] == Raised("b", "no node has what it asks for: 64 CPUs")
    assert found["c"] == Returned("c", 8)
    backend.close()


def hang(seconds: float) -> None:
    time.sleep(seconds)


def hang_with_the_lock(seconds: int) -> None:
    """Sleeps in C without letting any other thread of Python run."""
    import ctypes

    ctypes.PyDLL(None).sleep(seconds)


def eat(size_bytes: int) -> int:
    kept = []
    for _ in range(size_bytes >> 20):
        kept.append(b"x" * (1 << 20))
        time.sleep(0.001)
    return len(kept)


def test_what_goes_beyond_its_limits_is_ended_with_its_reason(ray_session: str) -> None:
    backend = OnRay(ray_session)
    backend.submit(Call("a", "a", hang, (300.0,), Need(limit_s=0.5)))
    backend.submit(Call("b", "b", eat, (4 << 30,), Need(memory_bytes=300 << 20)))
    backend.submit(Call("c", "c", eat, (1 << 20,), Need(memory_bytes=300 << 20)))
    backend.submit(Call("d", "d", double, (4,), Need(limit_s=60)))
    found = all_reports(backend, 4)
    assert found["a"] == Raised("a", "did not end within 0.5 s")
    assert found["b"] == Raised("b", "took more memory than the 314,572,800 bytes that it asked for")
    assert found["c"] == Returned("c", 1)
    assert found["d"] == Returned("d", 8)
    assert isinstance(found["d"], Returned)
    assert 0 < found["d"].began <= found["d"].ended <= time.time()
    backend.close()


@pytest.mark.slow
def test_what_hangs_in_c_with_pythons_lock_is_ended_too(ray_session: str) -> None:
    backend = OnRay(ray_session)
    backend.submit(Call("a", "a", hang_with_the_lock, (300,), Need(limit_s=0.5)))
    assert all_reports(backend, 1) == {"a": Raised("a", "did not end within 0.5 s")}
    backend.close()


def test_a_run_with_methods_that_hang_eat_and_die_goes_on(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str
) -> None:
    (tmp_path / "job" / "bad").mkdir(parents=True)
    (tmp_path / "job" / "bad" / "method.py").write_text(BAD)
    uses = [{"use": "bad.method", "what": what} for what in ("hang", "eat", "die")]
    job = small_job(steps=["export_onnx", {"any": [*uses, "quantize_dynamic"]}])
    summary = api.run(job, tmp_path / "out", address=ray_session)
    assert [row["steps"][-1] for row in summary["candidates"]] == ["quantize_dynamic"]
    reasons = {failed["step"]: failed["reason"] for failed in summary["failed"]}
    assert reasons == {
        "bad.method(what=hang)": "did not end within 1 s",
        "bad.method(what=eat)": "took more memory than the 1,000,000,000 bytes that it asked for",
        "bad.method(what=die)": "its worker process died, 2 times",
    }


def test_an_exclusive_call_has_the_node_to_itself(ray_session: str) -> None:
    backend = OnRay(ray_session)
    backend.submit(Call("alone", "alone", nap, (0.3,), exclusive=True))
    for number in range(3):
        backend.submit(Call(f"n{number}", "n", nap, (0.1,)))
    found = {id: report.value for id, report in all_reports(backend, 4).items() if isinstance(report, Returned)}
    start, end = found.pop("alone")
    assert len(found) == 3
    assert all(other_end <= start or other_start >= end for other_start, other_end in found.values())
    backend.close()


def test_where_nobody_answers_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [PROGRAM, "run", str(QUICKSTART), "--address", f"127.0.0.1:{port}", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"--address 127.0.0.1:{port}: no Ray answers there" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_child_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    code = """
import subprocess, sys, threading, time
from rayopt.backend import Call
from rayopt.onray.backend import OnRay
backend = OnRay(None, cpus=1)
child = subprocess.Popen(["sleep", "60"])
handle = backend.submit(Call("a", "a", abs, (-4,)))
while not (found := backend.wait(1.0)): pass
assert found[0].value == 4, found
backend.close()
import psutil
assert child.poll() is None, "the caller's own child was ended"
child.kill()
child.wait()
assert psutil.Process().children() == [], psutil.Process().children()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=tmp_path)
