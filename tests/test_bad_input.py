"""What the command line says of all that a user may get wrong: where, what, what to do; and it writes nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from rayopt import plugins
from rayopt.cli.commands import cli
from rayopt.runs.folder import RunFolder

JOB = """\
kind: optimize
name: small
model:
  factory: rayopt.models.zoo:mlp
  args: {features: 4, outputs: 2, hidden: 8}
data:
  source: points.npz
train: {epochs: 1}
steps:
  - any: [nothing, quantize_dynamic]
  - {use: optimize_graph}
measure: {batch_sizes: [1], timing_s: 0.01}
"""
ONNX_JOB = """\
kind: optimize
name: small
model:
  onnx: net.onnx
data:
  source: points.npz
steps:
  - quantize_dynamic
measure: {batch_sizes: [1], timing_s: 0.01}
"""
FACTORIES = """
import torch

def raises():
    raise ValueError("no such size")

def text():
    return "a model"
"""
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 2


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    errors: list[str]
    stderr: str = field(default="", compare=False)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    yield
    plugins.forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder with good data, a few factories and a good ONNX model; no job yet."""
    place = tmp_path / "job"
    place.mkdir()
    np.savez(place / "points.npz", x=X, y=Y)
    (place / "factories_for_bad_input.py").write_text(FACTORIES)
    (place / "net.onnx").write_bytes(net().SerializeToString())
    return place


