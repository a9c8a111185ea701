"""What a job may say about its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rayopt.errors import Fault, did_you_mean
from rayopt.spec import Document, Settings
from rayopt.yamltext import Location

BUILT_IN = ("digits", "mnist5k")
SUFFIXES = (".npz", ".npy", ".csv", ".parquet")

Share = Annotated[float, Field(gt=0, lt=0.9)]


class SplitSettings(Settings):
    """Shares of all rows; what is left is for training."""

    test: Share = 0.2
    selection: Share = 0.2
    calibration: Share = 0.1

    @property
    def problem(self) -> str:
        """What is wrong with the shares together, if anything."""
        taken = self.test + self.selection + self.calibration
        return f"the splits take {taken:.0%} of the rows" if taken >= 0.95 else ""


class DataSettings(Settings):
    """`source` is a built-in set, a file (.npz, .npy, .csv, .parquet) or `package.module:function`."""

    source: str
    args: dict[str, Any] = Field({})
    target: str | None = None
    features: str | list[str] | None = None
    task: Literal["auto", "classification", "regression", "unlabeled"] = "auto"
    dtype: Literal["float32", "int64"] = "float32"
    split: SplitSettings = SplitSettings()


def check(settings: DataSettings, document: Document, at: Location = ("data",)) -> list[Fault]:
    """The faults that can be seen without reading anything."""
    faults = _source_faults(settings, document, at)
    if settings.split.problem:
        faults.append(document.fault((*at, "split"), settings.split.problem, "leave at least 5 % to train on"))
    return faults


def _source_faults(settings: DataSettings, document: Document, at: Location) -> list[Fault]:
    source = settings.source
    if source in BUILT_IN or ":" in source:
        return []
    suffix = Path(source).suffix
    if suffix not in SUFFIXES:
        known = [*BUILT_IN, *(f"FILE{one}" for one in SUFFIXES), "package.module:function"]
        return [document.fault((*at, "source"), f"unknown data source {source!r}", did_you_mean(source, known))]
    faults = document.file_faults((*at, "source"), source)
    if settings.target is None and suffix in (".csv", ".parquet") and settings.task != "unlabeled":
        remedy = "add `target: COLUMN`, or `task: unlabeled` to compare models by their outputs"
        faults.append(document.fault((*at, "target"), "does not say which column is the target", remedy))
    return faults
