"""The files of one `graph` job, and what is ordered of each."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from rayopt.graph.child import Limits
from rayopt.graph.order import Order
from rayopt.graph.run_model import limits_for
from rayopt.graph.skeleton import WHOLE_BYTES
from rayopt.graph.wire import external_locations
from rayopt.records import digest
from rayopt.runs.files import file_sha256

SKELETON_BYTES = 256 << 20  # of numbers in place of weights


@dataclass(frozen=True)
class Item:
    """One file: `name` is how the results call it, `sha256` and `size_bytes` are of the file alone.

    `data_bytes`: of the files beside it that it says its weights are in.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    data_bytes: int = 0

    @property
    def all_bytes(self) -> int:
        return self.size_bytes + self.data_bytes

    @property
    def memory_bytes(self) -> int:
        """What the work on it needs; the data of the largest is not loaded."""
        loaded = self.all_bytes if self.all_bytes <= WHOLE_BYTES else self.size_bytes + SKELETON_BYTES
        return (600 << 20) + 5 * loaded

    @cached_property
    def id(self) -> str:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.name).stem).strip("-.")[:60] or "model"
        return f"{stem}-{digest([self.name, self.sha256])[:8]}"


@dataclass(frozen=True)
class Batch:
    """A checked `graph` job: its files and what is ordered of each."""

    job: dict[str, Any]
    items: tuple[Item, ...]
    order: Order
    memory_bytes: int = 0

    @cached_property
    def hash(self) -> str:
        return digest([self.job, [[one.name, one.sha256] for one in self.items]])

    def plan(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "models": [{"id": one.id, "name": one.name, "sha256": one.sha256} for one in self.items],
        }

    def limits(self, item: Item) -> Limits:
        limits = limits_for(item.size_bytes)
        return replace(limits, memory_bytes=self.memory_bytes) if self.memory_bytes else limits


def item(name: str, path: Path) -> Item:
    """A file with the hash of its content; the external data that it names is read by the work itself."""
    try:
        if path.is_file():
            return Item(name, path, file_sha256(path), path.stat().st_size, _data_bytes(path))
    except OSError:
        pass
    return Item(name, path, "", 0)


def _data_bytes(path: Path) -> int:
    """The bytes of the external files that a model names; those outside its folder are not looked at."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = {PurePosixPath(name) for name in external_locations(content) if "\0" not in name}
    inside = (path.parent / name for name in names if not name.is_absolute() and ".." not in name.parts)
    return sum(one.lstat().st_size for one in inside if one.is_file())