def net(features: int = 4, inputs: int = 1) -> Any:
    """An ONNX model: x @ w."""
    names = ["x", "mask"][:inputs]
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", features]) for name in names]
    weights = numpy_helper.from_array(np.ones((features, 2), np.float32), "w")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "graph", shown, [output], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(folder: Path, *options: str, out: Path | None = None) -> Said:
    """`rayopt run` in this process."""
    words = ["run", str(folder / "job.yaml"), "--address", "inprocess", "--out", str(out or folder.parent / "out")]
    result = CliRunner().invoke(cli, [*words, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return Said(result.exit_code, errors, result.stderr)


def refused(folder: Path, text: str | bytes, *options: str, out: Path | None = None) -> list[str]:
    """Its errors, each without the path of the job's folder, once it is seen that nothing was written."""
    (folder / "job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    said = run(folder, *options, out=out)
    assert said.code == 2
    assert not (folder.parent / "out").exists()
    return [line.removeprefix("error: ").replace(f"{folder}/", "") for line in said.errors]


def changed(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def test_what_the_cases_below_start_from_is_good(folder: Path) -> None:
    for text in (JOB, ONNX_JOB):
        (folder / "job.yaml").write_text(text)
        assert run(folder, "--overwrite") == Said(0, [])
        assert json.loads((folder.parent / "out" / "summary.json").read_text())["status"] == "done"


# The job file


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "job.yaml: is empty; a job starts with `kind:` and `name:`", id="empty"),
        pytest.param("# later\n", "job.yaml: is empty; a job starts with `kind:` and `name:`", id="comments"),
        pytest.param("- kind: optimize\n", "job.yaml:1: is not a mapping; write `key: value` pairs", id="list"),
        pytest.param("kind: optimize\nname: [a\n", "job.yaml:3: is not YAML: expected ',' or ']'", id="no yaml"),
        pytest.param("kind: optimize\n\tname: a\n", "job.yaml:2: is not YAML: found character '\\t'", id="tab"),
        pytest.param(BOMB, "job.yaml:5: stands for more than 20,000 values; a job file holds", id="yaml bomb"),
        pytest.param("kind: &k [*k]", "job.yaml:1: an alias contains itself; write the value out", id="alias cycle"),
        pytest.param("a: " + "[" * 100_000, "job.yaml: is nested too deeply; a job file needs a few", id="deep"),
        pytest.param("a: 1\n" * 300_000, "job.yaml: is 1,500,000 bytes long; a job file has at most", id="long"),
        pytest.param(b"\x80\x02}q\x00.", "job.yaml: is not UTF-8 text (byte 0); save the file as UTF-8", id="binary"),
        pytest.param("a: !!python/name:os.system", "job.yaml:1: a: has the tag !!python/name:os.system; wr", id="tag"),
        pytest.param("name: x", "job.yaml:1: names no `kind:`; add `kind: optimize`; known: distill", id="no kind"),
        pytest.param("kind: [optimize]", "job.yaml:1: kind: ['optimize'] is no kind; known: ", id="kind is a list"),
        pytest.param(
            "kind: os.path", "job.yaml:1: kind: 'os.path' is no kind: it lacks Job, check", id="no kind at all"
        ),
    ],
)
def test_a_file_that_is_no_job(folder: Path, text: str | bytes, message: str) -> None:
    (found,) = refused(folder, text)
    assert found.startswith(message)
    assert "; " in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            ("kind: optimize", "kind: optimise"),
            "job.yaml:1: kind: unknown kind 'optimise'; did you mean 'optimize'? known: ",
            id="kind",
        ),
        pytest.param(
            ("name: small", "name: small\nmetrik: auto"),
            "job.yaml:3: metrik: unknown key 'metrik'; did you mean 'metric'? known: budget, ",
            id="key",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train:\n  epochs: 1\n  epoch: 1"),
            "job.yaml:10: train.epoch: unknown key 'epoch'; did you mean 'epochs'? known: batch_size, epochs",
            id="nested key",
        ),
        pytest.param(
            ("source: points.npz", "source: points.npz\n  split: {tests: 0.1}"),
            "job.yaml:8: data.split.tests: unknown key 'tests'; did you mean 'test'? known: calibration, ",
            id="key nested twice",
        ),
        pytest.param(
            ("{use: optimize_graph}", "{use: optimize_graph, tool: [ort_basic]}"),
            "job.yaml:11: steps[1].tool: unknown key 'tool'; did you mean 'tools'? known: tools",
            id="key of a step",
        ),
        pytest.param(
            ("{use: optimize_graph}", "{use: optimise_graph}"),
            "job.yaml:11: steps[1].use: unknown method 'optimise_graph'; did you mean 'optimize_graph'? known: ",
            id="method",
        ),
        pytest.param(
            ("[nothing, quantize_dynamic]", "\n    - nothing\n    - quantise_dynamic"),
            "job.yaml:12: steps[0].any[1]: unknown method 'quantise_dynamic'; did you mean 'quantize_dynamic'? ",
            id="method in a fork",
        ),
        pytest.param(
            ("{use: optimize_graph}", "{use: no_such.method}"),
            "job.yaml:11: steps[1].use: there is no method 'no_such.method'; put it into the job file's folder",
            id="method of one's own",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: many}"),
            "job.yaml:8: train.epochs: input should be a valid integer, unable to parse string as an integer; got 'ma",
            id="type",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: 3"),
            "job.yaml:8: train: input should be a valid dictionary or instance of FitSettings; got 3",
            id="number for a mapping",
        ),
        pytest.param(("name: small", "name: 7"), "job.yaml:2: name: input should be a valid string; got 7", id="name"),
        pytest.param(
            ("name: small", "name: a/b"), "job.yaml:2: name: string should match pattern", id="name with a slash"
        ),
        pytest.param(
            ("name: small", "name: small\nname: large"),
            "job.yaml:3: name: is given twice; it is also on line 2; keep one of them",
            id="key twice",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 0}"),
            "job.yaml:8: train.epochs: input should be greater than or equal to 1; got 0",
            id="out of range",
        ),
        pytest.param(
            ("{use: optimize_graph}", "{use: prune_channels, keep: 1.5}"),
            "job.yaml:11: steps[1].keep: input should be less than 1; got 1.5",
            id="parameter out of range",
        ),
        pytest.param(
            ("[nothing, quantize_dynamic]\n  - {use: optimize_graph}", "[nothing, export_onnx]"),
            "job.yaml:9: steps: leave only the baseline to try; name at least one step that changes the model",
            id="only the baseline",
        ),
        pytest.param(
            ("any: [nothing, quantize_dynamic]", "any: []"),
            "job.yaml:10: steps[0].any: holds no alternatives; give a list of steps",
            id="empty fork",
        ),
        pytest.param(
            ("[nothing, quantize_dynamic]", f"[{', '.join(['recover', 'train'] * 5001)}]"),
            "job.yaml:10: steps[0].any[10000]: the forks make more than 10,000 chains; name fewer alternatives",
            id="too many chains",
        ),
        pytest.param(
            (
                "any: [nothing, quantize_dynamic]\n  - {use: optimize_graph}",
                "export_onnx\n  - [optimize_graph, recover]",
            ),
            "job.yaml:11: steps[1][1]: recover takes a torch model, but the chain holds an onnx model there; put it be",
            id="torch after export",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 1}\nmetric: acuracy"),
            "job.yaml:9: metric: unknown metric 'acuracy'; did you mean 'accuracy'? known: accuracy, agreement, ",
            id="metric",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 1}\nmetric: factories_for_bad_input:score"),
            "job.yaml:9: metric: factories_for_bad_input has no 'score'; known: raises, text",
            id="metric of one's own",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 1}\nmetric: rmse"),
            "job.yaml:9: metric: rmse is no metric of classification, which the data asks for; known: accuracy, ",
            id="metric of another task",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 1}\nobjective: fast"),
            "job.yaml:9: objective: input should be 'balanced', 'size' or 'speed'; got 'fast'",
            id="choice",
        ),
        pytest.param(
            ("train: {epochs: 1}", "train: {epochs: 1}\nmax_accuracy_drop: .nan"),
            "job.yaml:9: holds a value that cannot be read: .nan is no finite number; mend the line",
            id="not a number",
        ),
    ],
)
def test_a_job_with_one_fault(folder: Path, change: tuple[str, str], message: str) -> None:
    (found,) = refused(folder, changed(JOB, change))
    assert found.startswith(message)
    assert "; " in found


