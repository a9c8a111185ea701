"""What every method owes, whatever it does: this file runs over each file of the room."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rayopt import methods, plugins
from rayopt.data.dataset import Dataset, build
from rayopt.data.settings import SplitSettings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build as build_model
from rayopt.models.torch_model import to_artifact
from rayopt.records import Artifact, digest
from rayopt.work import Bench, run_step

NAMES = plugins.names("rayopt.methods")
QUICK = {"train": {"epochs": 1}, "recover": {"epochs": 1}}


@cache
def bench() -> Bench:
    return Bench(_data(), _source(), "accuracy", 0)


def _data() -> Dataset:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 1, 8, 8)).astype(np.float32)
    return build("images", x, generator.integers(0, 3, 80), "classification", SplitSettings(), 0, "data")


def _source() -> ModelSource:
    settings = ModelSettings(factory="rayopt.models.zoo:resnet", args={"classes": 3, "widths": [16, 16, 16]})
    return ModelSource(settings, ".")


@cache
def model(form: str) -> Artifact:
    original = to_artifact(build_model(_source(), 0))
    return original if form == "torch" else run_step(step("export_onnx"), original, original, bench()).artifact


def step(name: str):  # type: ignore[no-untyped-def]
    from rayopt.spec import Document
    from rayopt.tree import Chain, TreeReader

    reader = TreeReader(Document({}, "job", Path.cwd()))
    method = methods.find(name, name)
    chain = reader.extend(Chain(format=method.accepts), name, QUICK.get(name, {}), ())
    assert not reader.faults
    return chain.steps[0]


def test_there_are_methods() -> None:
    assert {"train", "prune_channels", "recover", "export_onnx", "quantize_static"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_every_part(name: str) -> None:
    method = methods.find(name, name)
    assert method.accepts in ("torch", "onnx")
    assert method.gives in ("torch", "onnx")
    assert method.version >= 1
    assert len(methods.summary_of(method)) > 20
    assert method.Params.model_config["extra"] == "forbid"
    json.dumps(method.Params().model_dump(mode="json"))


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same_bytes_again_and_leaves_its_input_alone(name: str) -> None:
    method = methods.find(name, name)
    before = model(method.accepts)
    copy = digest({file: content.hex() for file, content in before.files.items()})
    first, second = (run_step(step(name), before, model("torch"), bench()).artifact for _ in range(2))
    assert first.format == method.gives
    assert first.sha256 == second.sha256
    assert digest({file: content.hex() for file, content in before.files.items()}) == copy
    json.dumps(dict(first.notes), allow_nan=False)
