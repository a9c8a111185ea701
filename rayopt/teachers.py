"""Where teachers come from: a factory and weights, an ONNX file, or what a job has made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayopt.errors import Fault, InputError, StepError, input_error
from rayopt.models import settings as model_settings
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.records import Artifact
from rayopt.runs.folder import RunFolder
from rayopt.spec import Document, read_document
from rayopt.tasks import sources
from rayopt.training.distill_settings import TeacherSettings
from rayopt.training.settings import TrainSettings
from rayopt.training.teacher import OUTPUTS, Array, Teacher
from rayopt.yamltext import Location

WAYS = ("factory", "onnx", "run", "job")


@dataclass(frozen=True)
class Found:
    """A teacher, where it was named, and how it is trained before it teaches, if it is."""

    teacher: Teacher
    place: str
    train: TrainSettings | None = None


def check(settings: TeacherSettings, document: Document, at: Location) -> list[Fault]:
    """The faults that show without loading anything."""
    named = [way for way in WAYS if getattr(settings, way) is not None]
    if len(named) != 1:
        remedy = "give one of `factory:`, `onnx:`, `run: FOLDER` and `job: FILE`"
        return [document.fault(at, "names two teachers" if named else "names no teacher", remedy)]
    faults = []
    if named[0] in ("factory", "onnx"):
        faults += model_settings.check(settings, document, at)
    else:
        for key in ("weights", "args"):
            if getattr(settings, key):
                faults.append(document.fault((*at, key), "goes with a `factory:`", f"leave `{key}:` out"))
    if settings.train is not None and settings.factory is None:
        problem = "only a `factory:`'s model can be trained here"
        faults.append(document.fault((*at, "train"), problem, "leave `train:` out"))
    if settings.job is not None:
        faults += document.file_faults((*at, "job"), settings.job)
    if settings.run is not None and not (document.folder / settings.run).is_dir():
        problem = f"there is no folder {document.folder / settings.run}"
        faults.append(document.fault((*at, "run"), problem, "paths are relative to the job file's folder"))
    return faults


def load(settings: TeacherSettings, document: Document, at: Location, seed: int, layers: Sequence[str] = ()) -> Found:
    """The teacher that a job names; raises InputError where it cannot be had."""
    place = document.place(at)
    if settings.onnx is not None:
        from rayopt.models.onnx_model import read_file

        path = document.folder / settings.onnx
        artifact = read_file(path, document.place((*at, "onnx")))
        return Found(Teacher(artifact, None, "", tuple(layers), settings.weight, path.name), place)
    if settings.factory is not None:
        from rayopt.models.torch_model import build, to_artifact

        plain = ModelSettings.model_validate(settings.model_dump(include=set(ModelSettings.model_fields)))
        source = model_settings.source_of(plain, document, at)
        artifact = to_artifact(build(source, seed))
        code = sources([settings.factory], source.folder).sha256
        name = settings.factory.rpartition(":")[2]
        return Found(Teacher(artifact, source, code, tuple(layers), settings.weight, name), place, settings.train)
    key = "run" if settings.run is not None else "job"
    folder = _run_folder(settings, document, document.place((*at, key)))
    artifact, made_by = _made(folder, document, document.place((*at, key)))
    code = sources([str(made_by.settings.factory)], made_by.folder).sha256 if made_by else ""
    return Found(Teacher(artifact, made_by, code, tuple(layers), settings.weight, folder.path.name), place)


def check_answers(found: Found, example: Array, wanted: tuple[int, ...] | None, student: str) -> tuple[int, ...]:
    """The shape of what a teacher says of a row; raises InputError unless it is `wanted` (None: any).

    student: what the wanted shape is that of.
    """
    from rayopt.models.onnx_model import fits

    try:
        shape: tuple[int, ...] = found.teacher.ask(example)[OUTPUTS].shape[1:]
    except StepError as error:
        problem = f"the teacher does not take rows of shape {example.shape[1:]} and {example.dtype}: {error}"
        raise input_error(found.place, problem, "check the teacher against the data and the `features:`") from error
    except Exception as error:  # what torch raises for other inputs is of any kind
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        problem = f"the teacher does not take rows of shape {example.shape[1:]} ({type(error).__name__}: {first})"
        raise input_error(found.place, problem, "check the teacher's `args` against the data") from error
    if wanted is not None and not fits(shape, wanted):
        problem = f"the teacher gives {_words(shape)} for a row, {student} {_words(wanted)}"
        raise input_error(found.place, problem, "teacher and student need the same classes")
    return shape


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} outputs" if len(shape) == 1 else f"outputs of shape {shape}"


def _run_folder(settings: TeacherSettings, document: Document, place: str) -> RunFolder:
    """The folder of the run that a job names; of a job file it is the one that its run has by default."""
    if settings.run is not None:
        return RunFolder(document.folder / settings.run)
    path = document.folder / str(settings.job)
    name = str(read_document(path).data.get("name"))
    for base in (Path.cwd(), document.folder, path.parent):
        folder = RunFolder(base / "runs" / name)
        if folder.summary.is_file():
            return folder
    remedy = f"call `rayopt run {path}` first, or name the folder of its run in `run:`"
    raise input_error(place, f"the job {name!r} has not been run: there is no runs/{name}", remedy)


def _made(folder: RunFolder, document: Document, place: str) -> tuple[Artifact, ModelSource | None]:
    """The model that a run ended with; a torch model comes with the factory that the run's plan names."""
    try:
        summary, plan = folder.read_summary(), folder.read_plan()
    except InputError as error:
        raise input_error(place, f"{folder.path} holds no run that has ended", "run its job first") from error
    row = summary.get("recommended") or summary.get("baseline") or summary
    path = folder.path / str(row.get("path"))
    if row.get("path") is None or not path.is_dir():
        raise input_error(place, f"the run {folder.path} has left no model", "name another run")
    _check_hashes(path, place)
    if (path / "model.onnx").is_file():
        from rayopt.models.onnx_model import read_file

        return read_file(path / "model.onnx", place), None
    from rayopt.models.torch_model import SHAPES, WEIGHTS

    told = plan.get("job", {}).get("model") or plan.get("job", {}).get("student")
    if not (path / WEIGHTS).is_file() or not told:
        raise input_error(place, f"{path} holds neither model.onnx nor {WEIGHTS}", "name a run that made a model")
    files = {name: (path / name).read_bytes() for name in (WEIGHTS, SHAPES)}
    plain = ModelSettings.model_validate({key: told.get(key) for key in ("factory", "args")} | {"weights": None})
    return Artifact("torch", files), ModelSource(plain, str(document.folder), {"factory": place})


def _check_hashes(path: Path, place: str) -> None:
    """Whether the files are those that the run wrote."""
    import json

    try:
        wanted: Mapping[str, Any] = json.loads((path / "certificate.json").read_bytes())["files"]
        changed = [name for name in wanted if hashlib.sha256((path / name).read_bytes()).hexdigest() != wanted[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise input_error(
            place, f"{path} has no certificate that can be read ({error})", "run its job again"
        ) from error
    if changed:
        raise input_error(place, f"{path / changed[0]} is not what the run wrote", "run its job again")
