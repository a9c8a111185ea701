"""Which source files a user's own module depends on, so that editing any of them is noticed.

Read from the import statements, those inside functions as well; a module that is imported by a computed name is not
seen. Files of other installed packages are left out: their versions stand for them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path


def source_hash(name: str) -> str:
    """A hash over the files of module `name` and of all of its own package or folder that it imports.

    The module must be importable now. rayopt's own modules give the hash of nothing: they have a version.
    """
    total = hashlib.sha256()
    for path in sorted(sources(name)):
        total.update(path.read_bytes())
    return total.hexdigest()


def sources(name: str) -> set[Path]:
    """The files of module `name` and of what it imports from its own package or folder."""
    first = _file(name)
    if first is None or name.partition(".")[0] == "rayopt":
        return set()
    home = _home(name, first)
    found: set[Path] = set()
    waiting = [name]
    seen: set[str] = set()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        file = _file(at)
        if file is None or not file.is_relative_to(home):
            continue
        found.add(file)
        parent = at.rpartition(".")[0]
        waiting += [parent] if parent else []
        waiting += _imports(file, at)
    return found


def _home(name: str, file: Path) -> Path:
    """The folder that holds all of the user's own code: of an installed package itself, else where it was found."""
    depth = name.count(".") + (file.name == "__init__.py")
    found_in = file.parents[depth]
    installed = found_in.name in ("site-packages", "dist-packages")
    return found_in / name.partition(".")[0] if installed and depth else found_in


def _file(name: str) -> Path | None:
    """The source file of a module, found without importing anything."""
    top, *parts = name.split(".")
    spec = _spec(top)
    if spec is None:
        return None
    file = Path(spec.origin) if spec.origin else None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    for part in parts:
        packages = [folder / part for folder in folders]
        modules = [package / "__init__.py" for package in packages] + [
            package.with_suffix(".py") for package in packages
        ]
        file = next((path for path in modules if path.is_file()), None)
        folders = [package for package in packages if package.is_dir()]
    return file if file is not None and file.suffix == ".py" and file.is_file() else None


def _spec(top: str) -> ModuleSpec | None:
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None


def _imports(file: Path, name: str) -> Iterator[str]:
    """The absolute names that a file's import statements could mean: `from a import b` is a, and perhaps a.b."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
