"""Timing is a guard: it passes over what is slower beyond doubt, and a noisy measurement changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import pytest

from rayopt.graph import lowered, timing
from rayopt.graph.lowered import makes_same
from rayopt.graph.proof import Reference
from rayopt.records import Latency
from tests.graph.hostile import array, good, model, node


def without_identity() -> onnx.ModelProto:
    made = good()
    (identity,) = [one for one in made.graph.node if one.op_type == "Identity"]
    for one in made.graph.node:
        one.input[:] = [identity.input[0] if name == identity.output[0] else name for name in one.input]
    made.graph.node.remove(identity)
    return made


def written(made: onnx.ModelProto) -> bytes:
    return bytes(made.SerializeToString())


def test_the_runtime_makes_the_same_of_models_that_differ_in_what_it_removes() -> None:
    assert makes_same(written(good()), written(without_identity()))


@pytest.mark.parametrize("change", ["operator", "attribute", "shape", "order of inputs"])
def test_models_that_it_runs_otherwise_are_told_apart(change: str) -> None:
    def made(changed: bool) -> bytes:
        operator = "Tanh" if changed and change == "operator" else "Sigmoid"
        axis = 1 if changed and change == "attribute" else 0
        width = 5 if changed and change == "shape" else 3
        given = "b x" if changed and change == "order of inputs" else "x b"
        nodes = [
            node("Sub", given, "a"), node(operator, "a", "s"), node("MatMul", "s w", "m"),
            node("ReduceSum", "m", "t"), node("Softmax", "t", "y", axis=axis),
        ]  # fmt: skip
        weights = [array("w", [[1.0] * width] * 4), array("b", [1.0, 2.0, 3.0, 4.0])]
        return written(model(nodes, weights=weights))

    assert makes_same(made(False), made(False))
    assert not makes_same(made(False), made(True))


def test_a_model_too_large_to_be_written_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowered, "MAX_BYTES", 10)
    assert not makes_same(written(good()), written(good()))


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the timer give these ratios of the candidate one after another; of the original to itself 1.01 at most."""

    def script(first: float, trials: Sequence[float] = ()) -> list[float]:
        left = [first, first, *trials]

        def timed(calls: Any, baseline: str, *_: object) -> dict[str, Latency]:
            ratio = left.pop(0)
            found = {"original": Latency(1, 1.0, 1.0, 1.0, 1.0, 9), "again": Latency(1, 1.0, 1.0, 0.99, 1.01, 9)}
            return found | {"candidate": Latency(1, ratio, ratio, ratio - 0.005, ratio + 0.005, 9)}

        monkeypatch.setattr(timing, "interleave", timed)
        monkeypatch.setattr(timing, "makes_same", lambda *_: False)
        monkeypatch.setattr(timing, "_probes", lambda reference, running: reference.probes[:1])
        monkeypatch.setattr(timing, "_openings", lambda before, after: (*map(opened, (after, before)), 1.0, False))
        return left

    return script


def opened(content: bytes) -> Any:
    return timing.open_session(content, optimize=True)


def compared() -> dict[str, Any]:
    made = good()
    return timing.compare(written(made), written(without_identity()), Reference(made, {}), 0.01)


@pytest.mark.parametrize(
    ("first", "trials", "slower", "left"),
    [
        (0.9, [], "", 0),
        (1.01, [], "", 0),
        (1.5, [1.5, 1.5, 1.0, 1.5, 1.5], "to run", 0),
        (1.5, [1.05] * 5, "to run", 0),
        (1.5, [1.0, 1.5, 1.0], "", 0),
        (1.5, [1.015, 1.015], "", 0),
    ],
)
def test_only_what_is_slower_again_and_again_is_slower(
    ratios: Any, first: float, trials: list[float], slower: str, left: int
) -> None:
    unused = ratios(first, trials)
    assert compared()["slower"] == slower
    assert len(unused) == left, "no more is timed than is needed"


def test_the_ratio_that_is_told_is_the_middle_one(ratios: Any) -> None:
    ratios(1.5, [1.3, 1.1, 1.2, 1.4, 1.5])
    assert compared()["ratio"] == 1.3


@pytest.mark.parametrize(
    ("candidate", "slow"),
    [([0.3], False), ([1.0] * 3, False), ([1.1] * 3, False), ([1.4] * 3 + [1.0] * 12, False), ([1.4] * 15, True)],
)
def test_a_session_is_slower_to_open_only_if_it_always_is(
    monkeypatch: pytest.MonkeyPatch, candidate: list[float], slow: bool
) -> None:
    waiting = iter(candidate)
    monkeypatch.setattr(timing, "_opened_in", lambda one: (None, next(waiting) if one == b"ours" else 1.0))
    assert timing._openings(b"original", b"ours")[3] is slow
    assert next(waiting, None) is None
