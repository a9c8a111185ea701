"""What a run says is without its secrets: the values of the variables that this process was told to keep to itself."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping

VARIABLE = "RAYOPT_SECRETS"  # holds names and paths, never a value
MIN_LENGTH = 6  # shorter values are found in any text
HIDDEN = "***"


def redact(text: str) -> str:
    """The text without the values of this process's secrets, also as JSON writes them."""
    for value in hidden_values():
        text = text.replace(value, HIDDEN)
    return text


def hidden_values() -> tuple[str, ...]:
    """The values that are to be hidden, the longest first: one may contain another."""
    names = places()
    return _known(tuple(os.environ.get(name, "") for name in names)) if names else ()


def places(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The secrets that this process was told of, by the variable's name, and the file of each that has one."""
    try:
        told = json.loads(environ.get(VARIABLE) or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


@functools.lru_cache(maxsize=4)
def _known(values: tuple[str, ...]) -> tuple[str, ...]:
    lines = {line for value in values for line in (value, *value.splitlines()) if len(line) >= MIN_LENGTH}
    lines |= {json.dumps(line, ensure_ascii=ascii_only)[1:-1] for line in lines for ascii_only in (True, False)}
    return tuple(sorted(lines, key=len, reverse=True))
