"""What a job may say about its model, and that together with where it was said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from rayopt.errors import Fault
from rayopt.records import Format
from rayopt.spec import Document, Settings
from rayopt.yamltext import Location


class ModelSettings(Settings):
    """Either `factory` (with `args` and `weights`) or `onnx`, a file; paths are relative to the job file's folder."""

    factory: str | None = None
    args: dict[str, Any] = Field({})
    weights: str | None = None
    onnx: str | None = None

    @property
    def format(self) -> Format:
        return "onnx" if self.onnx else "torch"

    @property
    def maker(self) -> dict[str, Any]:
        """What builds the model, as plain values: an argument that is none by how it shows itself."""
        return self.model_dump(mode="json", include={"factory", "args"}, fallback=shown)


def shown(value: Any) -> str:
    """How a value shows itself, without where in memory it lies."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


@dataclass(frozen=True)
class ModelSource:
    """A model's settings, the folder they are relative to, and where each was written, to name it in errors."""

    settings: ModelSettings
    folder: str
    places: Mapping[str, str] = field(default_factory=dict)

    def place(self, key: str) -> str:
        return self.places.get(key, f"model.{key}")

    def path(self, name: str) -> Path:
        return Path(self.folder) / name


def source_of(settings: ModelSettings, document: Document, at: Location = ("model",)) -> ModelSource:
    """The settings of a job with the places where they stand in it."""
    places = {key: document.place((*at, key)) for key in ModelSettings.model_fields}
    return ModelSource(settings, str(document.folder), places)


def check(settings: ModelSettings, document: Document, at: Location = ("model",)) -> list[Fault]:
    """The faults that can be seen without loading anything."""
    faults: list[Fault] = []
    if (settings.factory is None) == (settings.onnx is None):
        remedy = "give either `factory: package.module:function` or `onnx: FILE.onnx`"
        faults.append(document.fault(at, "names no model" if settings.onnx is None else "names two models", remedy))
    if settings.factory is not None and ":" not in settings.factory:
        remedy = "write package.module:function, for example rayopt.models.zoo:resnet"
        faults.append(document.fault((*at, "factory"), f"{settings.factory!r} names no function", remedy))
    for key in ("weights", "args"):
        if settings.factory is None and settings.onnx is not None and getattr(settings, key):
            problem = "goes with a `factory:`, not with an ONNX file"
            faults.append(document.fault((*at, key), problem, f"leave `{key}:` out"))
    for key in ("weights", "onnx"):
        name = getattr(settings, key)
        if name is not None:
            faults += document.file_faults((*at, key), name)
    return faults
