"""What a built-in model is, from the cache: building it only to see that it is the same costs the import of torch.

Only factories of `rayopt.models.zoo`: they depend on their arguments alone. One of the user's own may read anything,
and is asked anew each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from rayopt.models.settings import ModelSource
from rayopt.records import Artifact, digest
from rayopt.runs.cache import Cache, Entry

ZOO = "rayopt.models.zoo:"


def load(
    source: ModelSource, about: Sequence[object], cache: Cache, build: Callable[[], tuple[Artifact, str]]
) -> tuple[Artifact, str]:
    """What `build` gives, the model and a hash of what it is.

    about: all that the result depends on beside the settings and the weights: the data, the seed, libraries and code.
    """
    weights = _weights(source)
    if weights is None or not str(source.settings.factory).startswith(ZOO):
        return build()
    key = digest(["model", source.settings.model_dump(mode="json"), weights, *about])
    entry = cache.get(key)
    if entry is not None:
        return Artifact("torch", entry.files), str(entry.value["model"])
    artifact, hash = build()
    if weights == _weights(source):
        cache.put(key, Entry({"model": hash}, artifact.files))
    return artifact, hash


def _weights(source: ModelSource) -> str | None:
    """A hash of the weights file, "" where there is none; None where it cannot be read."""
    if source.settings.weights is None:
        return ""
    try:
        with source.path(source.settings.weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