def test_all_faults_of_a_file_come_together_with_their_own_lines(folder: Path) -> None:
    text = changed(
        JOB, ("name: small", "name: a/b"), ("factory: ", "onnx: gone.onnx\n  factory: "), ("epochs: 1", "epoch: 1"),
        ("quantize_dynamic", "quantize_dynamik"), ("{use: optimize_graph}", "{use: optimize_graph, tools: []}"),
    )  # fmt: skip
    places = [line.split(": ")[0] + " " + line.split(": ")[1] for line in refused(folder, text)]
    assert places == [
        "job.yaml:2 name",
        "job.yaml:3 model",
        "job.yaml:4 model.onnx",
        "job.yaml:9 train.epoch",
        "job.yaml:11 steps[0].any[1]",
        "job.yaml:12 steps[1].tools",
    ]


def test_faults_of_model_data_and_steps_come_together(folder: Path) -> None:
    text = changed(
        JOB, ("points.npz", "gone.npz"), ("zoo:mlp", "zoo"), ("nothing, quantize_dynamic", "recuver"),
    )  # fmt: skip
    assert [line.partition(";")[0] for line in refused(folder, text)] == [
        "job.yaml:4: model.factory: 'rayopt.models.zoo' names no function",
        "job.yaml:7: data.source: there is no file gone.npz",
        "job.yaml:10: steps[0].any[0]: unknown method 'recuver'",
    ]


def test_what_shows_only_on_loading_comes_together_too(folder: Path) -> None:
    np.savez(folder / "points.npz", x=X, y=np.zeros(60, int))
    text = (
        changed(
            JOB,
            ("rayopt.models.zoo:mlp", "factories_for_bad_input:raises"),
            ("  args: {features: 4, outputs: 2, hidden: 8}\n", ""),
        )
        + "metric: factories_for_bad_input:score\n"
    )
    assert [line.partition(";")[0] for line in refused(folder, text)] == [
        "job.yaml:5: data: the target has a single class (0)",
        "job.yaml:12: metric: factories_for_bad_input has no 'score'",
        "job.yaml:4: model.factory: factories_for_bad_input:raises raised ValueError: no such size",
    ]


