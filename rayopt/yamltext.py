"""YAML text to plain data and back: what JSON has and no more, with the line of every value, and no bombs."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from rayopt.errors import Fault, InputError, input_error

MAX_NODES = 20_000
MAX_DEPTH = 50

Key = str | int
Location = tuple[Key, ...]


def read(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    """The data of a text, None for an empty one, and the line of each value; raises InputError with file and line."""
    root = _compose(text, source)
    lines: dict[Location, int] = {}
    return None if root is None else _plain(root, lines, source), lines


def dump(data: Any) -> str:
    """Plain data as YAML that is read back as the same."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False))


def dotted_name(location: Location) -> str:
    """`("steps", 2, "keep")` as `steps[2].keep`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")


def place_of(source: str, line: int | None, location: Location) -> str:
    """Where a fault is, as a person would look for it: file, line, dotted key."""
    where = source if line is None else f"{source}:{line}"
    return f"{where}: {dotted_name(location)}" if location else where


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
        place = place_of(source, node.start_mark.line + 1, location)
        faults.append(Fault(place, f"has the tag {node.tag.replace(TAG, '!!')}", "write plain values, without tags"))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            faults += _walk(item, (*location, index), lines, source)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*location, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
            line = key.start_mark.line + 1
            if key.tag not in (TAG + "str", TAG + "merge"):
                place = place_of(source, line, below)
                faults.append(Fault(place, "is a key that is not text", "write it in quotes"))
            elif below in lines:
                remedy = f"it is also on line {lines[below]}; keep one of them"
                faults.append(Fault(place_of(source, line, below), "is given twice", remedy))
            lines[below] = line
            faults += _walk(value, below, lines, source)
    return faults
