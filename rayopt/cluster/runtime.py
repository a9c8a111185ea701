"""A runtime environment as a user writes it: keys checked here, since Ray takes unknown ones without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayopt.cluster.secrets import REMEDY, is_secret_name, leaks
from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.spec import Document, read_document

CONFIG = ("setup_timeout_seconds", "eager_install", "log_files")
OWN_PYTHON = ("pip", "uv", "conda", "py_executable", "image_uri", "container")  # these bring an interpreter
TAKEN = {
    "working_dir": "rayopt packs the folder by itself; say which with --working-dir",
    "excludes": "write .rayignore instead",
}
READ_HERE = ("pip", "uv", "conda")  # as text they may be the path of a file
REMOTE = ("https://", "s3://", "gs://", "gcs://", "file:///")


def read_runtime_env(path: Path) -> dict[str, Any]:
    """The runtime environment in a YAML file; raises InputError with every fault and its line."""
    document = read_document(path)
    data = {key: _beside(document.folder, key, value) for key, value in document.data.items()}
    faults = []
    for key, value in data.items():
        if key in TAKEN:
            faults.append(document.fault((key,), "is not for you to give", TAKEN[key]))
        elif key not in CHECKS:
            faults.append(document.fault((key,), f"unknown key {key!r}", did_you_mean(key, list(CHECKS))))
        elif problem := CHECKS[key](value):
            faults.append(document.fault((key,), f"must be {problem}, got {type(value).__name__}", "see Ray's manual"))
        else:
            faults += _inner_faults(document, key, value)
    if faults:
        raise InputError(faults)
    return data


def with_variables(environment: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The environment with these variables as well; raises InputError for one that it sets itself."""
    own = environment.get("env_vars", {})
    for name in variables:
        if name in own:
            raise input_error(f"env_vars.{name}", "is set by rayopt itself", "leave it out")
    return {**environment, "env_vars": {**own, **variables}}


def brings_python(environment: Mapping[str, Any]) -> bool:
    """Whether the job's processes run by another interpreter than the node's Ray."""
    return any(environment.get(key) for key in OWN_PYTHON)


def _beside(folder: Path, key: str, value: Any) -> Any:
    """The path of a file of packages that lies in that folder; otherwise Ray looks in the current one."""
    if not isinstance(value, str) or key not in READ_HERE or (key == "conda" and not value.endswith((".yaml", ".yml"))):
        return value
    with contextlib.suppress(OSError, ValueError):  # no path at all
        if (folder / value).is_file():
            return str((folder / value).resolve())
    return value


def _inner_faults(document: Document, key: str, value: Any) -> list[Fault]:
    faults = leaks({document.place((key,)): str(value), **_file_of(key, value)})
    if key == "config":
        faults += [
            document.fault((key, name), f"unknown key {name!r}", did_you_mean(name, CONFIG))
            for name in value
            if name not in CONFIG
        ]
    if key == "py_modules":
        faults += [
            document.fault((key, index), f"{one!r} is no address", "put local modules into the working directory")
            for index, one in enumerate(value)
            if not one.startswith(REMOTE)
        ]
    if key == "env_vars":
        faults += [
            document.fault((key, name), "looks like a secret, and everybody on the cluster could read it", REMEDY)
            for name in value
            if is_secret_name(name)
        ]
    return faults


def _file_of(key: str, value: Any) -> dict[str, str]:
    """The text of a file that Ray reads here and sends as what it says, by its path."""
    with contextlib.suppress(OSError, ValueError):  # Ray will say it
        if key in READ_HERE and isinstance(value, str) and Path(value).is_file():
            return {value: Path(value).read_text(encoding="utf-8", errors="replace")}
    return {}


def _is(kind: type | tuple[type, ...], words: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) and not isinstance(value, bool) else words


def _texts(value: Any) -> str:
    return "" if isinstance(value, list) and all(isinstance(one, str) for one in value) else "a list of text"


def _variables(value: Any) -> str:
    fits = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    return "" if fits else "a mapping of names to text"


CHECKS: Mapping[str, Callable[[Any], str]] = {
    "env_vars": _variables,
    "pip": _is((list, dict, str), "a list of packages"),
    "uv": _is((list, dict, str), "a list of packages"),
    "conda": _is((dict, str), "an environment's name or its mapping"),
    "py_modules": _texts,
    "py_executable": _is(str, "text"),
    "image_uri": _is(str, "text"),
    "container": _is(dict, "a mapping"),
    "config": _is(dict, "a mapping"),
    "worker_process_setup_hook": _is(str, "text"),
    "nsight": _is((dict, str), "text or a mapping"),
}
