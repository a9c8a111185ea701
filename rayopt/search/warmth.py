"""What an earlier run's journal gives to a search: `warm_start: runs/earlier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayopt.errors import input_error
from rayopt.runs.folder import RunFolder
from rayopt.search.history import COLD, History, WarmStart, warm_start
from rayopt.search.space import Space


def warmed(given: str | None, beside: Path, space: Space, about: Mapping[str, Any], place: str) -> WarmStart:
    """The observations of the run in a folder, relative to the current one or to the job file's.

    Raises InputError where there is no journal, where its values are of something else, and where none of its points
    lies in the space.
    """
    if given is None:
        return COLD
    earlier = History(journal_at([Path(given), beside / given], place))
    if earlier.about != about:
        raise input_error(
            place,
            f"{given} has values of {_shown(earlier.about)}, this search of {_shown(about)}",
            "give a run with the same objectives, or leave it out",
        )
    found = warm_start(space, earlier.observations)
    if not found.observations:
        why = f": {found.left_out[0]}" if found.left_out else ""
        raise input_error(place, f"{given} has no point of this space{why}", "leave it out")
    return found


def journal_at(places: Sequence[Path], place: str) -> Path:
    """The journal that the first of some paths is, or holds as a run folder; raises InputError where none does."""
    for path in places:
        for journal in (path, RunFolder(path).observations):
            if journal.is_file():
                return journal
    raise input_error(place, f"{places[0]} holds no observations.jsonl", "give the run folder of an earlier search")


def _shown(about: Mapping[str, Any]) -> str:
    goals = about.get("objectives") or []
    return ", ".join(f"{goal['metric']} ({goal['direction']})" for goal in goals) or "nothing that it names"
