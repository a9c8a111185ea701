"""A trial tells what it has found before it begins the next cell; only the last answers wait for the next question."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rayopt.onray import trials


def test_answers_are_told_before_the_next_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[Any] = []

    class Hands:
        def __init__(self, fetch: Any) -> None: ...

        def prepare(self, number: int) -> None:
            happened.append(f"round {number}")

        def work(self, number: int, cells: Sequence[int], deadline_s: float | None) -> Iterator[list[Any]]:
            for cell in cells:
                happened.append(f"cell {cell}")
                yield [(cell, {})]

    cells = pickle.dumps((1, [7, 8, 9]))
    questions = iter([(1, [None], None, b""), (1, [None], None, cells), (0, None, None, b""), None])

    def pull(worker: str, life: int, told: Any, seen: int) -> Any:
        happened.append(("pull", told, seen))
        return next(questions)

    def tell(worker: str, life: int, told: Any) -> None:
        happened.append(("tell", told))

    def remote(call: Any) -> Any:
        return SimpleNamespace(remote=call)

    mailbox = SimpleNamespace(join=remote(lambda worker: 1), pull=remote(pull), tell=remote(tell))
    monkeypatch.setattr(trials, "Hands", Hands)
    monkeypatch.setattr(trials.ray, "get", lambda value: value)
    trials._serve({"worker": "trial 1"}, mailbox)
    assert happened == [
        ("pull", None, 0),
        "round 1",  # its data are fetched before there are cells of it
        ("pull", None, 1),
        "cell 7",
        ("tell", (1, [(7, {})])),
        "cell 8",
        ("tell", (1, [(8, {})])),
        "cell 9",
        ("pull", (1, [(9, {})]), 1),
        "round 0",  # none: its data are let go
        ("pull", None, 0),
    ]
