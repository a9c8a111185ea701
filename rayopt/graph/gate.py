"""The gate: a file that somebody else wrote is let in, or refused with a typed verdict, before any tool sees it."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayopt.graph.external import Piece, is_external, pieces, tensors_of
from rayopt.graph.folding import folded_bytes
from rayopt.graph.structure import check_structure, check_versions
from rayopt.graph.tensors import element_bits, tensor_bytes
from rayopt.graph.verdicts import Refused
from rayopt.graph.wire import graph_depth

MAX_FILE_BYTES = (1 << 31) - 1  # what protobuf writes at most
MAX_INPUT_BYTES = 1 << 30
FOLD_BYTES = 256 << 20


@dataclass(frozen=True)
class Admitted:
    """A file that has passed: its ModelProto without external data, where that lies, and the bytes of it all.

    `fold_bytes`: what folding all of its constants would make. `file_bytes`: of the one file alone.
    """

    path: Path
    model: Any
    pieces: tuple[Piece, ...]
    size_bytes: int
    fold_bytes: int
    file_bytes: int


def admit(path: Path, fold_bytes: int = FOLD_BYTES) -> Admitted:
    """Reads a model file once it has passed every check; raises Refused."""
    content = _read(path)
    model = _parse(content)
    if not model.HasField("graph") or not model.graph.node:
        raise Refused("empty_graph", "the file holds no graph with nodes")
    check_versions(model)
    check_structure(model)
    _check_inputs(model.graph.input)
    sized = [(tensor, tensor_bytes(tensor)) for tensor in tensors_of(model)]
    found = pieces(path.parent, path.name, [pair for pair in sized if is_external(pair[0])])
    folded, largest = folded_bytes(model)
    if folded > fold_bytes:
        raise Refused("fold_bomb", f"folding its constants would make {folded:,} bytes, most of them in {largest!r}")
    _check(path)
    return Admitted(path, model, tuple(found), len(content) + stored_bytes(found), folded, len(content))


def stored_bytes(found: Sequence[Piece]) -> int:
    """The bytes of external data that a model uses, those that tensors share once."""
    return sum(length for _, _, length in {(one.location, one.offset, one.length) for one in found})


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise Refused("not_a_file", f"there is no file {path.name!r}") from error
    if not stat.S_ISREG(status.st_mode):
        raise Refused("not_a_file", f"{path.name!r} is no plain file")
    if status.st_size == 0:
        raise Refused("empty_file", "the file is empty")
    if status.st_size > MAX_FILE_BYTES:
        raise Refused("too_large", f"{status.st_size:,} bytes are more than one file can hold: use external data")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused("not_a_file", f"{path.name!r} cannot be read: {error.strerror}") from error


def _parse(content: bytes) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.ModelProto.FromString(content)
    except DecodeError as error:
        depth = graph_depth(content)
        if depth is not None and depth > 2:
            raise Refused("too_deep", f"graphs are nested {depth} deep") from error
        raise Refused("unreadable", "the bytes are no whole ONNX file") from error


def _check_inputs(inputs: Sequence[Any]) -> None:
    """Whether inputs of fixed size can be fed at all."""
    for one in inputs:
        if not one.type.HasField("tensor_type"):
            continue
        dims = [dim.dim_value for dim in one.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        size = math.prod(max(1, dim) for dim in dims) * (element_bits(one.type.tensor_type.elem_type) or 8) // 8
        if size > MAX_INPUT_BYTES:
            raise Refused("bad_dimension", f"the input {one.name!r} takes {size:,} bytes")
        if any(dim < -1 for dim in dims):
            raise Refused("bad_dimension", f"the input {one.name!r} has a negative dimension")


def _check(path: Path) -> None:
    """What only `onnx.checker` knows."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise Refused("invalid_model", lines[0][:200] if lines else type(error).__name__) from error
