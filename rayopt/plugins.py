"""A name -> the module of that name in a room: its files need no registration. A dotted path names any other module."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rayopt.errors import did_you_mean, input_error


def names(room: str) -> list[str]:
    """The names of the plug-ins in a room such as `rayopt.methods`, sorted."""
    package = importlib.import_module(room)
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def load(room: str, name: str, place: str, parts: Sequence[str] = ()) -> ModuleType:
    """The module `name` of a room, or of a dotted path, which has all `parts`; raises InputError at `place`."""
    word = room.rpartition(".")[2].removesuffix("s")
    if "." not in name:
        known = names(room)
        if name not in known:
            raise input_error(place, f"unknown {word} {name!r}", did_you_mean(name, known))
        return importlib.import_module(f"{room}.{name}")
    found = module(name, place, word)
    lacking = [part for part in parts if not hasattr(found, part)]
    if lacking:
        remedy = f"a {word} has {', '.join(parts)}"
        raise input_error(place, f"{name!r} is no {word}: it lacks {', '.join(lacking)}", remedy)
    return found


def locate(path: str, place: str) -> Any:
    """The object that `package.module:name` names; raises InputError at `place` when there is none."""
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise input_error(
            place, f"{path!r} is not of the form package.module:function", "write for example my_model:build"
        )
    found: Any = module(module_name, place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            inside = vars(found) if hasattr(found, "__dict__") else {}
            known = [name for name, one in inside.items() if name[0] != "_" and not isinstance(one, ModuleType)]
            raise input_error(place, f"{module_name} has no {attribute!r}", did_you_mean(attribute, known))
        found = getattr(found, part)
    return found


def module(name: str, place: str, word: str = "module") -> ModuleType:
    """The module of a dotted path; raises InputError at `place` when it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            remedy = "put it into the job file's folder or install it"
            raise input_error(place, f"there is no {word} {name!r}", remedy) from error
        raise input_error(
            place,
            f"importing {name!r} needs {error.name!r}, which is not installed",
            f"pip install {error.name}",
        ) from error
    except (Exception, SystemExit) as error:  # a script that ends itself must not end us
        raise input_error(
            place, f"importing {name!r} raised {type(error).__name__}: {error}", "mend the module"
        ) from error


@contextmanager
def importable(folder: Path | str | None) -> Iterator[None]:
    """Puts a job's folder first on the import path, so that its own modules are found.

    Modules of another job's folder are forgotten first: two jobs may each have a `model.py`.
    """
    if folder is None:
        yield
        return
    entry = str(folder)
    forget(other for other in list(_brought) if other != entry)
    before = set(sys.modules)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)
        brought = _brought.setdefault(entry, set())
        tops = {name.partition(".")[0] for name in before - brought}
        new = (name for name in set(sys.modules) - before if name.partition(".")[0] not in tops)
        brought.update(name for name in new if _lies_in(name, entry))


def forget(folders: Iterable[str] | None = None) -> None:
    """Forgets the modules that jobs brought in from these folders (from all), so that they are read again."""
    for folder in list(_brought) if folders is None else folders:
        for name in _brought.pop(folder, ()):
            sys.modules.pop(name, None)


def belongs(folder: Path | str, names: Iterable[str]) -> None:
    """Notes modules that a job of this folder uses from elsewhere, to be forgotten with the folder's own."""
    _brought.setdefault(str(folder), set()).update(names)


_brought: dict[str, set[str]] = {}


def _lies_in(name: str, folder: str) -> bool:
    """Whether a module was found in the folder itself, and not in an environment that is installed below it."""
    top = f"{folder}/{name.partition('.')[0]}"
    module = sys.modules.get(name)
    paths = getattr(module, "__path__", None)
    found = [getattr(module, "__file__", None), *(paths if isinstance(paths, Iterable) else ())]
    return any(
        isinstance(place, str) and (place in (top, f"{top}.py") or place.startswith(f"{top}/")) for place in found
    )
