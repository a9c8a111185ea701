"""What values of the caller hold, as a hash: the same values, made of the same code, have the same in any process."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from rayopt.errors import InputError, input_error
from rayopt.provenance import sources_of
from rayopt.records import digest
from rayopt.search.cells import OWN_PACKAGES

REMEDY = "leave `cache` out, or take classes and functions of a module, not of a function or a session"


def hash_of(value: Any, place: str) -> str:
    """Of arrays, tables, estimators and whatever else can be pickled; raises InputError for what cannot."""
    import joblib

    try:
        return str(joblib.hash(value))
    except Exception as error:  # any class may fail in its own way
        raise _no_content(place, f"{type(error).__name__}: {error}") from error


def code_of(value: Any, place: str) -> str:
    """A hash of the files that its classes and functions are made of, but for those of the libraries that we know."""
    modules = _Modules()
    try:
        modules.read(pickle.dumps(value))
    except Exception as error:  # any class may fail in its own way
        raise _no_content(place, f"{type(error).__name__}: {error}") from error
    names = {name for name in modules.names if name.partition(".")[0] not in OWN_PACKAGES}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if "__main__" in names and main is None:
        raise _no_content(place, "it is made of code that is in no file")
    return digest([sorted(names), sources_of(names).sha256])


def _no_content(place: str, problem: str) -> InputError:
    return input_error(place, f"cannot be told from others by its content: {problem}", REMEDY)


class _Modules(pickle.Unpickler):
    """Notes from which modules the classes and functions of a value are."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def read(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.load()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add(module)
        return super().find_class(module, name)
