"""The kind `graph`: ONNX files in; each comes out with fewer nodes, proven equal and no slower, or as it was."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rayopt.errors import Fault, InputError, input_error
from rayopt.kinds import JobSettings
from rayopt.spec import Document, Settings

if TYPE_CHECKING:
    from rayopt.engine import Desk
    from rayopt.graph.batch import Batch
    from rayopt.runs.cache import Cache

Tool = Literal["own", "onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim"]


class LimitSettings(Settings):
    """What a model may take: memory beyond the tools' own code (0: what suits its size), and what its constants may
    fold to."""

    memory_bytes: int = Field(0, ge=0)
    fold_bytes: int = Field(256 << 20, ge=1 << 10)


class Job(JobSettings):
    """The fields of a `graph` job.

    `models`: files, folders (with all .onnx files below them) or patterns; `package:path` is one inside an installed
    package. Tools that are not installed are left out.
    `target_opset`: the newest operators that may be written. `timing_s`: about how long each candidate is timed beside
    its original; 0: not at all. `fused`: whether a second model is made of each in operators of ONNX Runtime's own, for
    this machine alone; it lies beside the portable one as NAME.fused.onnx.
    """

    models: str | list[str] = Field(min_length=1)
    tools: list[Tool] = Field(["own", "onnxslim", "ort_basic", "onnxscript", "onnxoptimizer", "onnxsim"], min_length=1)
    target_opset: int = Field(23, ge=13, le=24)
    timing_s: float = Field(0.1, ge=0, le=60)
    fused: bool = False
    limits: LimitSettings = Field(default_factory=LimitSettings)


def check(job: Job, document: Document) -> list[Fault]:
    """Whether there are such files."""
    try:
        files_of(job, document)
    except InputError as error:
        return list(error.faults)
    return []


def files_of(job: Job, document: Document) -> list[tuple[str, Path]]:
    """The files that a job names, and what each is called in the results; raises InputError."""
    named = [job.models] if isinstance(job.models, str) else job.models
    found: dict[Path, str] = {}
    for index, name in enumerate(named):
        place = document.place(("models",) if isinstance(job.models, str) else ("models", index))
        root, pattern = _split(_anchored(name, document, place))
        paths = [path for path in sorted(root.glob(pattern)) if not path.is_dir()] if pattern else [root]
        if not paths or not root.exists():
            problem = f"there is no {name}" if not root.exists() else f"there are no models in {name}"
            raise input_error(place, problem, "give .onnx files, folders of them or patterns, or package:path")
        for path in paths:
            found.setdefault(path, str(path.relative_to(root)) if pattern else path.name)
    return [(name, path) for path, name in found.items()]


def _anchored(name: str, document: Document, place: str) -> Path:
    """A path beside the job file, or `package:path` inside an installed package."""
    package, colon, inside = name.partition(":")
    if not colon:
        return document.folder / name
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise input_error(place, f"there is no package {package!r}", "give a path, or package:path")
    return Path(spec.submodule_search_locations[0]) / inside


def _split(path: Path) -> tuple[Path, str]:
    """A path as the folder that is certain and the pattern below it, "" for a file."""
    for index, part in enumerate(path.parts):
        if any(sign in part for sign in "*?["):
            return Path(*path.parts[:index]), str(Path(*path.parts[index:]))
    return path, "**/*.onnx" if path.is_dir() else ""


def prepare(job: Job, document: Document, cache: Cache) -> Batch:
    """Reads what the files hold; raises InputError."""
    from rayopt.graph.batch import Batch, item
    from rayopt.graph.order import Order

    folded = job.limits.fold_bytes
    order = Order("", "", tuple(job.tools), job.seed, job.target_opset, folded, job.timing_s, job.fused)
    items = tuple(item(name, path) for name, path in files_of(job, document))
    return Batch(job.model_dump(mode="json"), items, order, job.limits.memory_bytes)


def run(batch: Batch, desk: Desk) -> dict[str, Any]:
    """Optimises every model and returns the summary."""
    from rayopt.graphing import Graphing

    return Graphing(batch, desk).run()
