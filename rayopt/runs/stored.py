"""Files that stay on disk until they are asked for, so that a run of ten thousand models holds none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rayopt.errors import WorkError
from rayopt.records import KnownFiles


class StoredFiles(KnownFiles):
    """The files of a cache entry by name; each is checked against its hash whenever it is read.

    Travels to another process as a plain dict of what the files hold.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int], hashes: Mapping[str, str]) -> None:
        self._folder, self.sizes, self.hashes = folder, sizes, hashes

    def __getitem__(self, name: str) -> bytes:
        wanted = self.hashes[name]
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise _lost(self._folder / name, str(error.strerror)) from error
        if hashlib.sha256(content).hexdigest() != wanted:
            raise _lost(self._folder / name, "it has changed")
        return content

    def path(self, name: str) -> Path:
        """Where a file is, for what maps it into memory; what it holds was checked when the entry was read."""
        return self._folder / name

    def __iter__(self) -> Iterator[str]:
        return iter(self.hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[dict[str, bytes]]]:
        return dict, (dict(self),)


def _lost(path: Path, why: str) -> WorkError:
    return WorkError(f"{path} was taken from the cache during the run ({why}); the same command goes on from there")