def test_a_job_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    assert run(tmp_path / "job").errors == [
        f"error: {tmp_path}/job/job.yaml: there is no such file; give the path of a job file"
    ]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["seed=many"], "--set seed=many (seed): input should be a valid integer"),
        (["train.epochs=0"], "--set train.epochs=0 (train.epochs): input should be greater than or equal to 1; got 0"),
        (["steps[1].use=nope"], "--set steps[1].use=nope (steps[1].use): unknown method 'nope'; known: "),
        (["data.source=gone.npz"], "--set data.source=gone.npz (data.source): there is no file gone.npz; paths are"),
        (
            ["model.facotry=a:b"],
            "--set model.facotry=a:b (model.facotry): unknown key 'facotry'; did you mean 'factory'?",
        ),
        (["seed"], "--set seed: is not an assignment; write --set key.sub=value"),
        (["steps[7]=nothing"], "--set steps[7]=nothing: steps is a list of 2, which has no '7'; name a key of the job"),
        (["name.first=a"], "--set name.first=a: name holds the plain value 'small', which has no 'first'; name a key"),
        (["seed=[1"], "--set seed=[1: the value:1 is not YAML: expected ',' or ']'"),
    ],
)
def test_a_fault_of_an_assignment(folder: Path, assignments: list[str], message: str) -> None:
    (found,) = refused(folder, JOB, *(word for one in assignments for word in ("--set", one)))
    assert found.startswith(message)
    assert "; " in found


# The model


def external(folder: Path) -> None:
    onnx.save_model(net(), str(folder / "net.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "w.bin").rename(folder.parent / "w.bin")
    model = onnx.load(str(folder / "net.onnx"), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../w.bin"
    (folder / "net.onnx").write_bytes(model.SerializeToString())


def cut(folder: Path) -> None:
    os.truncate(folder / "net.onnx", (folder / "net.onnx").stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda folder: (folder / "net.onnx").unlink(), "there is no file net.onnx; paths", id="missing"),
        pytest.param(lambda folder: (folder / "net.onnx").write_bytes(b""), "net.onnx is empty; export", id="empty"),
        pytest.param(cut, "net.onnx is not a whole ONNX file (", id="truncated"),
        pytest.param(external, "net.onnx has external data outside its folder (../w.bin); keep", id="external data"),
        pytest.param(
            lambda folder: (folder / "net.onnx").write_bytes(net(features=5).SerializeToString()),
            "does not take this data of shape (2, 4): ONNX Runtime does not run the model: ",
            id="input shape",
        ),
        pytest.param(
            lambda folder: (folder / "net.onnx").write_bytes(net(inputs=2).SerializeToString()),
            "does not take this data of shape (2, 4): the model has 2 inputs (x, mask), the data one: name each",
            id="several inputs",
        ),
        pytest.param(
            lambda folder: np.savez(folder / "points.npz", x=X, y=np.arange(60) % 3),
            "gives (2, 2) for 2 rows; the data needs (2, 3)",
            id="outputs",
        ),
    ],
)
def test_an_onnx_model_that_cannot_be_used(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    (found,) = refused(folder, ONNX_JOB)
    assert found.startswith(f"job.yaml:4: model.onnx: {message}")
    assert "; " in found


def test_a_torch_method_on_an_onnx_model(folder: Path) -> None:
    (found,) = refused(folder, changed(ONNX_JOB, ("  - quantize", "  - prune_channels\n  - quantize")))
    assert found == (
        "job.yaml:8: steps[0]: prune_channels takes a torch model, but the chain holds an onnx model there; "
        "put it before the export, or start from a `factory:` model"
    )


def test_training_an_onnx_model(folder: Path) -> None:
    (found,) = refused(folder, ONNX_JOB + "train: {epochs: 3}\n")
    assert found == ("job.yaml:10: train: an ONNX file cannot be trained; leave `train:` out, or give a `factory:`")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("factories_for_bad_input:raises", "factories_for_bad_input:raises raised ValueError: no such size; mend"),
        ("factories_for_bad_input:text", "factories_for_bad_input:text returned str; return a torch.nn.Module"),
        ("factories_for_bad_input:txet", "factories_for_bad_input has no 'txet'; did you mean 'text'?"),
        ("factories_for_bad_input", "'factories_for_bad_input' names no function; write package.module:function"),
        ("nowhere_for_bad_input:build", "there is no module 'nowhere_for_bad_input'; put it into the job file's"),
        ("broken_for_bad_input:build", "importing 'broken_for_bad_input' raised SyntaxError: "),
        (
            "needy_for_bad_input:build",
            "importing 'needy_for_bad_input' needs 'no_such_library', which is not installed",
        ),
        (
            "rayopt.models.zoo:mlp\n  args: {features: 4, outputs: 3}",
            "the model gives (2, 3) for 2 rows; the data needs",
        ),
        (
            "rayopt.models.zoo:mlp\n  args: {features: 5, outputs: 2}",
            "the model does not take this data of shape (2, 4)",
        ),
        ("rayopt.models.zoo:mlp\n  args: {feature: 4}", "rayopt.models.zoo:mlp raised TypeError: mlp() got an unexp"),
    ],
)
def test_a_factory_that_cannot_be_used(folder: Path, factory: str, message: str) -> None:
    (folder / "broken_for_bad_input.py").write_text("def build(:\n")
    (folder / "needy_for_bad_input.py").write_text("import no_such_library\n")
    whole = "rayopt.models.zoo:mlp\n  args: {features: 4, outputs: 2, hidden: 8}"
    (found,) = refused(folder, changed(JOB, (whole, factory)))
    assert found.startswith(f"job.yaml:4: model.factory: {message}")
    assert "; " in found


