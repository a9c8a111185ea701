"""External data of a model that somebody else wrote: plain files inside its own folder and long enough, or refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from rayopt.graph.structure import attributes_of, nested
from rayopt.graph.verdicts import Refused


@dataclass(frozen=True)
class Piece:
    """Where the data of one tensor lies: a path relative to the model's folder, and the bytes of it."""

    tensor: str
    location: str
    offset: int
    length: int


def tensors_of(model: Any) -> Iterator[Any]:
    """Every tensor of a model: initialisers and attributes, of nested graphs and functions as well."""
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        holder = stack.pop()
        if hasattr(holder, "initializer"):
            yield from holder.initializer
            for sparse in holder.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in holder.node:
            for attribute in attributes_of(node):
                if attribute.HasField("t"):
                    yield attribute.t
                if attribute.tensors:
                    yield from attribute.tensors
            stack.extend(nested(node))


def is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == 1)  # TensorProto.EXTERNAL


def pieces(folder: Path, model_name: str, tensors: Iterable[tuple[Any, int]]) -> list[Piece]:
    """Where the external tensors (each with the bytes that its dims ask for) lie; raises Refused."""
    sizes: dict[str, int] = {}
    found = []
    for tensor, wanted in tensors:
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        if location not in sizes:
            sizes[location] = _size(folder, location, model_name)
        found.append(_piece(tensor.name, told, wanted, sizes[location]))
    return found


def _piece(name: str, told: Mapping[str, str], wanted: int, size: int) -> Piece:
    location = told["location"]
    try:
        offset = int(told.get("offset") or 0)
        length = int(told["length"]) if told.get("length") else wanted
    except ValueError as error:
        raise Refused(
            "external_bad", f"the external data of {name!r} has an offset or length that is no number"
        ) from error
    if offset < 0 or length < 0:
        raise Refused("external_bad", f"the external data of {name!r} has a negative offset or length")
    if length != wanted:
        raise Refused("short_data", f"{name!r} needs {wanted:,} bytes, its external data says {length:,}")
    if offset + length > size:
        raise Refused("external_short", f"{name!r} needs {offset + length:,} bytes of {location!r}, which has {size:,}")
    return Piece(name, location, offset, length)


def _size(folder: Path, location: str, model_name: str) -> int:
    """The bytes of an external file, once it is known to be a plain one inside the folder; raises Refused."""
    if not location or "\0" in location:
        raise Refused("external_bad", "external data without a file name")
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute():
        raise Refused("external_absolute", f"external data at the absolute path {location!r}")
    parts = PurePosixPath(location.replace("\\", "/")).parts
    if ".." in parts:
        raise Refused("external_outside", f"external data outside the model's folder: {location!r}")
    if PurePosixPath(*parts) == PurePosixPath(model_name):
        raise Refused("external_bad", "the model's own file as its external data")
    path = folder
    for part in PurePosixPath(location).parts:  # a folder on the way may be the link
        path = path / part
        try:
            status = os.lstat(path)
        except (OSError, ValueError) as error:
            raise Refused("external_missing", f"external data {location!r} is not there") from error
        if stat.S_ISLNK(status.st_mode):
            raise Refused("external_link", f"external data {location!r} is a link")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("external_bad", f"external data {location!r} is no plain file")
    if status.st_nlink > 1:
        raise Refused("external_link", f"external data {location!r} is a hard link: it has another name elsewhere")
    return status.st_size
