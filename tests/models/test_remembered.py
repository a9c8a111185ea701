"""A built-in model from the cache is the one that was built; one of the user's own is built each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayopt.models import remembered
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.records import Artifact
from rayopt.runs.cache import Cache


class Builder:
    """Gives another model each time."""

    count = 0

    def __call__(self) -> tuple[Artifact, str]:
        self.count += 1
        return Artifact("torch", {"model.json": b"%d" % self.count}), f"hash {self.count}"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def load(cache: Cache, build: Builder, folder: Path, *about: object, **fields: object) -> str:
    source = ModelSource(ModelSettings.model_validate(fields), str(folder))
    artifact, hash = remembered.load(source, about, cache, build)
    assert artifact.files["model.json"] == hash.removeprefix("hash ").encode()
    return hash


def test_a_built_in_model_is_built_once_for_all_that_it_depends_on(cache: Cache, tmp_path: Path) -> None:
    build = Builder()
    (tmp_path / "w").write_bytes(b"one")
    plain = {"factory": "rayopt.models.zoo:mlp", "args": {"features": 4, "outputs": 2}}
    variants: list[tuple[tuple[object, ...], dict[str, object]]] = [
        ((0,), plain),
        ((1,), plain),
        ((0, "another torch"), plain),
        ((0,), {**plain, "args": {"features": 5, "outputs": 2}}),
        ((0,), {**plain, "factory": "rayopt.models.zoo:resnet"}),
        ((0,), {**plain, "weights": "w"}),
    ]
    for _ in range(2):
        found = [load(cache, build, tmp_path, *about, **fields) for about, fields in variants]
        assert found == [f"hash {number + 1}" for number in range(6)]
    (tmp_path / "w").write_bytes(b"two")
    assert load(cache, build, tmp_path, 0, **plain, weights="w") == "hash 7"


@pytest.mark.parametrize(
    "fields", [{"factory": "network:build"}, {"factory": "rayopt.models.zoo:mlp", "weights": "missing"}]
)
def test_what_may_depend_on_more_is_built_each_time(cache: Cache, tmp_path: Path, fields: dict[str, object]) -> None:
    build = Builder()
    assert [load(cache, build, tmp_path, **fields) for _ in range(2)] == ["hash 1", "hash 2"]
    assert cache.info().entries_count == 0
