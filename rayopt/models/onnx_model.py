"""ONNX models into and out of artifacts, the gate that a foreign file passes first, and sessions to run them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.errors import StepError, input_error
from rayopt.records import Artifact

MODEL = "model.onnx"
CERTIFICATE = "certificate.json"  # lies beside the model in a run folder
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Signature:
    """The single input that rayopt feeds: its name, numpy type, and batch size where the file fixes one."""

    name: str
    dtype: str
    fixed_batch: int | None


def read_file(path: Path, place: str) -> Artifact:
    """A user's ONNX file as an artifact, once it has passed the gate; raises InputError."""
    import onnx

    if path.stat().st_size == 0:
        raise input_error(place, f"{path.name} is empty", "export the model again")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise input_error(
            place, f"{path.name} is not a whole ONNX file ({_first(error)})", "export the model again"
        ) from error
    if not model.graph.node:
        raise input_error(place, f"{path.name} has a graph without nodes", "export the model again")
    files = {MODEL: path.read_bytes()}
    for name in sorted(_external_files(model)):
        files[name] = _read_external(path, name, place)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise input_error(
            place, f"{path.name} is not a valid model ({_first(error)})", "export the model again"
        ) from error
    return Artifact("onnx", files)


def check_fits(artifact: Artifact, example: Array, outputs: int, place: str) -> None:
    """Raises InputError unless the model turns `example` rows into `(rows, outputs)`."""
    remedy = "check the model against the data"
    try:
        result = predict(session(artifact), example)
    except StepError as error:
        raise input_error(place, f"does not take this data of shape {example.shape}: {error}", remedy) from error
    fits = [(len(example), outputs)] + ([(len(example),), (len(example), 1)] if outputs <= 2 else [])
    if result.shape not in fits:
        raise input_error(place, f"gives {result.shape} for {len(example)} rows", f"the data needs {fits[0]}")


def from_proto(model: Any, notes: dict[str, Any] | None = None) -> Artifact:
    """An artifact of a ModelProto, its weights inside the one file."""
    return Artifact("onnx", {MODEL: model.SerializeToString(deterministic=True)}, notes or {})


def to_proto(artifact: Artifact) -> Any:
    """The ModelProto of an artifact, external data loaded."""
    import onnx

    with on_disk(artifact) as path:
        return onnx.load(str(path))


@contextmanager
def on_disk(artifact: Artifact) -> Iterator[Path]:
    """The artifact's files in a folder of their own for as long as the context lasts; gives the model's path."""
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        write(artifact.files, Path(folder))
        yield Path(folder) / MODEL


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes files below a folder."""
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def session(artifact: Artifact, threads: int = 1, optimize: bool = True) -> Any:
    """An ONNX Runtime session on the CPU; raises StepError where the runtime does not take the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    try:
        if len(artifact.files) == 1:
            return onnxruntime.InferenceSession(artifact.files[MODEL], options, providers=providers)
        with on_disk(artifact) as path:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise StepError(f"ONNX Runtime does not load the model: {_first(error)}") from error


def signature(running: Any) -> Signature:
    """The input of a session; raises StepError for a model with several."""
    inputs = running.get_inputs()
    if len(inputs) != 1:
        raise StepError(f"the model has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); one is supported")
    if inputs[0].type not in DTYPES:
        raise StepError(f"the input {inputs[0].name!r} is of type {inputs[0].type}, which is not supported")
    batch = inputs[0].shape[0] if inputs[0].shape else None
    return Signature(inputs[0].name, DTYPES[inputs[0].type], batch if isinstance(batch, int) and batch > 0 else None)


def predict(running: Any, x: Array, batch_size: int = 256) -> Array:
    """The model's first output for all rows of x; raises StepError where the runtime fails on them."""
    takes = signature(running)
    size = takes.fixed_batch or batch_size
    parts = []
    for start in range(0, len(x), size):
        rows = x[start : start + size].astype(takes.dtype, copy=False)
        short = size - len(rows) if takes.fixed_batch else 0
        fed = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)]) if short else rows
        try:
            output = running.run(None, {takes.name: fed})[0]
        except Exception as error:
            raise StepError(f"ONNX Runtime does not run the model: {_first(error)}") from error
        if not isinstance(output, np.ndarray) or output.shape[:1] != (len(fed),):
            shape = output.shape if isinstance(output, np.ndarray) else type(output).__name__
            raise StepError(f"the model's first output is {shape} for {len(fed)} rows, not one row for each")
        parts.append(output[: len(rows)])
    return np.concatenate(parts)


def node_count(model: Any) -> int:
    """All nodes of a ModelProto with those of nested graphs, Constant nodes left out."""
    return _count(model.graph)


def _count(graph: Any) -> int:
    total = 0
    for node in graph.node:
        total += node.op_type != "Constant"
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            total += sum(_count(inner) for inner in graphs)
    return total


def _external_files(model: Any) -> set[str]:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    tensors = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def _read_external(path: Path, name: str, place: str) -> bytes:
    folder = path.resolve().parent
    target = folder / name
    remedy = "keep external data beside the model, as plain files"
    if str(Path(name)) in (MODEL, CERTIFICATE):  # `./model.onnx` as well
        raise input_error(place, f"external data of {path.name} is named {name}", "give it a name of its own")
    try:
        if Path(name).is_absolute() or ".." in Path(name).parts or not target.resolve().is_relative_to(folder):
            raise input_error(place, f"{path.name} has external data outside its folder ({name})", remedy)
        if target.is_symlink() or not target.is_file():
            kind = "is a link" if target.is_symlink() else "is not there"
            raise input_error(place, f"external data {name!r} of {path.name} {kind}", remedy)
        return target.read_bytes()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise input_error(place, f"external data of {path.name} cannot be read: {error}", remedy) from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
