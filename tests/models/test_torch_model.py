"""torch models as files: what comes back is the same model, and nothing but tensors ever comes in."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rayopt import plugins
from rayopt.compress.prune import prune_channels
from rayopt.errors import InputError
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import SHAPES, WEIGHTS, build, check, fingerprint, from_artifact, to_artifact
from rayopt.spec import Document

FACTORIES = """
import torch
from torch import nn
from parts_of_a_test import hidden_width


class Tied(nn.Module):
    \"\"\"Embeds, and reads out with the same weights.\"\"\"

    def __init__(self, words=12, width=6):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x).mean(dim=1))


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("scale", torch.rand(4))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))
        self.register_buffer("scratch", torch.zeros(7), persistent=False)

    def forward(self, x):
        return self.linear(x * self.scale * self.mask) + self.count


class Secretive(nn.Linear):
    def __init__(self, noise):
        super().__init__(4, 2)
        self.noise = noise

    def forward(self, x):
        return super().forward(x + self.noise * torch.randn_like(x) if self.training else x)


def build(hidden=8):
    return nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.5), nn.ReLU(), nn.Linear(hidden, 2))

def raises(): raise ValueError("no such size")
def leaves(): raise SystemExit(3)
def text(): return "a model"
def pair(): return Pair()
def half(): return nn.Linear(4, 2, dtype=torch.bfloat16)

class Pair(nn.Linear):
    def __init__(self): super().__init__(4, 2)
    def forward(self, x): return super().forward(x), x
"""

EXAMPLE = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32))


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    plugins.forget()


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., ModelSource]:
    """A job's folder with factories, as the source of one of them."""
    (tmp_path / "factories_of_a_test.py").write_text(FACTORIES)
    (tmp_path / "parts_of_a_test.py").write_text("hidden_width = 8\n")

    def make(name: str = "build", weights: str | None = None, **args: Any) -> ModelSource:
        factory = name if ":" in name else f"factories_of_a_test:{name}"
        places = {key: f"job.yaml:2: model.{key}" for key in ("factory", "weights")}
        return ModelSource(ModelSettings(factory=factory, args=args, weights=weights), str(tmp_path), places)

    return make


def resnet() -> ModelSource:
    args = {"classes": 3, "widths": [16, 24]}
    return ModelSource(ModelSettings(factory="rayopt.models.zoo:resnet", args=args), ".")


def outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(x)
    return found


