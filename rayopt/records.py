"""Frozen values that travel between the rooms and between machines; no behaviour beyond what they derive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Format = Literal["torch", "onnx"]


def digest(value: Any) -> str:
    """The SHA-256 (hex) of a JSON-able value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Need:
    """What a step asks of the node that runs it, and its limits there.

    One that takes longer than `limit_s`, or more memory than the `memory_bytes` it asked for (0: any), is ended.
    """

    cpus: float = 1
    gpus: float = 0
    memory_bytes: int = 0
    limit_s: float = 3600


ONE_CPU = Need()


@dataclass(frozen=True)
class Step:
    """A method with its validated parameters, and the step whose model it starts from (None: the job's model).

    `id` depends on everything that decides the result within one job: method, version, parameters and ancestors.
    `preserves` says that the method proves its outputs equal to those of what it was given.
    """

    method: str
    params: Mapping[str, Any]
    version: int
    parent: str | None
    label: str
    need: Need = ONE_CPU
    preserves: bool = False

    @cached_property
    def id(self) -> str:
        return digest([self.method, self.version, dict(self.params), self.parent])[:12]


class KnownFiles(Mapping[str, bytes]):
    """Files whose sizes and SHA-256s are known without reading them."""

    sizes: Mapping[str, int]
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Artifact:
    """A model as the files that would be shipped, by file name, with the notes of the step that made it.

    A torch artifact is `weights.safetensors` and `model.json`; an ONNX artifact is `model.onnx` and any external data.
    """

    format: Format
    files: Mapping[str, bytes]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        if isinstance(self.files, KnownFiles):
            return sum(self.files.sizes.values())
        return sum(len(content) for content in self.files.values())

    @cached_property
    def sha256(self) -> str:
        """One hash over all files, names included."""
        if isinstance(self.files, KnownFiles):
            return digest(dict(self.files.hashes))
        return digest({name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()})


@dataclass(frozen=True)
class Scores:
    """How well a model does on one split: the job's metric with its 95 % interval over `n` rows, and all others.

    `drop` is how much worse than the baseline that is (negative: better), with the interval of the same rows in pairs
    and its standard error.
    `divergence` is how far the outputs are from the baseline's, whatever the labels are: 0 for the same.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    others: Mapping[str, float] = field(default_factory=dict)
    drop: float = 0.0
    drop_low: float = 0.0
    drop_high: float = 0.0
    drop_error: float = 0.0
    divergence: float = 0.0


@dataclass(frozen=True)
class Latency:
    """Latency at one batch size, timed interleaved with the baseline: medians, and the ratio with its 95 % interval."""

    batch_size: int
    latency_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds_count: int


@dataclass(frozen=True)
class Outcome:
    """What became of one chain of steps; `reason` and `failed_step` say why where it failed."""

    id: str
    steps: tuple[str, ...]
    status: Literal["done", "failed", "skipped"]
    reason: str = ""
    failed_step: str = ""
    sha256: str = ""
    size_bytes: int = 0
    selection: Scores | None = None
    latency: tuple[Latency, ...] = ()
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)