class Bomb:
    """A pickle that makes a folder where it is loaded without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def weights(folder: Path, content: object) -> list[str]:
    if isinstance(content, bytes):
        (folder / "w.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, folder / "w.pt")
    return refused(folder, changed(JOB, ("  args:", "  weights: w.pt\n  args:")))


@pytest.mark.parametrize("save", [lambda bomb: bomb, lambda bomb: pickle.dumps(bomb)])
def test_a_pickle_given_as_weights_is_refused_and_not_run(folder: Path, save: Callable[[Bomb], object]) -> None:
    marker = folder.parent / "ran"
    (found,) = weights(folder, save(Bomb(marker)))
    assert found.startswith("job.yaml:5: model.weights: w.pt was refused: it does not load as plain tensors (")
    assert found.endswith("; save the state_dict with safetensors.torch.save_file")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "there is no file w.pt; paths are relative to the job file's folder", id="missing"),
        pytest.param(b"", "w.pt was refused: it does not load as plain tensors (", id="empty"),
        pytest.param([1, 2], "w.pt holds no state_dict of tensors; save the state_dict", id="no state_dict"),
        pytest.param({"a": torch.zeros(1)}, "w.pt does not fit the model (missing: 0.weight", id="other model"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_used(folder: Path, content: object, message: str) -> None:
    (found,) = weights(folder, content)
    assert found.startswith(f"job.yaml:5: model.weights: {message}")
    assert "; " in found


def test_weights_of_another_width(folder: Path) -> None:
    from rayopt.models.zoo import mlp

    save_file(mlp(4, 2, hidden=9).state_dict(), folder / "w.safetensors")
    (found,) = refused(folder, changed(JOB, ("  args:", "  weights: w.safetensors\n  args:")))
    assert found == (
        "job.yaml:5: model.weights: w.safetensors does not fit the model "
        "(of another shape: 0.weight, 0.bias, 2.weight); check `args` and the weights file"
    )


# The data


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    spoiled = array.astype(np.float32)
    spoiled.flat[5] = value
    return spoiled


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        pytest.param(with_value(X, np.nan), Y, "1 of 60 rows have NaN or infinite features; drop or", id="nan"),
        pytest.param(with_value(X, np.inf), Y, "1 of 60 rows have NaN or infinite features; drop or", id="inf"),
        pytest.param(X, with_value(Y, np.nan), "1 of 60 targets are NaN or infinite; drop those", id="nan target"),
        pytest.param(X, Y * 0, "the target has a single class (0); give at least two classes", id="one class"),
        pytest.param(X[:12], Y[:12], "has 12 rows, fewer than the splits need (20); give more data", id="few rows"),
        pytest.param(X[:0], Y[:0], "has 0 rows, fewer than the splits need (20); give more data", id="no rows"),
        pytest.param(X, Y[:59], "there are 60 rows of features but 59 targets; make them match", id="lengths"),
        pytest.param(X.astype(str), Y, "features are of type <U", id="text features"),
        pytest.param(X[:, 0], Y, "features have shape (60,); give one row per example: (rows, features", id="flat"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used(folder: Path, x: np.ndarray, y: np.ndarray, message: str) -> None:
    np.savez(folder / "points.npz", x=x, y=y)
    (found,) = refused(folder, JOB)
    assert found.startswith(f"job.yaml:6: data: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a,b,y\n1,x,0\n", "6: data: columns b of points.csv are not numeric; encode", id="text column"),
        pytest.param("a,b,z\n1,2,0\n", "6: data: points.csv has no column 'y'; known: a, b", id="no target column"),
        pytest.param("a,b,y\n1,2,\n", "6: data: column 'y' has 1 missing values; drop those rows", id="missing target"),
        pytest.param("", "6: data: points.csv cannot be read: No columns to parse from file; check that", id="empty"),
        pytest.param(None, "7: data.source: there is no file points.csv; paths are relative to the job", id="missing"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used(folder: Path, content: str | None, message: str) -> None:
    if content is not None:
        (folder / "points.csv").write_text(content)
    (found,) = refused(folder, changed(JOB, ("points.npz", "points.csv\n  target: y")))
    assert found.startswith(f"job.yaml:{message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("points.npz\n  target: z", "6: data: points.npz has no array 'z' for `target`; ", id="target"),
        pytest.param("points.txt", "7: data.source: unknown data source 'points.txt'; ", id="suffix"),
        pytest.param("points.csv", "6: data.target: does not say which column is the target; add", id="no target"),
        pytest.param(
            "points.npz\n  split: {test: 0.5, selection: 0.3, calibration: 0.2}",
            "8: data.split: the splits take 100% of the rows; leave at least 5 % to train on",
            id="splits that take everything",
        ),
        pytest.param("points.npz\n  split: {test: 0.9}", "8: data.split.test: input should be less than", id="share"),
        pytest.param("no_such_points:load", "6: data: there is no module 'no_such_points'; ", id="function"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_had(folder: Path, change: str, message: str) -> None:
    (folder / "points.csv").write_text("a,y\n1,0\n")
    (found,) = refused(folder, changed(JOB, ("points.npz", change)))
    assert found.startswith(f"job.yaml:{message}")


# The output folder


@pytest.fixture
def done(folder: Path) -> Path:
    """A job that was run, and its results."""
    (folder / "job.yaml").write_text(JOB)
    assert run(folder).code == 0
    return folder.parent / "out"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_another_job_is_refused_unless_it_may_be_overwritten(folder: Path, done: Path) -> None:
    before = files(done)
    said = run(folder, "--set", "seed=1")
    assert (said.code, said.errors) == (
        2,
        [
            f"error: {done}: holds the results of another job or another version of 'small': seed was 0, is 1; "
            "give another --out, or --overwrite to replace them"
        ],
    )
    assert files(done) == before
    assert run(folder, "--set", "seed=1", "--overwrite").code == 0
    assert json.loads((done / "plan.json").read_text())["job"]["seed"] == 1


def test_a_folder_of_other_files_is_refused(folder: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    before = files(folder)
    said = run(folder, "--overwrite", out=folder)
    assert said == Said(
        2, [f"error: {folder}: holds files that are not a run's; give an empty or new folder with --out"]
    )
    assert {path: content for path, content in files(folder).items() if "__pycache__" not in path} == before


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    target = folder.parent / "notes.txt"
    target.write_text("mine")
    assert run(folder, out=target) == Said(2, [f"error: {target}: is a file; give a folder with --out"])
    assert run(folder, out=target / "below").errors[0].startswith(f"error: {target}/below: cannot be written: ")
    assert target.read_text() == "mine"


def test_an_address_of_another_kind_is_refused(folder: Path) -> None:
    (found,) = refused(folder, JOB, out=Path("s3://bucket/run"))
    assert found.endswith("is not a local folder; give a path on this machine")


HOLD = """
import sys
from pathlib import Path
from rayopt.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.claim(folder.owner(), "small", False)
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_folder_in_use_by_another_process_is_refused(folder: Path, done: Path) -> None:
    before = files(done)
    words = [sys.executable, "-c", HOLD, str(done)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        assert run(folder) == Said(2, [f"error: {done}: is in use by another run; wait for it, or give another --out"])
        assert files(done) == before
        other.communicate()
    assert run(folder).code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        message = f"no disk can be mounted here: {mounted.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    (tmp_path / "locked").mkdir(mode=0o500)
    said = run(folder, out=tmp_path / "locked" / "out")
    assert said.code == 2
    assert said.errors == [
        f"error: {tmp_path}/locked/out: cannot be written: Permission denied; give an --out that you may write to"
    ]


def test_a_disk_that_may_only_be_read_is_refused(folder: Path, small_disk: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = run(folder, out=small_disk / "out")
    problem = "cannot be written: Read-only file system; give an --out that you may write to"
    assert said == Said(2, [f"error: {small_disk}/out: {problem}"])


# The console script, as a user runs it


PROGRAM = Path(sys.executable).parent / "rayopt"


def script(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *words], capture_output=True, text=True, timeout=60, cwd=cwd)


def test_the_script_says_errors_on_stderr_and_nothing_on_stdout(folder: Path) -> None:
    (folder / "job.yaml").write_text(changed(JOB, ("name: small", "name: a/b"), ("epochs: 1", "epochs: 0")))
    done = script("run", "job.yaml", "--out", "out", cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.partition(": input")[0].partition(": string")[0] for line in done.stderr.splitlines()] == [
        "error: job.yaml:2: name", "error: job.yaml:8: train.epochs"
    ]  # fmt: skip
    assert not (folder / "out").exists()


def test_the_script_gives_the_same_errors_as_json(folder: Path) -> None:
    (folder / "job.yaml").write_text(changed(JOB, ("name: small", "nam: small")))
    done = script("validate", "job.yaml", "--json", cwd=folder)
    assert done.returncode == 2
    faults = json.loads(done.stdout)["faults"]
    assert [fault["place"] for fault in faults] == ["job.yaml:1: name", "job.yaml:2: nam"]
    assert faults[1]["remedy"].startswith("did you mean 'name'?")
    assert len(done.stderr.splitlines()) == 2


# A full disk


def test_a_disk_that_takes_no_more_is_told_and_what_was_there_stays(folder: Path, done: Path) -> None:
    before = {path: content for path, content in files(done).items() if not path.endswith(("log.txt", "log.jsonl"))}
    words = ["run", "job.yaml", "--out", str(done), "--address", "inprocess"]
    limited = ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", str(PROGRAM), *words]
    said = subprocess.run(limited, capture_output=True, text=True, timeout=60, cwd=folder)
    assert said.returncode == 2
    assert said.stderr.endswith("the disk is full; free some space or give another --out\n")
    assert str(done) in said.stderr
    assert "Traceback" not in said.stderr
    assert {
        path: content for path, content in files(done).items() if not path.endswith(("log.txt", "log.jsonl"))
    } == before


def fill(disk: Path, leave_bytes: int = 0) -> None:
    """Fills the disk but for about `leave_bytes`."""
    free = shutil.disk_usage(disk).free - leave_bytes
    with (disk / "filler").open("wb") as file:
        file.write(b"x" * free)


def test_a_full_disk_is_told_and_an_earlier_run_stays_as_it_was(folder: Path, small_disk: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    out = small_disk / "out"
    assert run(folder, out=out).code == 0
    before = files(out)
    fill(small_disk)
    said = run(folder, out=out)
    assert said.code == 2
    assert said.errors == [f"error: {out}/job.yaml: the disk is full; free some space or give another --out"]
    assert files(out) == before
    assert RunFolder(out).read_summary()["status"] == "done"
    (small_disk / "filler").unlink()
    assert run(folder, out=out).code == 0


@pytest.mark.parametrize("leave_bytes", [8_000, 16_000, 24_000, 1_000_000])
def test_a_disk_that_fills_up_during_a_run_leaves_whole_files(folder: Path, small_disk: Path, leave_bytes: int) -> None:
    (folder / "job.yaml").write_text(JOB)
    out = small_disk / "out"
    fill(small_disk, leave_bytes)
    said = run(folder, out=out)
    if said.code == 0:
        assert (out / "report.html").stat().st_size > 0
        return
    assert said.code == 2
    (error,) = said.errors
    assert "Traceback" not in said.stderr
    assert error.startswith(f"error: {out}")
    assert error.endswith("the disk is full; free some space or give another --out")
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    (small_disk / "filler").unlink()
    assert run(folder, out=out).code == 0
    assert RunFolder(out).read_summary()["status"] == "done"


def test_an_empty_disk_that_is_full_gets_no_results(folder: Path, small_disk: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    fill(small_disk)
    said = run(folder, out=small_disk / "out")
    assert said.code == 2
    assert said.errors[0].endswith("the disk is full; free some space or give another --out")
    assert not [path for path in small_disk.rglob("*") if path.is_file() and path.name not in ("filler", ".lock")]