def train_a_little(module: nn.Module, x: torch.Tensor) -> None:
    """Moves weights and running statistics away from where the factory puts them."""
    module.train()
    outputs(module, x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module.eval()


def refused(call: Callable[[], object], key: str = "factory") -> str:
    with pytest.raises(InputError) as caught:
        call()
    (fault,) = caught.value.faults
    assert fault.place == f"job.yaml:2: model.{key}"
    assert fault.remedy
    assert "\n" not in str(fault)
    return f"{fault.problem}; {fault.remedy}"


# Round trips


def test_a_model_comes_back_bit_for_bit() -> None:
    module = build(resnet(), seed=1)
    train_a_little(module, IMAGES)
    back = from_artifact(to_artifact(module), resnet(), seed=2)
    assert torch.equal(outputs(back, IMAGES), outputs(module, IMAGES))
    assert not back.training


def test_a_pruned_model_comes_back_at_its_widths_bit_for_bit() -> None:
    module = build(resnet(), seed=1)
    train_a_little(module, IMAGES)
    prune_channels(module, IMAGES[:1], keep=0.5, widths={}, round_to=4)
    artifact = to_artifact(module)
    back = from_artifact(artifact, resnet(), seed=2)
    assert torch.equal(outputs(back, IMAGES), outputs(module, IMAGES))
    assert back.get_submodule("stem.0").out_channels == back.get_submodule("stem.1").num_features == 8
    assert artifact.size_bytes < to_artifact(build(resnet(), 1)).size_bytes / 2
    assert to_artifact(back).files == artifact.files


def test_a_pruned_model_can_be_pruned_again() -> None:
    module = build(resnet(), seed=1)
    prune_channels(module, IMAGES[:1], keep=0.5, widths={}, round_to=4)
    back = from_artifact(to_artifact(module), resnet(), seed=1)
    prune_channels(back, IMAGES[:1], keep=0.5, widths={}, round_to=4)
    again = from_artifact(to_artifact(back), resnet(), seed=1)
    assert again.get_submodule("stem.0").out_channels == 4
    assert torch.equal(outputs(again, IMAGES), outputs(back, IMAGES))


def test_tied_weights_stay_tied(source: Callable[..., ModelSource]) -> None:
    words = torch.arange(12).reshape(3, 4)
    module = build(source("Tied"), seed=1)
    train_a_little(module, words)
    back = from_artifact(to_artifact(module), source("Tied"), seed=2)
    assert back.head.weight is back.embedding.weight
    assert torch.equal(outputs(back, words), outputs(module, words))


def test_tied_weights_of_another_width_stay_tied(source: Callable[..., ModelSource]) -> None:
    words = torch.arange(12).reshape(3, 4)
    narrow = build(source("Tied", width=3), seed=1)
    back = from_artifact(to_artifact(narrow), source("Tied", width=6), seed=2)
    assert back.head.weight is back.embedding.weight
    assert back.head.in_features == 3
    assert torch.equal(outputs(back, words), outputs(narrow, words))


def test_buffers_come_back(source: Callable[..., ModelSource]) -> None:
    module = build(source("Buffers"), seed=1)
    back = from_artifact(to_artifact(module), source("Buffers"), seed=2)
    for name, buffer in module.named_buffers():
        assert torch.equal(back.get_buffer(name), buffer)
    x = torch.from_numpy(EXAMPLE)
    assert torch.equal(outputs(back, x), outputs(module, x))


def test_an_artifact_is_two_plain_files() -> None:
    artifact = to_artifact(build(resnet(), 0), {"note": 1})
    assert set(artifact.files) == {WEIGHTS, SHAPES}
    assert json.loads(artifact.files[SHAPES])["widths"]["head"] == {"in_features": 24, "out_features": 3}
    assert artifact.notes == {"note": 1}


def test_the_same_seed_gives_the_same_bytes() -> None:
    same = [to_artifact(build(resnet(), seed)).sha256 for seed in (3, 3, 4)]
    assert same[0] == same[1] != same[2]


# Weights


def test_weights_are_taken_from_safetensors_and_from_a_state_dict(
    tmp_path: Path, source: Callable[..., ModelSource]
) -> None:
    trained = build(source(), seed=5)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        module = build(source(weights=name), seed=0)
        for key, tensor in trained.state_dict().items():
            assert torch.equal(module.state_dict()[key], tensor)


def test_an_artifact_needs_the_weights_file_no_more(tmp_path: Path, source: Callable[..., ModelSource]) -> None:
    save_file(build(source(), seed=5).state_dict(), tmp_path / "w.safetensors")
    artifact = to_artifact(build(source(weights="w.safetensors"), seed=0))
    (tmp_path / "w.safetensors").unlink()
    assert to_artifact(from_artifact(artifact, source(weights="w.safetensors"), 0)).files == artifact.files


class Bomb:
    """A pickle of this makes a file when it is loaded by a loader that runs what it is told to."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.pkl", "w.safetensors"])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, source: Callable[..., ModelSource], name: str, write: Callable[[Any, Path], Any]
) -> None:
    marker = tmp_path / "ran"
    write({"0.weight": Bomb(marker)}, tmp_path / name)
    message = refused(lambda: build(source(weights=name), 0), "weights")
    assert message.startswith(f"{name} was refused: it does not load as plain tensors (")
    assert message.endswith("save the state_dict with safetensors.torch.save_file")
    assert not marker.exists()


def test_the_pickle_of_that_test_does_run_where_nobody_looks(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(marker)))  # noqa: S301 - what the refusal above protects from
    assert marker.exists()


@pytest.mark.parametrize("value", [[torch.zeros(2)], {"state_dict": {"a": torch.zeros(2)}}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, source: Callable[..., ModelSource], value: object) -> None:
    torch.save(value, tmp_path / "w.pt")
    message = refused(lambda: build(source(weights="w.pt"), 0), "weights")
    assert message.startswith("w.pt holds no state_dict of tensors; save the state_dict")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"PK\x03\x04"])
def test_garbage_is_refused(tmp_path: Path, source: Callable[..., ModelSource], name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "does not load as plain tensors" in refused(lambda: build(source(weights=name), 0), "weights")


def test_weights_that_do_not_fit_are_told_by_name(tmp_path: Path, source: Callable[..., ModelSource]) -> None:
    state = build(source(), 0).state_dict()
    state["extra"] = state.pop("3.bias")
    state["0.weight"] = torch.zeros(9, 4)
    save_file(state, tmp_path / "w.safetensors")
    assert refused(lambda: build(source(weights="w.safetensors"), 0), "weights") == (
        "w.safetensors does not fit the model (missing: 3.bias; unexpected: extra; of another shape: 0.weight); "
        "check `args` and the weights file"
    )


# Factories


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("raises", "factories_of_a_test:raises raised ValueError: no such size; mend the factory or its `args`"),
        ("leaves", "factories_of_a_test:leaves raised SystemExit: 3; mend the factory or its `args`"),
        ("text", "factories_of_a_test:text returned str; return a torch.nn.Module"),
        ("bild", "factories_of_a_test has no 'bild'; did you mean 'build'?"),
        ("nowhere_of_a_test:build", "there is no module 'nowhere_of_a_test'; put it into the job file's folder"),
        ("torch:pi", "torch:pi raised TypeError: 'float' object is not callable"),
    ],
)
def test_a_factory_that_makes_no_model_is_told(source: Callable[..., ModelSource], name: str, problem: str) -> None:
    assert refused(lambda: build(source(name), 0)).startswith(problem)


def test_arguments_that_a_factory_does_not_take_are_told(source: Callable[..., ModelSource]) -> None:
    assert "unexpected keyword argument 'hiden'" in refused(lambda: build(source(hiden=3), 0))


@pytest.mark.parametrize(
    ("name", "example", "outputs_count", "problem"),
    [
        ("build", EXAMPLE, 3, "the model gives (2, 2) for 2 rows; the data needs (2, 3)"),
        ("build", EXAMPLE, 1, "the model gives (2, 2) for 2 rows; the data needs (2, 1)"),
        ("pair", EXAMPLE, 2, "the model gives tuple for 2 rows; return one row for each"),
        ("build", EXAMPLE[:, :3], 2, "the model does not take this data of shape (2, 3) (RuntimeError: mat1 and mat2"),
        ("half", EXAMPLE, 2, "the model does not take this data of shape (2, 4) (RuntimeError: mat1 and mat2 must"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_told(
    source: Callable[..., ModelSource], name: str, example: np.ndarray, outputs_count: int, problem: str
) -> None:
    assert refused(lambda: check(source(name), 0, example, (outputs_count,))).startswith(problem)


def test_a_model_that_fits_is_given_ready_to_use(source: Callable[..., ModelSource]) -> None:
    assert not check(source(), 0, EXAMPLE, (2,)).training


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "model: names no model; give either `factory: package.module:function` or `onnx: FILE.onnx`"),
        ({"factory": "a:b", "onnx": "here.onnx"}, "model: names two models; give either"),
        ({"factory": "network"}, "model.factory: 'network' names no function; write package.module:function"),
        ({"onnx": "gone.onnx"}, "gone.onnx; paths are relative to the job file's folder"),
        ({"factory": "a:b", "weights": "gone.pt"}, "gone.pt; paths are relative to the job file's folder"),
        ({"onnx": "here.onnx", "weights": "here.onnx"}, "model.weights: goes with a `factory:`, not with an ONNX file"),
        ({"onnx": "here.onnx", "args": {"a": 1}}, "model.args: goes with a `factory:`, not with an ONNX file"),
        ({"onnx": "x" * 300}, "cannot be read: File name too long"),
    ],
)
def test_settings_that_cannot_be_are_told_at_once(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    (tmp_path / "here.onnx").touch()
    (fault,) = model_settings.check(ModelSettings(**fields), Document({}, "job.yaml", tmp_path))
    assert message in str(fault)
    assert fault.remedy


# Fingerprints


def marked(source: ModelSource, seed: int = 0, example: np.ndarray = EXAMPLE) -> str:
    plugins.forget()
    return fingerprint(source, build(source, seed), example)


def test_a_fingerprint_is_the_same_for_the_same_model(source: Callable[..., ModelSource]) -> None:
    assert marked(source()) == marked(source())


def test_a_fingerprint_knows_seed_arguments_factory_and_weights(
    tmp_path: Path, source: Callable[..., ModelSource]
) -> None:
    save_file({key: tensor + 1 for key, tensor in build(source(), 0).state_dict().items()}, tmp_path / "w.safetensors")
    marks = [
        marked(source()), marked(source(), seed=1), marked(source(hidden=9)), marked(source("Buffers")),
        marked(source(weights="w.safetensors")),
    ]  # fmt: skip
    assert len(set(marks)) == len(marks)


def test_a_fingerprint_knows_arguments_that_show_only_in_training(source: Callable[..., ModelSource]) -> None:
    assert marked(source("Secretive", noise=0.1)) != marked(source("Secretive", noise=0.2))


@pytest.mark.parametrize("name", ["factories_of_a_test.py", "parts_of_a_test.py"])
def test_a_fingerprint_knows_the_source_in_the_folder(
    tmp_path: Path, source: Callable[..., ModelSource], name: str
) -> None:
    before = marked(source())
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(f"{text}\n# edited\n")
    assert marked(source()) != before
    (tmp_path / name).write_text(text)
    assert marked(source()) == before


def test_a_fingerprint_does_not_know_files_that_are_not_used(
    tmp_path: Path, source: Callable[..., ModelSource]
) -> None:
    before = marked(source())
    (tmp_path / "plots.py").write_text("x = 1")
    assert marked(source()) == before


def test_outputs_of_any_type_are_fingerprinted(source: Callable[..., ModelSource]) -> None:
    half = build(source("half"), 0)
    example = torch.from_numpy(EXAMPLE).to(torch.bfloat16)
    module = nn.Sequential(Halved(), half)
    assert outputs(module, torch.from_numpy(EXAMPLE)).dtype == example.dtype
    assert len(fingerprint(source("half"), module, EXAMPLE)) == len(hashlib.sha256().hexdigest())


class Halved(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16)
