"""Having the machine to oneself, between real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayopt.measure.machine import alone, machine

HOLD = """
import sys
from rayopt.measure.machine import alone
with alone():
    print("mine", flush=True)
    sys.stdin.readline()
"""


def test_a_machine_says_what_it_is() -> None:
    told = machine()
    assert told["cpus"] >= 1
    assert told["cpu"]


def test_only_one_process_times_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    waiter = None
    try:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "mine\n"
        waiter = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(timeout=1)
        holder.communicate("go on\n", timeout=30)
        assert waiter.communicate(timeout=30)[0] == "mine\n"
    finally:
        holder.kill()
        if waiter is not None:
            waiter.kill()


def test_where_no_lock_can_be_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with alone():
        pass
