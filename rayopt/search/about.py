"""What the values of a journal are of: a search from Python goes on only with one that is its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rayopt.errors import input_error
from rayopt.search.history import History
from rayopt.search.space import Space

REMEDY = "give a file of its own; `warm_start` learns from this one"


def about(model: Any, space: Space, scoring: Any, cv: Any, data: Any) -> dict[str, Any]:
    """All that decides a value but the point, in words where they say enough: those outlive versions of libraries."""
    params = ", ".join(f"{name}={_words(value)}" for name, value in sorted(model.get_params().items()))
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}({params})",
        "space": {name: repr(parameter) for name, parameter in space.parameters.items()},
        "scoring": _words(scoring),
        "cv": _hash(cv) or _words(cv),
        "data": _hash(data),
    }


def begin(history: History, wanted: Mapping[str, Any], space: Space) -> None:
    """Notes what the values of a journal are of; raises InputError where they are of something else.

    A journal that does not say it is taken for this search's as long as its points lie in the space.
    """
    known = history.about
    differ = [name for name, value in wanted.items() if known.get(name) != value] if known else []
    if differ:
        raise input_error("journal", f"is of a search with another {', another '.join(differ)}", REMEDY)
    for params in [*(one.params for one in history.observations), *history.pending]:
        try:
            space.read(params)
        except ValueError as error:
            raise input_error("journal", f"has a point that is none of this space: {error}", REMEDY) from error
    history.begin(wanted)


def _hash(value: Any) -> str:
    """Empty for what cannot be told by its content."""
    import joblib

    try:
        return str(joblib.hash(value))
    except Exception:  # noqa: BLE001 - any class may fail in its own way
        return ""


def _words(value: Any) -> str:
    """Without the place in memory, which is another one in each process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
