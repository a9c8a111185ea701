"""What a cluster can never give is told with its line; what it may give one day is not refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayopt.cluster.demand import Ask, Machine, asks, faults_of, types_of, unknown_types
from rayopt.loading import load

SMALL = Machine({"CPU": 2.0, "memory": 4e9, "node:1.2.3.4": 1.0})
EDGE = Machine({"CPU": 4.0, "pi": 1.0}, {"kind": "edge"})
OPTIMIZE = """kind: optimize
name: a
model: {factory: "rayopt.models.zoo:mlp", args: {features: 64, outputs: 10}}
data: {source: digits}
steps: [quantize_dynamic]
"""
TRAIN = """kind: train
name: a
model: {factory: "rayopt.models.zoo:mlp", args: {features: 64, outputs: 10}}
data: {source: digits}
batch_size: 64
"""


def refused(tmp_path: Path, text: str, *machines: Machine) -> list[str]:
    (tmp_path / "job.yaml").write_text(text)
    loaded = load(tmp_path / "job.yaml")
    return [str(fault) for fault in faults_of(asks(loaded.job, loaded.document), machines, loaded.document)]


@pytest.mark.parametrize(
    ("text", "machines", "said"),
    [
        (OPTIMIZE, [SMALL], None),
        (OPTIMIZE + "target: {kind: edge}\n", [SMALL, EDGE], None),
        (OPTIMIZE + "target: {kind: edge}\n", [SMALL], "job.yaml:6: target: asks for 1 CPUs, the label kind=edge"),
        (OPTIMIZE + "target: {resource: pi}\n", [EDGE], None),
        (OPTIMIZE + "target: {resource: pi5}\n", [EDGE], "the resource 'pi5'"),
        (OPTIMIZE + "limits: {step_bytes: 5000000000}\n", [SMALL], "5,000,000,000 bytes of memory"),
        (TRAIN + "workers: 6\n", [SMALL, EDGE], None),
        (TRAIN + "workers: 7\n", [SMALL, EDGE], "7 workers with 1 CPUs"),
        (TRAIN + "workers: 2\nresources: {GPU: 1}\n", [SMALL, EDGE], "job.yaml:7: resources: asks for 2 workers with"),
        (TRAIN + "workers: 2\nresources: {CPU: 3}\n", [SMALL, SMALL, EDGE], "2 workers with 3 CPUs"),
        (TRAIN + "workers: {min: 1, max: 90}\n", [SMALL], None),
    ],
)
def test_only_the_impossible_is_refused(tmp_path: Path, text: str, machines: list[Machine], said: str | None) -> None:
    found = refused(tmp_path, text, *machines)
    assert len(found) == (said is not None)
    if said is not None:
        assert said in found[0]
        assert "it has 1 x (" in found[0] or "it has 2 x (" in found[0]


def test_a_method_that_asks_for_a_gpu_is_heard(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(
        '"""Wants much."""\nfrom rayopt.records import Need\nfrom rayopt.spec import Settings\n'
        'accepts, gives, version = "onnx", "onnx", 1\nclass Params(Settings):\n    gpus: int = 1\n'
        "def need(params):\n    return Need(gpus=params.gpus)\ndef apply(model, params, context):\n    return model\n"
    )
    steps = "steps: [{any: [quantize_dynamic, [greedy.x, {use: greedy.x, gpus: 8}]]}]\n".replace(
        "greedy.x", "own.greedy"
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "greedy.py").rename(tmp_path / "own" / "greedy.py")
    (tmp_path / "own" / "__init__.py").touch()
    found = refused(tmp_path, OPTIMIZE.replace("steps: [quantize_dynamic]\n", steps), Machine({"CPU": 9, "GPU": 4}))
    assert len(found) == 1
    assert "1 CPUs, 8 GPUs" in found[0]


def test_machines_that_may_come_count() -> None:
    raw: dict[str, Any] = {
        "max_workers": 3,
        "available_node_types": {
            "head": {"resources": {"CPU": 2}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "labels": {"kind": "gpu"}},
        },
    }
    assert types_of(raw) == [Machine({"CPU": 2.0}, {}, 0), Machine({"CPU": 8.0, "GPU": 1.0}, {"kind": "gpu"}, 3)]
    assert not unknown_types(raw)
    assert unknown_types({"available_node_types": {"gpu": {"node_config": {}}}})
    assert types_of({}) == []
    assert not unknown_types({})


@pytest.mark.parametrize(
    ("has", "asked", "count"), [(0.3, 0.1, 3), (1, 0.1, 10), (0.7, 0.1, 7), (1, 0.3, 3), (1, 2, 0)]
)
def test_parts_of_a_resource_are_counted_as_ray_counts(has: float, asked: float, count: int) -> None:
    assert Machine({"GPU": has}).holds(Ask((), {"GPU": asked})) == count
