"""What a user may write: documents with line numbers, checked against pydantic models, all faults at once."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.yamltext import Key, Location, dotted_name, place_of, read

MAX_FILE_BYTES = 1 << 20

M = TypeVar("M", bound="Settings")


class Settings(BaseModel):
    """The base of everything a user may write: frozen, and unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Document:
    """A job or method's settings as plain data, with the line on which each of its parts was written."""

    data: dict[str, Any]
    source: str
    folder: Path
    lines: Mapping[Location, int] = field(default_factory=dict)
    overridden: Mapping[Location, str] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Where a fault is, as a person would look for it: file, line, dotted key."""
        dotted = dotted_name(location)
        for length in range(len(location), -1, -1):
            if location[:length] in self.overridden:
                return f"--set {self.overridden[location[:length]]}" + (f" ({dotted})" if dotted else "")
        line = next(
            (self.lines[location[:n]] for n in range(len(location), -1, -1) if location[:n] in self.lines),
            None,
        )
        return place_of(self.source, line, location)

    def fault(self, location: Location, problem: str, remedy: str = "") -> Fault:
        return Fault(self.place(location), problem, remedy)

    def file_faults(self, location: Location, name: str) -> list[Fault]:
        """Whether `name`, as written at `location`, is a file beside the job file."""
        path = self.folder / name
        try:
            if path.is_file():
                return []
        except OSError as error:
            return [self.fault(location, f"{path} cannot be read: {error.strerror}", "give another path")]
        return [self.fault(location, f"there is no file {path}", "paths are relative to the job file's folder")]


def read_document(path: Path) -> Document:
    """Reads a YAML file whose top is a mapping; raises InputError for anything else."""
    try:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "there is no such file"
            raise input_error(str(path), problem, "give the path of a job file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise input_error(str(path), f"is {size:,} bytes long", f"a job file has at most {MAX_FILE_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise input_error(str(path), f"is not UTF-8 text (byte {error.start})", "save the file as UTF-8") from error
    except OSError as error:
        raise input_error(str(path), f"cannot be read: {error.strerror}", "give the path of a job file") from error
    return parse_document(text, str(path), path.resolve().parent)


def parse_document(text: str, source: str, folder: Path) -> Document:
    """The document of a YAML text; raises InputError with file and line."""
    data, lines = read(text, source)
    if data is None:
        raise input_error(source, "is empty", "a job starts with `kind:` and `name:`")
    if not isinstance(data, dict):
        place = f"{source}:{lines[()]}"
        raise input_error(place, "is not a mapping", "write `key: value` pairs, beginning with `kind:`")
    return Document(data, source, folder, lines)


def override(document: Document, assignments: Sequence[str]) -> Document:
    """The document with `a.b=value` assignments laid over it; values are read as YAML."""
    data = _copied(document.data)
    overridden = dict(document.overridden)
    faults: list[Fault] = []
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted.strip():
            faults.append(Fault(f"--set {assignment}", "is not an assignment", "write --set key.sub=value"))
            continue
        try:
            overridden[_assign(data, dotted.strip(), read(text, "the value")[0])] = assignment
        except InputError as error:
            faults += [Fault(f"--set {assignment}", f"{one.place} {one.problem}", one.remedy) for one in error.faults]
        except LookupError as error:
            faults.append(Fault(f"--set {assignment}", str(error.args[0]), "name a key of the job file"))
    if faults:
        raise InputError(faults)
    return Document(data, document.source, document.folder, document.lines, overridden)


def replaced(document: Document, values: Mapping[str, Any]) -> Document:
    """The document with other values at dotted names; raises InputError for each at which there can be none."""
    data, overridden, faults = _copied(document.data), dict(document.overridden), []
    for dotted, value in values.items():
        try:
            overridden[_assign(data, dotted, value)] = f"{dotted}={value}"
        except LookupError as error:
            faults.append(Fault(dotted, str(error.args[0]), "name a field of the job"))
    if faults:
        raise InputError(faults)
    return Document(data, document.source, document.folder, document.lines, overridden)


def part(document: Document, location: Location) -> Document:
    """The mapping at a location as a document of its own, whose lines are still those of the file."""
    data: Any = document.data
    for key in location:
        data = data[key]
    depth = len(location)
    lines = {at[depth:]: line for at, line in document.lines.items() if at[:depth] == location}
    return Document(data, document.source, document.folder, lines)


def validate(cls: type[M], data: Any, document: Document, prefix: Location = ()) -> tuple[M | None, list[Fault]]:
    """`data` as a `cls`, or None and all that is wrong with it, each with its line."""
    try:
        return cls.model_validate(data), []
    except ValidationError as error:
        return None, [_as_fault(cls, dict(item), document, prefix) for item in error.errors(include_url=False)]


def _as_fault(cls: type[Settings], item: dict[str, Any], document: Document, prefix: Location) -> Fault:
    location: Location = tuple(item["loc"])
    if item["type"] == "extra_forbidden":
        key = str(location[-1])
        known = _keys_at(cls, location[:-1])
        return document.fault(prefix + location, f"unknown key {key!r}", did_you_mean(key, known))
    if item["type"] == "missing":
        return document.fault(prefix + location, "is missing", f"add `{location[-1]}:`")
    got = f"{item['input']!r}"
    message = item["msg"][0].lower() + item["msg"][1:]
    message = re.sub(r"^value error, ", "", message)
    return document.fault(prefix + location, message, f"got {got if len(got) < 80 else got[:77] + '...'}")


def _keys_at(cls: type[Settings], location: Location) -> list[str]:
    """The keys that the model at `location` inside `cls` knows."""
    current: type[BaseModel] | None = cls
    for key in location:
        if current is None or not isinstance(key, str) or key not in current.model_fields:
            continue
        current = _model_in(current.model_fields[key].annotation)
    return list(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict):
        return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
    return None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _assign(data: dict[str, Any], dotted: str, value: Any) -> Location:
    """Sets what `dotted` names, making mappings on the way; raises LookupError where it cannot be."""
    keys = [key for key in re.split(r"[.\[\]]+", dotted) if key]
    if not keys:
        raise LookupError("names no key")
    holder: Any = data
    location: Location = ()
    for index, key in enumerate(keys):
        step = _key_in(holder, key, location)
        location = (*location, step)
        if index == len(keys) - 1:
            holder[step] = value
        elif isinstance(holder, dict) and holder.get(str(step)) is None:
            holder[step] = {}
        holder = holder[step]
    return location


def _key_in(holder: Any, key: str, location: Location) -> Key:
    """`key` as the mapping or list at `location` takes it; raises LookupError."""
    if isinstance(holder, dict):
        return key
    name = dotted_name(location)
    if not isinstance(holder, list):
        raise LookupError(f"{name} holds the plain value {holder!r}, which has no {key!r}")
    if key not in map(str, range(len(holder))):
        raise LookupError(f"{name} is a list of {len(holder)}, which has no {key!r}")
    return int(key)
