"""What became of models in the cache: each under a key of its own, and whether it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rayopt.graph.run_model import Outcome
from rayopt.runs.cache import Cache, Entry
from rayopt.runs.files import file_sha256

PASSING = ("crashed", "out_of_time", "out_of_memory", "killed_worker")  # said of the moment, not of the model


@dataclass(frozen=True)
class Codec:
    """The outcomes of a task as an index of entries, one for each model: chunks come and go, models stay."""

    cache: Cache

    def encode(self, value: Sequence[tuple[str, Outcome]]) -> Entry:
        for key, outcome in value:
            if outcome.verdict not in PASSING:
                told = {name: one for name, one in vars(outcome).items() if name != "files"}
                self.cache.put(key, Entry(told, outcome.files))
        return Entry({"keys": [key for key, _ in value]}, {})

    def decode(self, entry: Entry) -> list[tuple[str, Outcome | None]]:
        return [(key, outcome_of(self.cache.get(key))) for key in entry.value["keys"]]


def outcome_of(entry: Entry | None) -> Outcome | None:
    """An outcome from its cache entry, None where there is none."""
    return None if entry is None else Outcome(**entry.value, files=entry.files)


def holds(path: Path, outcome: Outcome) -> bool:
    """Whether the external data of the model at `path` is what a remembered outcome was made from."""
    for one in outcome.told.get("external") or ():
        beside = path.parent / one["location"]
        try:
            if beside.stat().st_size != one["size_bytes"]:
                return False
            if one["sha256"] is not None and file_sha256(beside) != one["sha256"]:
                return False
        except OSError:
            return False
    return True
