"""Checkpoints: everything that a training goes on from, as tensors and plain values, whole or not there.

A checkpoint is a folder `step-N` of `state.safetensors`, `state.json` and `hashes.json`, written aside and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rayopt.errors import StepError, input_error
from rayopt.records import digest
from rayopt.runs.difference import difference
from rayopt.runs.files import disk_errors, write_bytes

TENSORS, VALUES, HASHES = "state.safetensors", "state.json", "hashes.json"
WRITER = ".writer"  # who writes here
NAME = re.compile(r"step-(\d{9})")
TRIES = 3
KEPT = 2  # the newest ones: where the last one is damaged there is one before


@dataclass(frozen=True)
class Checkpoint:
    """What was read: `about` says of which training it is; `sha256` is of all that it holds."""

    step: int
    state: dict[str, Any]
    about: dict[str, Any]
    sha256: str


class Writer:
    """Writes the checkpoints of one run below a folder.

    A run that begins to write later shuts out the one before it, such as a worker whose driver was killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = ""

    def write(self, step: int, state: Mapping[str, Any], about: Mapping[str, Any]) -> Path:
        """As `write`; raises StepError where another run writes here by now."""
        path = self._folder / WRITER
        with disk_errors(self._folder):
            if not self._token:
                self._token = secrets.token_hex(8)
                self._folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, self._token.encode())
            elif not path.is_file() or path.read_text() != self._token:
                raise StepError(f"another run writes checkpoints into {self._folder} by now; this one ends")
        return write(self._folder, step, state, about)


def write(folder: Path, step: int, state: Mapping[str, Any], about: Mapping[str, Any]) -> Path:
    """Writes a checkpoint below `folder` and removes all but the newest ones; gives its own folder.

    state: nested dicts and lists of tensors, numbers, strings, None. Raises InputError where the disk is full.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    values = _split(state, "", tensors)
    contents = {
        TENSORS: save(tensors),
        VALUES: json.dumps({"step": step, "about": about, "state": values}).encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    target = folder / f"step-{step:09d}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".step-", dir=folder))
        try:
            for name, content in {**contents, HASHES: json.dumps(hashes).encode()}.items():
                write_bytes(aside / name, content)
            aside.chmod(0o755)
            _put(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    later = [path for path in _folders(folder) if path.name > target.name]  # damaged: else it had been gone on from
    earlier = sorted(path for path in _folders(folder) if path.name <= target.name)[:-KEPT]
    for old in (*later, *earlier):
        shutil.rmtree(old, ignore_errors=True)
    return target


def _put(aside: Path, target: Path) -> None:
    """Gives a folder its name, in the place of what a run that went on from an earlier checkpoint left there."""
    for _ in range(TRIES):
        if target.exists():
            shutil.rmtree(target, ignore_errors=True)
        try:
            aside.replace(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another writer has just put its own there
                raise
    raise StepError(f"another run writes checkpoints into {target.parent} at the same time")


def latest(folder: Path, about: Mapping[str, Any], say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint below `folder`, None where there is none; `say` is told of damaged ones.

    Raises InputError, which shows the difference, where it is of another training.
    """
    for aside in folder.glob(".step-*") if folder.is_dir() else ():
        shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed while it wrote
    for path in sorted(_folders(folder), key=lambda one: one.name, reverse=True):
        found = _read(path, say)
        if found is not None:
            _check(found, about, path)
            return found
    return None


def read(folder: Path, step: int, say: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint of a step, None where there is none that is whole."""
    return _read(folder / f"step-{step:09d}", say)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint, whole or not; 0 where there is none."""
    return max((int(path.name.removeprefix("step-")) for path in _folders(folder)), default=0)


def _read(path: Path, say: Callable[[str], None]) -> Checkpoint | None:
    from safetensors.torch import load

    try:
        hashes = json.loads((path / HASHES).read_bytes())
        contents = {name: (path / name).read_bytes() for name in (TENSORS, VALUES)}
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != hashes[name]:
                raise ValueError(f"{name} is damaged")
        told = json.loads(contents[VALUES])
        state = _joined(told["state"], load(contents[TENSORS]))
        return Checkpoint(told["step"], state, told["about"], digest([hashes[name] for name in (TENSORS, VALUES)]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = str(error) if isinstance(error, ValueError) else type(error).__name__
        say(f"the checkpoint {path.name} cannot be used ({what}); the one before it is, or the beginning")
        return None


def _check(found: Checkpoint, about: Mapping[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(about))
    if found.about == wanted:
        return
    told = difference(found.about, wanted)
    remedy = "give another --out, or --overwrite to begin anew"
    raise input_error(str(path), f"is of another training: {told}", remedy)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same with tensors taken out, a place holder in the place of each; keys that are numbers stay numbers."""
    if isinstance(value, Tensor):
        key = f"{len(tensors)}{name}"  # the number keeps apart what is nested and what has dots in its name
        tensors[key] = value.detach().cpu().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, Mapping):
        items = [[key, _split(one, f"{name}.{key}", tensors)] for key, one in value.items()]
        return {"items": items}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [
            _split(one, f"{name}.{number}", tensors) for number, one in enumerate(value)
        ]}  # fmt: skip
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}: a checkpoint holds tensors and plain values only")


def _joined(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "items" in value:
        return {key: _joined(one, tensors) for key, one in value["items"]}
    if "list" in value:
        return [_joined(one, tensors) for one in value["list"]]
    return tuple(_joined(one, tensors) for one in value["tuple"])
