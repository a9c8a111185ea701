"""What is submitted to a cluster, what became of it, and what a run folder that travels home consists of."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from rayopt.errors import WorkError
from rayopt.records import digest
from rayopt.runs.files import is_inside
from rayopt.runs.remote import SCHEMES, is_address

ENDED = frozenset(("SUCCEEDED", "FAILED", "STOPPED"))
RUNS = "~/.rayopt/runs"  # on the head: a run is found again by its name
MANIFEST = "rayopt-manifest "  # what the line with the list of a run folder's files begins with
HELPER = "rayopt-fetch"  # what the ids of commands of our own begin with; they are nobody's jobs
STOP_WAIT_S = 30  # what a job that is stopped has to write down what it has
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Order:
    """A job as it is submitted. `id` is chosen here, so that one whose answer was lost can be asked after.

    out: the run folder, on the head or at an address; digest: tells whether another order is the same one again.
    """

    id: str
    name: str
    kind: str
    out: str
    words: tuple[str, ...]
    digest: str

    @property
    def metadata(self) -> dict[str, str]:
        return {
            "rayopt_name": self.name,
            "rayopt_kind": self.kind,
            "rayopt_out": self.out,
            "rayopt_digest": self.digest,
        }


@dataclass(frozen=True)
class Submission:
    """A submitted job as the cluster knows it; times in seconds since 1970. What others submitted has no `name`."""

    id: str
    status: str
    message: str
    exit_code: int | None
    began: float | None
    ended: float | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.metadata.get("rayopt_name", "")

    @property
    def out(self) -> str:
        return self.metadata.get("rayopt_out", "")

    @property
    def is_over(self) -> bool:
        return self.status in ENDED

    @property
    def code(self) -> int:
        """What a command that waited for its end gives back: the driver's own exit code where there is one."""
        if self.exit_code is not None:
            return self.exit_code if self.exit_code >= 0 else 128 - self.exit_code
        return {"SUCCEEDED": 0, "STOPPED": 130}.get(self.status, 1)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        known = {"id": self.id, "name": self.name or None, "status": self.status, "exit_code": self.exit_code}
        known |= {"kind": self.metadata.get("rayopt_kind"), "out": self.out or None}
        return {**known, "began": self.began, "ended": self.ended, "message": self.message}


@dataclass(frozen=True)
class SentFile:
    """A file of a run folder that travels home."""

    path: str
    size_bytes: int
    sha256: str


def new_id(name: str) -> str:
    """An id that nobody else makes, and that tells a person which job it is."""
    return f"{name}-{secrets.token_hex(4)}"


def next_id(name: str, known: Collection[str]) -> str:
    """The id of the next job of that name: two that are submitted at once choose the same one, and one gets it."""
    numbers = (digest([name, number])[:8] for number in itertools.count())
    return next(id for number in numbers if (id := f"{name}-{number}") not in known)


def out_of(name: str, out: str | None) -> str:
    """Where a job's results go: what was asked for, or the folder on the head that is kept for that name."""
    return out or f"{RUNS}/{name}"


def out_fault(out: str | None) -> str:
    """What is wrong with the place of a job's results: the job's own folder on the cluster does not last."""
    lasts = out is None or out.startswith(("/", "~/")) or (is_address(out) and out.partition("://")[0] in SCHEMES)
    return "" if lasts else f"is no place that lasts on the cluster, got {out!r}"


def command(python: str, job: str, out: str, assignments: Sequence[str], overwrite: bool) -> tuple[str, ...]:
    """The words that run a job on the cluster's head, from the root of the working directory."""
    words = [python, "-m", "rayopt", "run", job, "--address", "auto", "--out", out]
    for assignment in assignments:
        words += ["--set", assignment]
    return (*words, *(["--overwrite"] if overwrite else []))


def entrypoint(words: Sequence[str]) -> str:
    """The shell line of a command; the shell gives way to it, so that its exit code and its signals are its own."""
    return "exec " + " ".join(_quoted(word) for word in words)


def manifest(log: str) -> tuple[str, list[SentFile]] | None:
    """The folder among a head's logs and the files that it offers there, None where its log does not say so yet.

    Raises WorkError for a name that would leave the folder that the files are put into.
    """
    line = next((line for line in log.splitlines() if line.startswith(MANIFEST)), None)
    if line is None:
        return None
    try:
        folder, offered = json.loads(line[len(MANIFEST) :])
        files = [SentFile(str(path), int(size), str(digest)) for path, size, digest in offered]
    except (ValueError, TypeError) as error:
        raise WorkError("the cluster's list of files cannot be read") from error
    names = [one.path for one in files]
    for name in (str(folder), *names):
        if not is_inside(name):
            raise WorkError(f"the cluster offers a file that would leave the folder: {name!r}")
    above = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if len(set(names)) < len(names) or above & set(names):
        raise WorkError("the cluster offers two files of one name")
    return str(folder), files


def _quoted(word: str) -> str:
    """A word for the shell, which still turns a leading `~/` into the home of whoever runs it."""
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word)
