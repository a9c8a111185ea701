"""Versions compared: what counts as another, and what does not."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform

import pytest

from rayopt.cluster import on_host
from rayopt.cluster.environment import Environment, environment_of, libraries, our_environment

OURS = Environment("3.11.7", {"ray": "2.60.0", "torch": "2.13.0+cpu"}, "abc")


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({}, []),
        ({"python": "3.11.2"}, []),
        ({"python": "3.12.1"}, ["Python 3.12.1 (here 3.11.7)"]),
        ({"python": "3.1.7"}, ["Python 3.1.7 (here 3.11.7)"]),
        ({"versions": {"ray": "2.60.0", "torch": "2.13.0+cu130", "more": "1"}}, []),
        ({"versions": {"ray": "2.59.0", "torch": "2.13.0"}}, ["ray 2.59.0 (here 2.60.0)"]),
        ({"versions": {"ray": "2.60.0"}}, ["torch missing (here 2.13.0+cpu)"]),
        ({"sources": "abd"}, ["rayopt's files abd (here abc)"]),
        ({"sources": "", "python": "3.10.0"}, ["Python 3.10.0 (here 3.11.7)", "rayopt's files missing (here abc)"]),
    ],
)
def test_differences_are_named_with_both_sides(there: dict[str, object], told: list[str]) -> None:
    assert [str(one) for one in OURS.differences(dataclasses.replace(OURS, **there))] == told


def test_ours_is_this_process_s() -> None:
    ours = our_environment()
    assert ours.python == platform.python_version()
    assert ours.versions["ray"] == importlib.metadata.version("ray")
    assert len(ours.sources) == 12


def test_libraries_are_what_rayopt_requires_without_extras() -> None:
    assert {"ray", "torch", "onnx", "click"} <= set(libraries())
    assert not {"pytest", "optuna", "skops"} & set(libraries())


def test_a_host_that_is_this_machine_differs_in_nothing() -> None:
    assert our_environment().differences(environment_of(on_host.facts("", list(libraries())))) == ()
