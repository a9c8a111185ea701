"""The real program on a real Ray of its own, stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

PROGRAM = str(Path(sys.executable).parent / "rayopt")
SLOW = '''
"""A method that takes its time."""
import time

from rayopt.spec import Settings

accepts = gives = "onnx"
version = 1

class Params(Settings):
    seconds: float = 120

def apply(model, params, context):
    time.sleep(params.seconds)
    return model
'''


def start(job: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [PROGRAM, "run", str(job), "--out", str(out), *more]
    home = job.parent.parent  # a user's first run: there is no token yet
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "HOME": str(home)},
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads the program's progress until a line holds `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the program ended without saying {text!r}")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_at_once_keeps_what_is_done_and_leaves_nothing(
    small_job: Callable[..., Path], tmp_path: Path, signal_number: int
) -> None:
    (tmp_path / "job" / "pkg").mkdir(parents=True)
    (tmp_path / "job" / "pkg" / "slow.py").write_text(SLOW)
    job = small_job(steps=[{"any": ["quantize_dynamic", {"use": "pkg.slow"}]}])
    out = tmp_path / "out"
    process = start(job, out)
    try:
        wait_for(process, "quantize_dynamic > evaluate")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 3
        os.kill(process.pid, signal_number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert "interrupted: what was finished is kept" in said
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [one.name() for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"

    again = start(job, out, "--set", "steps=[quantize_dynamic]", "--overwrite", "--address", "inprocess")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "done: train(epochs=2, batch_size=16)\n" not in said, "training was finished and is done again"
    assert json.loads((out / "summary.json").read_text())["status"] == "done"
