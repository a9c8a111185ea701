"""What of a folder travels to a cluster with a job: our own rules, since Ray's ship `.env` and follow links.

Left out: what .gitignore and .rayignore say, secrets, version control, environments, caches and run folders.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayopt.cluster.ignoring import Rules, ignored, outer_rules, rules_of
from rayopt.errors import Fault, InputError, input_error
from rayopt.runs.folder import RunFolder
from rayopt.yamltext import read

MAX_BYTES = 100 << 20  # what Ray takes at most
LARGEST_COUNT = 5
NEVER = frozenset(
    (".git", ".hg", ".svn", "__pycache__", ".ssh", ".aws", ".gnupg", ".kube", ".azure", ".docker", ".kaggle")
)
SECRETS = re.compile(
    r"(?!(example|sample|template|dist)\.env$).*\.env|\.env\.(?!example$|sample$|template$|dist$).*|\.envrc"
    r"|\.env[-_ ](?!example$|sample$|template$|dist$).*"
    r"|\.netrc|_netrc|\.pypirc|\.npmrc|\.pgpass|\.htpasswd|\.secrets?|\.boto|\.s3cfg|\.vault-token"
    r"|kubeconfig(\.ya?ml)?|.*\.kubeconfig|.*\.tfstate(\.backup)?"
    r"|\.git-credentials|\.dockercfg|(auth_|.*\.)?token|kaggle\.json"
    r"|credentials(\.(json|ya?ml|csv|toml|ini|db))?|secrets?(\.(json|ya?ml|toml|ini))?"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?(\.(?!pub$).*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)",
    re.IGNORECASE,
)
COPY = re.compile(r"^#|[~#]$|\.(bak|orig|old|save|swp)$| copy$", re.IGNORECASE)  # what editors add to a file's name
KEY = re.compile(  # a file that begins with one, or holds one with its letters, as a service account's JSON does
    rb"\A\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
    rb"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:\\[nr]|\s)+(?:Proc-Type|[A-Za-z0-9+/]{16})"
)
KEY_BYTES = 64 << 10  # no key is larger
WORDS = frozenset(("kind", "name", "description", "task"))  # of a job: never paths, though a folder be called so
PATH_KEY = re.compile(r"models|source|run|warm_start|job|(.*_)?(path|file|folder|dir|directory|root)s?")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files make the same package


@dataclass(frozen=True)
class Package:
    """The files that travel, by their names below the root; `secrets` were found and stay here."""

    root: Path
    files: Mapping[str, Path]
    sizes: Mapping[str, int]
    secrets: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes.values())


def collect(root: Path, named: Iterable[str] = ()) -> Package:
    """What of `root` travels; `named` files and folders do although they are ignored, but not if they are secrets.

    Raises InputError for links that leave the tree, for what cannot be read, and for more than 100 MiB.
    """
    walk = _Walk(root.resolve())
    with walk.reading(walk.root):
        walk.enter(walk.root, outer_rules(walk.root))
    for name in named:
        with walk.reading(walk.root / name):
            walk.take(walk.root / name)
    if walk.faults:
        raise InputError(dict.fromkeys(walk.faults))
    files = dict(sorted(walk.files.items()))
    package = Package(walk.root, files, {name: walk.sizes[name] for name in files}, tuple(sorted(walk.secrets)))
    _refuse_large(package)
    return package


def pack(package: Package, target: Path) -> str:
    """Writes the package as a zip, the same bytes for the same files, and gives its SHA-256."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, path in package.files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
            try:
                archive.writestr(info, path.read_bytes())
            except OSError as error:
                raise input_error(str(path), f"cannot be read: {error.strerror}", "mend it or ignore it") from error
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named_in(data: Any, folder: Path, root: Path, place: str) -> list[str]:
    """The files and folders that a job names, below `root`; those of job files among them as well.

    Raises InputError for one that is there but outside of `root`: the cluster would not see it. Absolute paths are the
    cluster's own affair.
    """
    found: dict[str, None] = {}
    faults: list[Fault] = []
    todo = [(data, folder.resolve())]
    known: set[Path] = set()
    while todo:
        inner, at = todo.pop()
        for key, text in _texts(inner):
            path = _existing(at, text)
            if path is None or path in known or (path.is_dir() and not ("/" in text or PATH_KEY.fullmatch(key))):
                continue
            known.add(path)
            if not path.is_relative_to(root.resolve()):
                remedy = "give a folder that holds both with --working-dir"
                faults.append(Fault(place, f"names {text!r}, which lies outside of {root}", remedy))
                continue
            found[str(path.relative_to(root.resolve()))] = None
            if path.suffix in (".yaml", ".yml") and path.is_file():
                todo.append((plain(path), path.parent))
    if faults:
        raise InputError(faults)
    return list(found)


