"""Teachers asked once about every row and view: in blocks, on whatever machines there are, each kept as it is answered.

What a teacher said lies in the cache, named by the content of teacher, rows and views, so that every worker and every
later run maps the same file. A run that was killed goes on after the blocks that it had; a damaged file is made again
from them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.engine import Desk, Ended, Engine, Task
from rayopt.errors import WorkError
from rayopt.models.threads import torch_threads
from rayopt.plan import Node
from rayopt.records import digest
from rayopt.runs.cache import Cache, Entry
from rayopt.tasks import code_hash, versions
from rayopt.training import views
from rayopt.training.distill_settings import ViewSettings
from rayopt.training.source import hash_of
from rayopt.training.teacher import Answers, Array, Stored, Teacher, file_name, merge

LEAST_ROWS = 512  # of a block; more where a view would have more than MOST_BLOCKS
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Questions:
    """What teachers are asked: every row of x `(rows, ...)` in every view; the seed draws the views."""

    teachers: tuple[Teacher, ...]
    x: Array
    settings: ViewSettings = field(default_factory=ViewSettings)
    seed: int = 0

    @cached_property
    def x_sha256(self) -> str:
        return hash_of(self.x)

    @property
    def asked_views(self) -> int:
        """How many views a teacher is asked about; the clean rows alone stand for all where the job says so."""
        return 1 if self.settings.teacher == "clean" else self.settings.count

    @property
    def blocks(self) -> list[slice]:
        """The rows of each block of a view."""
        size = max(LEAST_ROWS, math.ceil(len(self.x) / MOST_BLOCKS))
        return [slice(start, min(start + size, len(self.x))) for start in range(0, len(self.x), size)]

    def view_key(self, number: int) -> list[Any]:
        """What a view's rows depend on; view 0 is the rows themselves, whatever the other views are."""
        told = self.settings.model_dump(mode="json", exclude={"count", "teacher"})
        return [self.x_sha256, number, *([told, self.seed] if number else [])]


@dataclass(frozen=True)
class Asked:
    """The rows of all views one after another, `(views * rows, ...)`, and what each teacher said of them."""

    x: Array | Stored
    answers: tuple[Answers, ...]
    blocks_asked: int


def ask(questions: Questions, desk: Desk) -> Asked:
    """The answers of all teachers, from the cache or from the teachers; raises WorkError where one cannot be asked."""
    desk.cache.hold()
    context = digest([versions(), code_hash()])
    keys = [_key(questions, teacher, context) for teacher in questions.teachers]
    known = {index: entry for index, key in enumerate(keys) if (entry := desk.cache.get(key)) is not None}
    missing = [index for index in range(len(keys)) if index not in known]
    engine = _engine(questions, desk)
    asked = 0
    try:
        asked = _run(engine, [task for index in missing for task in _tasks(questions, index, context)])
    finally:
        engine.close()
    answers = []
    for index, teacher in enumerate(questions.teachers):
        parts = _Parts(questions, index, engine.values)
        stored = _stored(desk.cache, keys[index], known.get(index), parts)
        period = len(questions.x) if questions.settings.teacher == "clean" else None
        answers.append(Answers(stored, teacher.weight, period))
    return Asked(_rows(questions, desk.cache, context), tuple(answers), asked)


def answer(questions: Questions, teacher: int, view: int, block: int) -> dict[str, Array]:
    """What a teacher says of one block of a view; with one thread, for sums in another order give other bytes."""
    rows = views.block(questions.settings, questions.x, questions.seed, view, questions.blocks[block])
    with torch_threads(1):
        return questions.teachers[teacher].ask(rows)


def _engine(questions: Questions, desk: Desk) -> Engine:
    code = digest([teacher.code for teacher in questions.teachers])
    return Engine(desk.open_backend, desk.cache, _Codec(), desk.watcher, shared=questions, code=code)


def _run(engine: Engine, tasks: list[Task]) -> int:
    """Runs all; gives how many were not in the cache."""
    if not tasks:
        return 0
    ended: list[Ended] = []
    engine.run(tasks, ended.append, lambda: [])
    for one in ended:
        if one.status != "done":
            raise WorkError(f"a teacher cannot be asked: {one.reason}")
    return sum(not one.cached for one in ended)


