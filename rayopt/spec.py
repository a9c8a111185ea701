"""Reading YAML with line numbers, and checking it against pydantic models so that all faults come out at once."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rayopt.errors import Fault, InputError, did_you_mean, input_error

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 20_000

Key = str | int
Location = tuple[Key, ...]
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
        where = self.source if line is None else f"{self.source}:{line}"
        return f"{where}: {dotted}" if dotted else where

    def fault(self, location: Location, problem: str, remedy: str = "") -> Fault:
        return Fault(self.place(location), problem, remedy)


def dotted_name(location: Location) -> str:
    """`("steps", 2, "keep")` as `steps[2].keep`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")


def read_document(path: Path) -> Document:
    """Reads a YAML file whose top is a mapping; raises InputError for anything else."""
    if not path.is_file():
        raise input_error(str(path), "there is no such file", "give the path of a job file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise input_error(str(path), f"is {size:,} bytes long", f"a job file has at most {MAX_FILE_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise input_error(str(path), f"is not UTF-8 text (byte {error.start})", "save the file as UTF-8") from error
    return parse_document(text, str(path), path.resolve().parent)


def parse_document(text: str, source: str, folder: Path) -> Document:
    """The document of a YAML text; raises InputError with file and line."""
    root = _compose(text, source)
    if root is None:
        raise input_error(source, "is empty", "a job starts with `kind:` and `name:`")
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise input_error(f"{source}:{line}", "is not a mapping", "write `key: value` pairs, beginning with `kind:`")
    _refuse_bombs(root, source)
    lines: dict[Location, int] = {}
    faults = list(_walk(root, (), lines, source))
    if faults:
        raise InputError(faults)
    try:
        data = _Loader.construct_plain(root)
    except (yaml.YAMLError, ValueError) as error:
        raise input_error(source, f"holds a value that cannot be read: {error}", "quote it") from error
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
            location = _assign(
                data, dotted.strip(), parse_document(f"value: {text}", "--set", document.folder).data["value"]
            )
            overridden[location] = assignment
        except (InputError, LookupError, TypeError) as error:
            faults.append(Fault(f"--set {assignment}", f"cannot be applied ({error})", "name a key of the job file"))
    if faults:
        raise InputError(faults)
    return Document(data, document.source, document.folder, document.lines, overridden)


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


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's numbers (1e-3 is one) and booleans (only true and false are)."""

    @classmethod
    def construct_plain(cls, root: yaml.Node) -> Any:
        return cls("").construct_document(root)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF|nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return node
    except RecursionError as error:
        raise input_error(source, "is nested too deeply", "a job file needs a few levels at most") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise input_error(place, f"is not YAML: {error.problem or error.context}", "mend the line") from error
    except yaml.YAMLError as error:
        raise input_error(source, f"is not YAML: {error}", "save the file as plain UTF-8 text") from error


def _refuse_bombs(root: yaml.Node, source: str) -> None:
    """Counts what aliases would expand to, without expanding them (a few lines can stand for gigabytes)."""
    sizes: dict[int, int] = {}

    def expanded(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise input_error(f"{source}:{node.start_mark.line + 1}", "an alias contains itself", "write the value out")
        if known is not None:
            return known
        sizes[id(node)] = 0
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        total = 1 + sum(expanded(part) for part in parts)
        sizes[id(node)] = total
        return total

    total = expanded(root)
    if total > MAX_NODES:
        problem = f"its aliases expand to {total:,} values" if total > 10 * MAX_NODES else f"holds {total:,} values"
        raise input_error(f"{source}:1", problem, f"a job file holds at most {MAX_NODES:,}; write fewer aliases")


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], source: str) -> list[Fault]:
    """Notes the line of every key and item; returns a fault for every key that stands twice or is not text."""
    lines.setdefault(location, node.start_mark.line + 1)
    faults: list[Fault] = []
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            faults += _walk(item, (*location, index), lines, source)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*location, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
            line = key.start_mark.line + 1
            if below in lines:
                remedy = f"it is also on line {lines[below]}; keep one of them"
                faults.append(Fault(f"{source}:{line}: {dotted_name(below)}", "is given twice", remedy))
            lines[below] = line
            faults += _walk(value, below, lines, source)
    return faults


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _assign(data: dict[str, Any], dotted: str, value: Any) -> Location:
    location = tuple(int(key) if key.isdigit() else key for key in re.split(r"[.\[\]]+", dotted) if key)
    holder: Any = data
    for key in location[:-1]:
        if isinstance(holder, dict):
            holder = holder.setdefault(str(key), {})
        elif isinstance(key, int):
            holder = holder[key]
        else:
            raise LookupError(f"a list has no key {key!r}")
    if not isinstance(holder, dict | list):
        raise LookupError(f"{dotted_name(location[:-1])} holds a plain value")
    last: Any = location[-1]
    holder[last] = value
    return location
