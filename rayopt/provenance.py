"""Which source files a user's own code is made of, so that editing any of them is noticed.

Read from the import statements, those inside functions as well; a module that is imported by a computed name is not
seen. Of installed packages the version stands for their files, but the package that a job names itself is read.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """The files of modules by name, and the versions of the installed packages that they import."""

    files: dict[str, Path] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        total = hashlib.sha256(repr(sorted(self.versions.items())).encode())
        for _, path in sorted(self.files.items()):
            total.update(path.read_bytes())
        return total.hexdigest()


def sources_of(names: Iterable[str]) -> Sources:
    """What the modules `names`, which must be importable now, are made of; rayopt's own have a version instead."""
    found = Sources()
    waiting = [name for name in names if name.partition(".")[0] != "rayopt"]
    read = {name.partition(".")[0] for name in waiting}
    seen: set[str] = set()
    while waiting:
        at = waiting.pop()
        top = at.partition(".")[0]
        if at in seen or top == "rayopt" or top in sys.stdlib_module_names:
            continue
        seen.add(at)
        file = _file(at)
        if top not in read and _is_installed(top):
            found.versions[top] = _version(top)
        elif file is not None:
            found.files[at] = file
            parent = at.rpartition(".")[0]
            waiting += [parent] if parent else []
            waiting += _imports(file, at)
    return found


def forget_own_modules() -> None:
    """Forgets every loaded module that is no installed package's, so that its file is read when it is next imported."""
    tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__", "__mp_main__"}
    own = {top for top in tops if top != "rayopt" and not _is_installed(top)}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


def _is_installed(top: str) -> bool:
    """Whether a top-level module is an installed package's; one that is found nowhere counts as such."""
    spec = _spec(top)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    paths = sysconfig.get_paths()
    homes = {paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()}
    homes |= {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    return not any(place and not any(Path(place).is_relative_to(home) for home in homes) for place in places)


def _version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))


def _file(name: str) -> Path | None:
    """The source file of a module, found without importing anything; of `__main__` the script that runs."""
    if name == "__main__":
        script = getattr(sys.modules.get(name), "__file__", None)
        return Path(script) if script else None
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
