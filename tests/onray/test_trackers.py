"""TensorBoard's files and MLflow's runs have what the journal has, read back with other means than wrote it."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rayopt import InputError, api, tracked
from rayopt.tracked import Entry, Tracked, entry_of
from rayopt.watch import Silent


@pytest.fixture
def job(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Path:
    np.savez(tmp_path / "points.npz", x=points[0], y=points[1])
    given = {
        "kind": "search",
        "name": "kept",
        "estimator": "sklearn.svm:SVC",
        "data": {"source": "points.npz"},
        "grid": {"C": [0.1, 1.0, 10.0]},
        "cv": 2,
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def scalars(file: Path) -> Iterator[tuple[str, float]]:
    """The scalars of an event file: records of a length, its checksum, the bytes and theirs."""
    from tensorboardX.proto.event_pb2 import Event

    content, at = file.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield value.tag, value.simple_value


@pytest.mark.filterwarnings("ignore")
def test_a_search_in_tensorboard_and_mlflow(job: Path, tmp_path: Path) -> None:
    base = tmp_path / "runs.db"
    out = tmp_path / "out"
    track = ("tensorboard", f"mlflow:sqlite:///{base}")
    summary = api.run(job, out, address="inprocess", track=track)
    expected = {trial["id"]: trial for trial in summary["trials"]}
    folders = {one.name: one for one in (out / "tensorboard").iterdir()}
    assert set(folders) == set(expected)
    for id, trial in expected.items():
        (file,) = folders[id].glob("events.*")
        assert dict(scalars(file))["ray/tune/score"] == pytest.approx(trial["score"])
    with sqlite3.connect(base) as found:
        runs = dict(found.execute("select name, run_uuid from runs"))
        assert set(runs) == set(expected)
        for id, trial in expected.items():
            params = dict(found.execute("select key, value from params where run_uuid = ?", (runs[id],)))
            assert params == {"C": str(trial["params"]["C"])}
            values = dict(found.execute("select key, value from metrics where run_uuid = ?", (runs[id],)))
            assert values["score"] == pytest.approx(trial["score"])
    api.run(job, out, address="inprocess", track=track[:1])
    assert {one.name for one in (out / "tensorboard").iterdir()} == set(expected), "a run that was done is told again"


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_told_twice(job: Path, tmp_path: Path) -> None:
    base = tmp_path / "runs.db"
    out = tmp_path / "out"
    for _ in range(2):
        summary = api.run(job, out, address="inprocess", track=["tensorboard", f"mlflow:sqlite:///{base}"])
    with sqlite3.connect(base) as found:
        names = [name for (name,) in found.execute("select name from runs")]
    assert sorted(names) == sorted(trial["id"] for trial in summary["trials"])
    other = tmp_path / "other.db"
    api.run(job, out, address="inprocess", track=[f"mlflow:sqlite:///{other}"])
    with sqlite3.connect(other) as found:
        assert found.execute("select count(*) from runs").fetchone() == (3,)


@pytest.mark.filterwarnings("ignore")
def test_only_what_rayopt_wrote_is_removed(job: Path, tmp_path: Path) -> None:
    boards, out = tmp_path / "boards", tmp_path / "out"
    foreign = boards / "kept" / "mine" / "events.out.tfevents.1"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("another's")
    track = [f"tensorboard:{boards}"]
    first = api.run(job, out, address="inprocess", track=track)
    second = api.run(job, out, address="inprocess", track=track, overwrite=True, assignments=["grid.C=[2.0, 3.0]"])
    assert foreign.read_text() == "another's"
    ids = {trial["id"] for trial in second["trials"]}
    assert not ids & {trial["id"] for trial in first["trials"]}
    assert {one.name for one in (boards / "kept").iterdir()} == {"mine", *ids}


@pytest.mark.parametrize("at", ["runs", "."])
def test_the_run_itself_is_no_place_for_tensorboard(
    job: Path, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = None if at == "runs" else Path("kept/within")
    with pytest.raises(InputError, match=f"tensorboard:{at}: .*own folder"):
        api.run(job, out, address="inprocess", track=[f"tensorboard:{at}"])
    assert not Path("runs").exists()
    assert not Path("kept").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_training_is_told_epoch_by_epoch(tmp_path: Path) -> None:
    model = {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [4]}}
    plain = {"epochs": 3, "precision": "fp32", "layout": "contiguous"}
    job = {"kind": "train", "name": "kept", "model": model, "data": {"source": "digits"}, **plain}
    summary = api.run(job, tmp_path / "out", address="inprocess", track=["tensorboard"])
    (folder,) = (tmp_path / "out" / "tensorboard").iterdir()
    (file,) = folder.glob("events.*")
    told = [value for tag, value in scalars(file) if tag == "ray/tune/selection_loss"]
    assert told == pytest.approx([one["selection_loss"] for one in summary["curve"]])
    assert len(told) == 3


def test_lines_of_all_kinds() -> None:
    trained = entry_of({"step": 15, "epoch": 1, "loss": 0.5, "lr": 0.1})
    assert trained == Entry("", {}, {"epoch": 1.0, "loss": 0.5, "lr": 0.1}, 15)
    line = {
        "id": "a1",
        "steps": ["prune", "quantize"],
        "status": "failed",
        "size_bytes": 10,
        "selection": {"value": 0.5},
    }
    assert entry_of(line) == Entry(
        "a1", {"steps": "prune > quantize"}, {"size_bytes": 10, "selection.value": 0.5}, None, True
    )
    searched = entry_of({"id": "b2", "params": {"C": 1.0, "kernel": "rbf"}, "score": None, "seconds": 2, "ok": True})
    assert searched == Entry("b2", {"C": 1.0, "kernel": "rbf"}, {"seconds": 2.0})


def test_a_tracker_that_fails_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def tell(self, entry: Entry) -> None:
            raise OSError("no space left")

        def close(self, failed: bool) -> None:
            raise AssertionError("is not asked any more")

    class Kept:
        def __init__(self) -> None:
            self.got: list[Any] = []

        def tell(self, entry: Entry) -> None:
            self.got.append(entry.id)

        def close(self, failed: bool) -> None:
            self.got.append(failed)

    kept = Kept()
    watcher = Tracked(Silent(), tmp_path / "outcomes.jsonl", {"broken": Broken(), "kept": kept})
    (tmp_path / "outcomes.jsonl").write_text(json.dumps({"id": "one"}) + "\n")
    watcher.ended("one", "one", "done", "", False)
    watcher.close(False)
    assert kept.got == ["one", False]
    assert "broken is not told any more: OSError: no space left" in caplog.text


def test_what_is_no_tracker(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown tracker 'tensorbord'"):
        api.run(job, tmp_path / "out", address="inprocess", track=["tensorbord"])
    with pytest.raises(InputError, match="cannot be told of runs"):
        api.run(job, tmp_path / "out", address="inprocess", track=["mlflow:nowhere://x"])
    monkeypatch.setitem(tracked.PACKAGES, "mlflow", "a_package_that_is_not_there")
    with pytest.raises(InputError, match="is not installed"):
        tracked.wanted("mlflow")
    assert not (tmp_path / "out" / "summary.json").exists()
