"""No file of a run holds a secret, whatever fails with it: a candidate of a search, or a training that is a trial."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rayopt import api
from rayopt.errors import RayoptError
from rayopt.runs.hidden import VARIABLE, hidden_values, redact

VALUE = "c0rrect-horse-battery"
INDISCREET = """
import os
import torch
from sklearn.naive_bayes import GaussianNB

class Indiscreet(GaussianNB):
    def fit(self, X, y):
        if self.var_smoothing < 1e-3:
            raise RuntimeError("cannot log in with " + os.environ["OWN_TOKEN"])
        return super().fit(X, y)

def build(**args):
    return Indiscreet(**args)

class Picky(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("cannot log in with " + os.environ["OWN_TOKEN"])

def picky(parameters, lr):
    return Picky(parameters, lr)
"""
SEARCH = {
    "kind": "search",
    "estimator": "indiscreet:build",
    "data": {"source": "points.npz"},
    "grid": {"var_smoothing": [1e-9, 1e-2]},
    "cv": 3,
}
TRAINING = {
    "kind": "train",
    "model": {"factory": "rayopt.models.zoo:resnet", "args": {"channels": 1, "classes": 10, "widths": [8, 8]}},
    "data": {"source": "digits"},
    "epochs": 1,
    "optimizer": {"use": "indiscreet:picky"},
}


@pytest.fixture
def write(
    tmp_path: Path, points: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Writes a job with what it names, in a process that has a secret."""
    monkeypatch.setenv("OWN_TOKEN", VALUE)
    monkeypatch.setenv(VARIABLE, json.dumps({"OWN_TOKEN": None}))

    def job(fields: dict[str, Any], name: str = "job.yaml") -> Path:
        place = tmp_path / "job"
        place.mkdir(exist_ok=True)
        np.savez(place / "points.npz", x=points[0], y=points[1])
        (place / "indiscreet.py").write_text(INDISCREET)
        (place / name).write_text(yaml.safe_dump({"name": "indiscreet", **fields}))
        return place / name

    return job


def trial_of(write: Callable[..., Path]) -> dict[str, Any]:
    write(TRAINING, "inner.yaml")
    space = {"epochs": {"low": 1, "high": 2, "int": True}}
    return {"kind": "search", "job": "inner.yaml", "space": space, "objective": "metrics.accuracy", "n_trials": 2}


@pytest.mark.parametrize("kind", ["search", "trials"])
def test_no_file_of_a_run_holds_a_secret(write: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    fields = SEARCH if kind == "search" else trial_of(write)
    with contextlib.suppress(RayoptError):  # what fails with a secret is what this is about
        api.run(write(fields), tmp_path / "out", address="inprocess")
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert [path for path, content in files.items() if VALUE.encode() in content] == []
    assert any(b"cannot log in with ***" in content for content in files.values())


def test_values_are_left_out_as_they_are_and_as_json_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    value = 'say "pässword"\nin two lines'
    monkeypatch.setenv("OWN_TOKEN", value)
    monkeypatch.setenv(VARIABLE, json.dumps({"OWN_TOKEN": "/run/token"}))
    for text in (value, json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert redact(text).strip('"') == "***"
    assert redact("said: in two lines") == "said: ***"


@pytest.mark.parametrize("told", ["", "{", "[]", "null"])
def test_a_process_without_secrets_hides_nothing(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv(VARIABLE, told)
    assert hidden_values() == ()
    assert redact("anything") == "anything"
