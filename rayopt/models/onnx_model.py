"""ONNX models into and out of artifacts, the gate that a foreign file passes first, and sessions to run them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data.rows import Columns, Rows, repeated, told
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
    """The inputs of a model: numpy types by name, and the batch size where the file fixes one."""

    inputs: Mapping[str, str]
    fixed_batch: int | None

    def feed(self, rows: Rows) -> dict[str, Array]:
        """Rows as the runtime takes them; raises StepError where they are for other inputs."""
        if not isinstance(rows, Columns):
            if len(self.inputs) != 1:
                named = ", ".join(self.inputs)
                raise StepError(
                    f"the model has {len(self.inputs)} inputs ({named}), the data one: name each in `features:`"
                )
            return {name: rows.astype(dtype, copy=False) for name, dtype in self.inputs.items()}
        if set(rows.arrays) != set(self.inputs):
            theirs, ours = ", ".join(sorted(self.inputs)), ", ".join(sorted(rows.arrays))
            raise StepError(f"the model's inputs are {theirs}, the data has {ours}: name them in `features:`")
        return {name: rows.arrays[name].astype(dtype, copy=False) for name, dtype in self.inputs.items()}


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


def check_fits(artifact: Artifact, example: Rows, wanted: tuple[int, ...] | None, place: str) -> None:
    """Raises InputError unless the model turns `example` into outputs of shape `wanted` for each row (None: any)."""
    remedy = "check the model against the data"
    try:
        result = predict(session(artifact), example)
    except StepError as error:
        raise input_error(place, f"does not take this data of {told(example)}: {error}", remedy) from error
    if wanted is not None and not fits(result.shape[1:], wanted):
        raise input_error(
            place, f"gives {result.shape} for {len(example)} rows", f"the data needs {(len(example), *wanted)}"
        )


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether outputs of a shape (for one row) are what the data needs; two classes may come as one logit."""
    return shape == wanted or (wanted in ((1,), (2,)) and shape in ((), (1,)))


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
    """The inputs of a session; raises StepError for what cannot be fed from rows."""
    inputs: dict[str, str] = {}
    fixed: set[int] = set()
    for one in running.get_inputs():
        if one.type not in DTYPES:
            raise StepError(f"the input {one.name!r} is of type {one.type}, which is not supported")
        inputs[one.name] = DTYPES[one.type]
        fixed |= {dim for dim in one.shape[:1] if isinstance(dim, int) and dim > 0}
    if len(fixed) > 1:
        raise StepError(f"the inputs fix different batch sizes: {', '.join(map(str, sorted(fixed)))}")
    return Signature(inputs, next(iter(fixed), None))


def predict(running: Any, x: Rows, batch_size: int = 256) -> Array:
    """The model's first output for all rows; raises StepError where the runtime fails on them."""
    return _outputs(running, x, batch_size, [running.get_outputs()[0].name])[0]


def predict_all(running: Any, x: Rows, batch_size: int = 256) -> list[Array]:
    """Every output of the model for all rows; raises StepError as `predict` does."""
    return _outputs(running, x, batch_size, [one.name for one in running.get_outputs()])


def _outputs(running: Any, x: Rows, batch_size: int, names: list[str]) -> list[Array]:
    takes = signature(running)
    size = takes.fixed_batch or batch_size
    parts: list[list[Array]] = [[] for _ in names]
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        fed = takes.feed(repeated(rows, size) if takes.fixed_batch else rows)
        wanted = size if takes.fixed_batch else len(rows)
        try:
            found = running.run(names, fed)
        except Exception as error:
            raise StepError(f"ONNX Runtime does not run the model: {_first(error)}") from error
        for part, name, output in zip(parts, names, found, strict=True):
            if not isinstance(output, np.ndarray) or output.shape[:1] != (wanted,):
                shape = output.shape if isinstance(output, np.ndarray) else type(output).__name__
                raise StepError(f"the model's output {name!r} is {shape} for {wanted} rows, not one row for each")
            part.append(output[: len(rows)])
    return [np.concatenate(part) for part in parts]


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