@dataclass
class _Walk:
    """One walk through a tree: what it has found so far."""

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def enter(self, folder: Path, rules: tuple[Rules, ...] | None, inside: tuple[Path, ...] = ()) -> None:
        """Walks through a folder; `rules` None: nothing in it is ignored. `inside` are the folders above, resolved."""
        real = _resolved(folder)
        if real in inside:
            self._fault(folder, "is a link to a folder that it lies in", "remove the link, or ignore it")
            return
        entries = sorted(folder.iterdir())
        if rules is not None:
            rules += rules_of(folder)
        for entry in entries:
            with self.reading(entry):
                if rules is None or not ignored(entry, rules):
                    self.take(entry, rules, (*inside, real))

    def take(self, path: Path, rules: tuple[Rules, ...] | None = None, inside: tuple[Path, ...] = ()) -> None:
        """Takes a file or a folder, unless it is one of those that never travel."""
        real = _resolved(path)
        if not real.is_relative_to(self.root):
            self._fault(path, f"is a link to {real}, outside of the folder", "copy what it points to, or ignore it")
            return
        if self._stays(path) or self._stays(real):
            return
        if path.is_dir():
            if rules is None or not _is_made(path):
                self.enter(path, rules, inside)
        elif path.is_file():
            self._file(path)

    def _stays(self, path: Path) -> bool:
        parts = path.relative_to(self.root).parts
        if any(part in NEVER for part in parts):
            return True
        if any(_looks_secret(self.root.joinpath(*parts[: count + 1])) for count in range(len(parts))):
            self.secrets.append(self._name(path))
            return True
        return False

    def _file(self, path: Path) -> None:
        name = self._name(path)
        try:
            name.encode()
            size = path.stat().st_size
            with path.open("rb") as file:
                secret = size <= KEY_BYTES and KEY.search(file.read(KEY_BYTES))
        except UnicodeEncodeError:
            self._fault(path, "has a name that is not UTF-8", "rename it, or ignore it")
        else:
            if secret:
                self.secrets.append(name)
            else:
                self.files[name], self.sizes[name] = path, size

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """What cannot be read is a fault, and the walk goes on beside it."""
        try:
            yield
        except InputError as error:
            self.faults += error.faults
        except OSError as error:
            self._fault(path, f"cannot be read: {error.strerror}", "let yourself read it, or ignore it")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _fault(self, path: Path, problem: str, remedy: str) -> None:
        said = self._name(path).encode(errors="replace").decode()
        self.faults.append(Fault(said, problem, f"{remedy} in .rayignore" if remedy.endswith("ignore it") else remedy))


def _resolved(path: Path) -> Path:
    """The path without links; raises OSError for links in a circle."""
    try:
        return path.resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _looks_secret(path: Path) -> bool:
    """By its name: copies that editors make count as well, a package of Python that is called so does not."""
    name = path.name
    while (shorter := COPY.sub("", name)) != name:
        name = shorter
    if not SECRETS.fullmatch(name):
        return False
    plain = name.isalpha() and path.is_dir()
    return not (plain and (name.lower() == "token" or (path / "__init__.py").is_file()))


def _is_made(folder: Path) -> bool:
    """Whether a folder is made by a tool and can be made again: an environment, a cache, a run's results."""
    marks = ("pyvenv.cfg", "CACHEDIR.TAG")
    return any((folder / mark).is_file() for mark in marks) or RunFolder(folder).owner() is not None


def _refuse_large(package: Package) -> None:
    if package.size_bytes <= MAX_BYTES:
        return
    largest = sorted(package.sizes.items(), key=lambda item: -item[1])[:LARGEST_COUNT]
    listed = ", ".join(f"{name} ({size / (1 << 20):,.1f} MiB)" for name, size in largest)
    problem = f"{package.size_bytes / (1 << 20):,.1f} MiB would travel, and Ray takes 100 MiB; the largest: {listed}"
    remedy = "name what the job does not need in .rayignore, and keep large data where the nodes can read it"
    raise input_error(str(package.root), problem, remedy)


def _texts(data: Any, key: str = "", *, top: bool = True) -> Iterator[tuple[str, str]]:
    """Every text that may be a path, with the key that it stands under."""
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            if name != "use" and not (top and name in WORDS):
                yield from _texts(value, str(name), top=top and name == "job")
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value, key, top=False)


def _existing(folder: Path, text: str) -> Path | None:
    """The file or folder that a relative path names, if it is there; `.` alone is too little to mean one."""
    if not text.strip("./") or len(text) > 1000 or "\n" in text or "\0" in text or Path(text).is_absolute():
        return None
    path = Path(os.path.normpath(folder / text))
    try:
        return path if path.exists() else None
    except OSError:
        return None


def plain(path: Path) -> Any:
    """What a YAML file holds; nothing where it cannot be read: whoever needs it will say so."""
    try:
        return read(path.read_text(encoding="utf-8"), str(path))[0]
    except (InputError, OSError, UnicodeDecodeError):
        return None
