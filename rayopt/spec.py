"""Reading YAML with line numbers, and checking it against pydantic models so that all faults come out at once."""

from __future__ import annotations

import math
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
MAX_DEPTH = 50

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
        return _place(self.source, line, location)

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


def dotted_name(location: Location) -> str:
    """`("steps", 2, "keep")` as `steps[2].keep`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")


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
    root = _compose(text, source)
    if root is None:
        raise input_error(source, "is empty", "a job starts with `kind:` and `name:`")
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise input_error(f"{source}:{line}", "is not a mapping", "write `key: value` pairs, beginning with `kind:`")
    lines: dict[Location, int] = {}
    return Document(_plain(root, lines, source), source, folder, lines)


def dump(data: Any) -> str:
    """Plain data as YAML that is read back as the same."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False))


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
            root = _compose(text, "the value")
            value = None if root is None else _plain(root, {}, "the value")
            overridden[_assign(data, dotted.strip(), value)] = assignment
        except InputError as error:
            faults += [Fault(f"--set {assignment}", f"{one.place} {one.problem}", one.remedy) for one in error.faults]
        except LookupError as error:
            faults.append(Fault(f"--set {assignment}", str(error.args[0]), "name a key of the job file"))
    if faults:
        raise InputError(faults)
    return Document(data, document.source, document.folder, document.lines, overridden)


def validate(cls: type[M], data: Any, document: Document, prefix: Location = ()) -> tuple[M | None, list[Fault]]:
    """`data` as a `cls`, or None and all that is wrong with it, each with its line."""
    try:
        return cls.model_validate(data), []
    except ValidationError as error:
        return None, [_as_fault(cls, dict(item), document, prefix) for item in error.errors(include_url=False)]


def _place(source: str, line: int | None, location: Location) -> str:
    where = source if line is None else f"{source}:{line}"
    return f"{where}: {dotted_name(location)}" if location else where


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


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes text that `_Loader` would take for something else."""

    yaml_implicit_resolvers = {key: list(found) for key, found in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader with what JSON has and no more, written as in YAML 1.2.

    1e-3 is a number; 1:30, 010 and 2024-01-01 are text; only true and false are booleans.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library fills it for the class

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value: float = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no finite number", node.start_mark)
        return value


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("merge", r"<<", ["<"]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(TAG + "float", _Loader.construct_finite)

_TAGS: dict[type[yaml.Node], tuple[str, ...]] = {
    yaml.ScalarNode: tuple(TAG + name for name in ("null", "bool", "int", "float", "str", "merge")),
    yaml.SequenceNode: (TAG + "seq",),
    yaml.MappingNode: (TAG + "map",),
}


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return node
    except RecursionError as error:
        raise input_error(source, "is nested too deeply", "a job file needs a few levels at most") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = f"is not YAML: {error.problem or error.context}"
        remedy = "indent with spaces, not tabs" if "'\\t'" in problem else "mend the line"
        raise input_error(place, problem, remedy) from error
    except yaml.YAMLError as error:
        problem = f"is not YAML: {str(error).partition(chr(10))[0]}"
        raise input_error(source, problem, "save the file as plain UTF-8 text") from error


def _plain(root: yaml.Node, lines: dict[Location, int], source: str) -> Any:
    """The values of a composed text as JSON has them; notes the line of each in `lines`."""
    _refuse_bombs(root, source)
    faults = _walk(root, (), lines, source)
    if faults:
        raise InputError(faults)
    try:
        return _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or root.start_mark
        raise input_error(
            f"{source}:{mark.line + 1}", f"holds a value that cannot be read: {error.problem}", "mend the line"
        ) from error
    except (ValueError, LookupError) as error:
        remedy = "leave tags out, and keep numbers short"
        raise input_error(source, f"holds a value that cannot be read: {error}", remedy) from error


def _refuse_bombs(root: yaml.Node, source: str) -> None:
    """Counts what aliases would expand to, without expanding them (a few lines can stand for gigabytes)."""
    known: dict[int, tuple[int, int] | None] = {}

    def expanded(node: yaml.Node) -> tuple[int, int]:
        """How many values a node stands for, and how deep they go."""
        if id(node) not in known:
            known[id(node)] = None
            inner = [expanded(part) for part in _parts(node)]
            known[id(node)] = 1 + sum(total for total, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        found = known[id(node)]
        place = f"{source}:{node.start_mark.line + 1}"
        if found is None:
            raise input_error(place, "an alias contains itself", "write the value out")
        if found[0] > MAX_NODES:
            problem = f"stands for more than {MAX_NODES:,} values"
            raise input_error(place, problem, "a job file holds a few hundred; write fewer aliases")
        if found[1] > MAX_DEPTH:
            raise input_error(place, f"is nested more than {MAX_DEPTH} deep", "a job file needs a few levels at most")
        return found

    expanded(root)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], source: str) -> list[Fault]:
    """Notes the line of every key and item; gives a fault for every tag, and every key that is double or not text."""
    lines.setdefault(location, node.start_mark.line + 1)
    faults: list[Fault] = []
    if node.tag not in _TAGS[type(node)]:
        place = _place(source, node.start_mark.line + 1, location)
        faults.append(Fault(place, f"has the tag {node.tag.replace(TAG, '!!')}", "write plain values, without tags"))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            faults += _walk(item, (*location, index), lines, source)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*location, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
            line = key.start_mark.line + 1
            if key.tag not in (TAG + "str", TAG + "merge"):
                place = _place(source, line, below)
                faults.append(Fault(place, "is a key that is not text", "write it in quotes"))
            elif below in lines:
                remedy = f"it is also on line {lines[below]}; keep one of them"
                faults.append(Fault(_place(source, line, below), "is given twice", remedy))
            lines[below] = line
            faults += _walk(value, below, lines, source)
    return faults


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
