"""Ray's own JSON schema of cluster files, read without importing Ray, and held against plain data with line numbers.

Only what that schema uses is understood: types, required and known keys, patterns, lists of choices, references.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rayopt.errors import Fault, did_you_mean, input_error
from rayopt.yamltext import Location

Place = Callable[[Location], str]
Schema = Mapping[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
WORDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "null": "nothing"}


@cache
def ray_schema() -> dict[str, Any]:
    """The schema that comes with the installed Ray."""
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        raise input_error("ray", "is not installed", "pip install 'ray[default]'")
    path = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def faults_of(data: Any, place: Place) -> list[Fault]:
    """All that Ray's schema has against the data of a cluster file."""
    return list(_walk(data, ray_schema(), (), place))


def _walk(data: Any, schema: Schema, at: Location, place: Place) -> Iterator[Fault]:
    if "$ref" in schema:
        schema = ray_schema()["definitions"][schema["$ref"].rpartition("/")[2]]
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if names and not (data is None and schema.get("nullable")) and not any(_is(data, name) for name in names):
        words = " or ".join(WORDS.get(name, f"a {name}") for name in names)
        yield Fault(place(at), f"must be {words}, got {data!r}", f"write {words}")
        return
    if "enum" in schema and data not in schema["enum"]:
        yield Fault(place(at), f"is {data!r}", did_you_mean(str(data), [str(one) for one in schema["enum"]]))
    if "minimum" in schema and _is(data, "number") and data < schema["minimum"]:
        yield Fault(place(at), f"is {data}, less than {schema['minimum']}", "give a larger number")
    if isinstance(data, dict):
        yield from _walk_mapping(data, schema, at, place)
    elif isinstance(data, list) and "items" in schema:
        for index, item in enumerate(data):
            yield from _walk(item, schema["items"], (*at, index), place)


def _walk_mapping(data: dict[str, Any], schema: Schema, at: Location, place: Place) -> Iterator[Fault]:
    known = schema.get("properties", {})
    every = schema.get("patternProperties", {}).get(".*")
    for key in schema.get("required", ()):
        if key not in data:
            yield Fault(place(at), f"lacks the key {key!r}", f"add `{key}:`")
    for key, value in data.items():
        for inner in (known.get(key), every):
            if inner is not None:
                yield from _walk(value, inner, (*at, key), place)
        if key not in known and every is None and schema.get("additionalProperties") is False:
            yield Fault(place((*at, key)), "is no key of a cluster file here", did_you_mean(key, list(known)))
    for rule in schema.get("allOf", ()):
        condition = rule["if"]
        if all(data.get(key) == one["const"] for key, one in condition["properties"].items()):
            yield from _walk(data, rule["then"], at, place)


def _is(data: Any, name: str) -> bool:
    if isinstance(data, bool):
        return name == "boolean"
    whole = name == "integer" and isinstance(data, float) and data.is_integer()
    return isinstance(data, TYPES[name]) or whole
