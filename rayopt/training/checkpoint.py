"""Checkpoints: everything that a training goes on from, as tensors and plain values, whole or not there.

A checkpoint is a folder `step-N` of `state.safetensors`, `state.json` and `hashes.json`, written aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rayopt.errors import InputError, input_error
from rayopt.runs.files import disk_errors, write_bytes

TENSORS, VALUES, HASHES = "state.safetensors", "state.json", "hashes.json"
NAME = re.compile(r"step-(\d{9})")
KEPT = 2  # the newest ones: where the last one is damaged there is one before


@dataclass(frozen=True)
class Checkpoint:
    """What was read: `about` says of which training it is."""

    step: int
    state: dict[str, Any]
    about: dict[str, Any]


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
            if target.exists():  # of a run that went on from an earlier one
                shutil.rmtree(target)
            aside.replace(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for old in sorted(_folders(folder), key=lambda path: path.name)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


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


def _read(path: Path, say: Callable[[str], None]) -> Checkpoint | None:
    from safetensors.torch import load

    try:
        hashes = json.loads((path / HASHES).read_bytes())
        contents = {name: (path / name).read_bytes() for name in (TENSORS, VALUES)}
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != hashes[name]:
                raise ValueError(f"{name} is damaged")
        told = json.loads(contents[VALUES])
        return Checkpoint(told["step"], _joined(told["state"], load(contents[TENSORS])), told["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = str(error) if isinstance(error, ValueError) else type(error).__name__
        say(f"the checkpoint {path.name} cannot be used ({what}); the one before it is taken")
        return None


def _check(found: Checkpoint, about: Mapping[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(about))
    if found.about == wanted:
        return
    names = sorted({*found.about, *wanted})
    changed = [name for name in names if found.about.get(name) != wanted.get(name)]
    told = "; ".join(
        f"{name} was {_short(found.about.get(name))}, is {_short(wanted.get(name))}" for name in changed[:5]
    )
    remedy = "give another --out, or --overwrite to begin anew"
    raise InputError(input_error(str(path), f"is of another training: {told}", remedy).faults)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same with tensors taken out, a place holder in the place of each; keys that are numbers stay numbers."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
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