def _tasks(questions: Questions, index: int, context: str) -> Iterator[Task]:
    teacher = questions.teachers[index]
    for view in range(questions.asked_views):
        for number, rows in enumerate(questions.blocks):
            about = [teacher.sha256, list(teacher.layers), questions.view_key(view), rows.start, rows.stop, context]
            name = f"ask {teacher.name} about rows {rows.start} to {rows.stop - 1}" + (f" of view {view}" * bool(view))
            key = _Key(digest(["answer", *about]))
            yield Task(Node(_id(index, view, number)), name, answer, (questions, index, view, number), key)


@dataclass(frozen=True)
class _Key:
    """A task's key that depends on no other task's result."""

    key: str

    def __call__(self, values: Mapping[str, Any]) -> str:
        return self.key


def _id(teacher: int, view: int, block: int) -> str:
    return f"{teacher}:{view}:{block}"


def _key(questions: Questions, teacher: Teacher, context: str) -> str:
    """The key of all that a teacher says."""
    about = [questions.view_key(view) for view in range(questions.asked_views)]
    return digest(["answers", teacher.sha256, list(teacher.layers), about, len(questions.blocks), context])


@dataclass(frozen=True)
class _Parts:
    """The blocks of one teacher's answers in the order of the rows."""

    questions: Questions
    teacher: int
    values: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return self.questions.asked_views * len(self.questions.x)

    @property
    def names(self) -> list[str]:
        return _names(self.values[_id(self.teacher, 0, 0)])

    def __iter__(self) -> Iterator[tuple[slice, dict[str, Array]]]:
        count = len(self.questions.x)
        for view in range(self.questions.asked_views):
            for number, rows in enumerate(self.questions.blocks):
                at = slice(view * count + rows.start, view * count + rows.stop)
                yield at, _loaded(self.values[_id(self.teacher, view, number)])


def _stored(cache: Cache, key: str, entry: Entry | None, parts: _Parts) -> dict[str, Stored]:
    """The files of all of a teacher's answers; in memory where there is no writing into the cache."""
    if entry is None:

        def write(folder: Path) -> None:
            merge(parts, parts.rows, folder)

        entry = cache.make(key, {"names": parts.names}, write)
    if entry is not None:
        return {name: _mapped(entry, number) for number, name in enumerate(entry.value["names"])}
    blocks = [block for _, block in parts]
    return {name: Stored(Path(), np.concatenate([block[name] for block in blocks])) for name in parts.names}


def _rows(questions: Questions, cache: Cache, context: str) -> Array | Stored:
    """The rows of all views: what the student is given."""
    count, x = questions.settings.count, questions.x
    if count == 1:
        return x
    key = digest(["views", [questions.view_key(view) for view in range(count)], len(questions.blocks), context])
    entry = cache.get(key)
    if entry is None:

        def write(folder: Path) -> None:
            merge(_views(questions), count * len(x), folder)

        entry = cache.make(key, {}, write)
    if entry is not None:
        return _mapped(entry, 0)
    return np.concatenate([block["x"] for _, block in _views(questions)])


def _views(questions: Questions) -> Iterator[tuple[slice, dict[str, Array]]]:
    count = len(questions.x)
    for view in range(questions.settings.count):
        for rows in questions.blocks:
            made = views.block(questions.settings, questions.x, questions.seed, view, rows)
            yield slice(view * count + rows.start, view * count + rows.stop), {"x": made}


def _mapped(entry: Entry, number: int) -> Stored:
    return Stored(entry.files.path(file_name(number)))  # type: ignore[attr-defined]  # the cache's are StoredFiles


class _Codec:
    """Answers to a block to a cache entry; back they are the entry, so that its files stay on disk."""

    def encode(self, value: Mapping[str, Array]) -> Entry:
        files = {}
        for number, array in enumerate(value.values()):
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            files[file_name(number)] = file.getvalue()
        return Entry({"names": list(value)}, files)

    def decode(self, entry: Entry) -> Entry:
        return entry


def _names(block: Any) -> list[str]:
    return list(block.value["names"] if isinstance(block, Entry) else block)


def _loaded(block: Any) -> dict[str, Array]:
    if not isinstance(block, Entry):
        return dict(block)
    files = (io.BytesIO(block.files[file_name(number)]) for number in range(len(block.files)))
    return {name: np.load(file, allow_pickle=False) for name, file in zip(_names(block), files, strict=True)}
