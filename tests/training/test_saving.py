"""Checkpoints of a training: the one that all workers go on from, damaged ones, two that write, and when it is time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rayopt.errors import InputError, StepError
from rayopt.training import checkpoint, saving
from rayopt.training.checkpoint import Writer
from rayopt.training.saving import Saving
from rayopt.training.seat import OneSeat
from rayopt.training.settings import CheckpointSettings
from tests.training.test_faults import rows, work

ABOUT = {"epochs": 3}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the first worker says, value after value, for workers that are not there; a single one says its own."""
    values: list[float] = []
    monkeypatch.setattr(saving, "from_first", lambda value, seat: values.pop(0) if seat.rank else value)
    return values


def marked(folder: Path) -> list[float]:
    """What the first worker says of its newest checkpoint."""
    found = Saving(OneSeat(folder), ABOUT, CheckpointSettings()).found()
    return [float(found.step), float(int(found.sha256[:12], 16))] if found else [-1.0, 0.0]


def test_all_workers_go_on_from_the_checkpoint_of_the_first(tmp_path: Path, told: list[float]) -> None:
    for step in (5, 9):
        checkpoint.write(tmp_path, step, {"step": step}, ABOUT)
    told += marked(tmp_path)
    checkpoint.write(tmp_path, 12, {"step": 12}, ABOUT)  # one that the second worker alone sees by now
    found = Saving(OneSeat(tmp_path, rank=1, world=2), ABOUT, CheckpointSettings()).found()
    assert found is not None
    assert found.step == 9
    told += [-1.0, 0.0]
    assert Saving(OneSeat(tmp_path, rank=1, world=2), ABOUT, CheckpointSettings()).found() is None


@pytest.mark.parametrize("other", ["empty", "different"])
def test_a_worker_that_sees_another_folder_says_so(other: str, tmp_path: Path, told: list[float]) -> None:
    checkpoint.write(tmp_path / "here", 9, {"value": 1}, ABOUT)
    told += marked(tmp_path / "here")
    if other == "different":
        checkpoint.write(tmp_path / "there", 9, {"value": 2}, ABOUT)
    with pytest.raises(InputError, match=r"worker 1 does not find the checkpoint of step 9 .*that all machines see"):
        Saving(OneSeat(tmp_path / "there", rank=1, world=2), ABOUT, CheckpointSettings()).found()


def test_a_run_that_begins_to_write_shuts_out_the_one_before(tmp_path: Path) -> None:
    old, new = Writer(tmp_path), Writer(tmp_path)
    old.write(1, {}, ABOUT)
    old.write(2, {}, ABOUT)
    new.write(2, {"is": "new"}, ABOUT)
    with pytest.raises(StepError, match="another run writes checkpoints into"):
        old.write(3, {}, ABOUT)
    found = checkpoint.latest(tmp_path, ABOUT, print)
    assert found is not None
    assert found.state == {"is": "new"}


def test_a_checkpoint_that_another_puts_there_in_between_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, removed = shutil.rmtree, list[Path]()

    def between(path: Path, ignore_errors: bool = False) -> None:
        remove(path, ignore_errors=ignore_errors)
        if not removed:
            removed.append(path)
            path.mkdir()
            (path / "of another").touch()

    checkpoint.write(tmp_path, 1, {"is": "old"}, ABOUT)
    monkeypatch.setattr(checkpoint.shutil, "rmtree", between)
    checkpoint.write(tmp_path, 1, {"is": "new"}, ABOUT)
    assert removed
    found = checkpoint.latest(tmp_path, ABOUT, print)
    assert found is not None
    assert found.state == {"is": "new"}


def test_workers_that_write_together_look_at_the_first_ones_clock(
    tmp_path: Path, told: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    first, second = (
        Saving(OneSeat(tmp_path, rank=rank, world=2), ABOUT, CheckpointSettings(every_s=5)) for rank in (0, 1)
    )
    for one in (first, second):
        one.begin(0, is_shared=True)
    now[0] = 6.0
    assert [step for step in range(1, 20) if first.is_due(step)] == [8, 16]
    told += [1.0, 0.0]
    assert [step for step in range(1, 20) if second.is_due(step)] == [8]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the log is told."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logging.getLogger("rayopt").addHandler(handler)
    yield lines
    logging.getLogger("rayopt").removeHandler(handler)


@pytest.mark.parametrize("fault", ["flipped", "cut"])
def test_a_training_goes_on_from_the_one_before_a_damaged_checkpoint(
    fault: str, tmp_path: Path, said: list[str]
) -> None:
    given = work(rows(), checkpoint={"every_steps": 2}, keep="last")
    whole = given.run(OneSeat(tmp_path / "whole"))

    class BrokenOff(BaseException): ...

    def stop(metrics: object) -> None:
        if len(list((tmp_path / "broken").glob("step-*"))) == 2:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        given.run(OneSeat(tmp_path / "broken", stop))
    earlier, newest = sorted((tmp_path / "broken").glob("step-*"))
    content = bytearray((newest / checkpoint.TENSORS).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / checkpoint.TENSORS).write_bytes(content[:-7] if fault == "cut" else content)
    again = given.run(OneSeat(tmp_path / "broken"))
    assert again.resumed_at == int(earlier.name.removeprefix("step-"))
    assert any(newest.name in line and "state.safetensors is damaged" in line for line in said)
    assert again.artifact.sha256 == whole.artifact.sha256


def test_a_changed_training_is_refused_with_the_difference(tmp_path: Path) -> None:
    work(rows(), epochs=1).run(OneSeat(tmp_path))
    changed = work(rows(), epochs=1, clip_norm=1.0, optimizer={"lr": 0.3})
    with pytest.raises(InputError, match=r"clip_norm was null, is 1\.0; optimizer\.lr was null, is 0\.3"):
        changed.run(OneSeat(tmp_path))


def test_what_any_worker_says_names_the_newest_checkpoint(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, 7, {}, ABOUT)
    assert Saving(OneSeat(tmp_path, rank=1, world=2), ABOUT, CheckpointSettings()).last.endswith("is of step 7")


def test_a_metric_that_raises_is_a_failure_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raising_metric.py").write_text("def score(y, outputs):\n    raise ValueError('no such class')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = replace(work(rows()), selection=rows(), metric="raising_metric:score")
    with pytest.raises(StepError, match=r"evaluation by raising_metric:score after step 4: ValueError: no such"):
        given.run(OneSeat(tmp_path / "out"))


def test_rows_and_their_numbers_lie_where_the_model_does(tmp_path: Path) -> None:
    from rayopt.training.loop import Loop

    given = replace(work(rows()), numerics=("fp32", "contiguous", ()))
    loop = Loop(given, OneSeat(tmp_path, device=torch.device("meta")))
    ((x, y, numbers, _),) = loop._parts(0, torch.arange(16))
    assert {x.device.type, y.device.type, numbers.device.type} == {"meta"}
