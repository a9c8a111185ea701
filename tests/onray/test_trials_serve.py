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

        def work(self, number: int, cells: Sequence[int], deadline_s: float | None) -> Iterator[list[Any]]:
            for cell in cells:
                happened.append(f"cell {cell}")
                yield [(cell, {})]

    questions = iter([(1, [None], None, pickle.dumps((1, [7, 8, 9]))), None])

    def pull(worker: str, life: int, told: Any) -> Any:
        happened.append(("pull", told))
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
        ("pull", None),
        "cell 7",
        ("tell", (1, [(7, {})])),
        "cell 8",
        ("tell", (1, [(8, {})])),
        "cell 9",
        ("pull", (1, [(9, {})])),
    ]
