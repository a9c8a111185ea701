"""The certificate beside each model: what made it, its hashes, and outputs to check it by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayopt.data.rows import Columns, Rows, arrays_of
from rayopt.errors import InputError, StepError, input_error
from rayopt.models.onnx_model import CERTIFICATE, predict_all, session
from rayopt.records import Artifact
from rayopt.runs.files import file_sha256
from rayopt.runs.folder import RunFolder
from rayopt.search import saved

ROWS = 2
MAX_FEATURES = 1024
Array = np.ndarray[Any, Any]
# Kernels of another processor round differently, and 8-bit ones may saturate: a share of the range of 0 and outputs.
TOLERANCE_SHARE = 0.02


@dataclass(frozen=True)
class Finding:
    """What checking one model gave: `problem` is empty when it is as it was measured."""

    id: str
    problem: str = ""
    max_error: float = 0.0


def probe(artifact: Artifact, rows: Rows, seed: int) -> dict[str, Any]:
    """The model's outputs on inputs that the seed makes: none of the user's rows, but each feature within its range.

    Features of whole numbers stay so (a model may look them up). Outputs that are not finite are None.
    """
    told = {"seed": seed, "inputs": {name: _range(array) for name, array in arrays_of(rows).items()}}
    outputs = [one.astype(np.float64) for one in predict_all(session(artifact), _inputs(told))]
    return {**told, "outputs": [_written(one) for one in outputs]}


def probe_by(estimator: Any, rows: Array, seed: int) -> dict[str, Any] | None:
    """The same of an estimator, whose outputs may be labels; None where the rows have no finite range.

    Outputs are None where it predicts nothing, or nothing finite, on such inputs.
    """
    told = {"seed": seed, "inputs": {name: _range(array) for name, array in arrays_of(rows).items()}}
    return {**told, "outputs": _predicted(estimator, told)} if _is_json(told) else None


def _predicted(estimator: Any, told: dict[str, Any]) -> Any:
    try:
        outputs = np.asarray(estimator.predict(arrays_of(_inputs(told))[""])).tolist()
    except Exception:  # noqa: BLE001 - an estimator may refuse what is made up, or not be one that predicts
        return None
    return outputs if _is_json(outputs) else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _written(outputs: Array) -> Any:
    written = outputs.astype(object)
    written[~np.isfinite(outputs)] = None
    return written.tolist()


def _range(array: Array) -> dict[str, Any]:
    axis = 0 if array[0].size <= MAX_FEATURES else None  # beyond that one range has to do for all
    return {
        "shape": [ROWS, *array.shape[1:]],
        "dtype": str(array.dtype),
        "low": array.min(axis=axis).astype(np.float64).tolist(),
        "high": array.max(axis=axis).astype(np.float64).tolist(),
        "whole": (array == np.floor(array)).all(axis=axis).tolist(),
    }


def verify_folder(path: Path) -> list[Finding]:
    """Checks every model of a run folder; raises InputError where there is nothing to check."""
    folder = RunFolder(path)
    summary = folder.read_summary()
    if summary["kind"] == "search" and summary.get("path"):
        return [_verify_estimator(folder.path / str(summary["path"]))]
    if summary["kind"] == "graph":
        return _verify_graphs(folder, summary)
    names = ("baseline", "model")  # of what compresses, and of what trains
    rows = [*map(summary.get, names), *summary.get("front", ()), *summary.get("candidates", ())]
    named = {row["id"]: row for row in rows if row}
    wanted = {id: row["sha256"] for id, row in named.items() if row["path"]}
    if not wanted:
        raise input_error(str(path), "holds no models", "give the folder of a run that has ended")
    return [_verify(folder.artifacts / id, id, sha256) for id, sha256 in wanted.items()]


def _verify_graphs(folder: RunFolder, summary: Mapping[str, Any]) -> list[Finding]:
    """The proof of each optimised graph repeated: by hash, on what the original gave, and on the original itself."""
    from rayopt.graph.certificate import repeat
    from rayopt.graph.run_model import limits_for

    found = []
    for row in summary.get("models", ()):
        if not row["path"]:
            continue
        at = folder.artifacts / row["id"]
        try:
            certificate = json.loads((at / CERTIFICATE).read_bytes())
            problem = _changed(at, dict(certificate["files"]), row["sha256"])
            named = row.get("certificate_sha256")  # runs of before have none
            if not problem and named is not None and file_sha256(at / CERTIFICATE) != named:
                problem = f"{CERTIFICATE} is not what the summary names: its hash differs"
            size = max(row["size_before"], row["size_after"])
            found.append(
                Finding(row["id"], problem)
                if problem
                else Finding(row["id"], *repeat(at, certificate, limits_for(size)))
            )
        except FileNotFoundError as error:
            found.append(Finding(row["id"], f"{Path(str(error.filename)).name} is missing"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(Finding(row["id"], f"its certificate cannot be read ({type(error).__name__})"))
    if not found:
        raise input_error(str(folder.path), "holds no optimised models", "give the folder of a run that made some")
    return found


def _changed(folder: Path, files: Mapping[str, str], sha256: str) -> str:
    """Which of the files are not those that the certificate and the summary name."""
    if sha256 not in files.values():
        return "its certificate and the summary name different files"
    hashes = {name: file_sha256(folder / name) for name in files}
    changed = [name for name, wanted in files.items() if hashes[name] != wanted]
    if changed:
        return f"{', '.join(changed)} is not what was proven: its hash differs"
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    extra = sorted(there - {*files, CERTIFICATE})
    return f"{', '.join(extra)} does not belong there" if extra else ""


def _verify(folder: Path, id: str, sha256: str) -> Finding:
    read = _files(folder, id)
    if isinstance(read, Finding):
        return read
    certificate, files = read
    artifact = Artifact("onnx", files)
    if artifact.sha256 != sha256 or certificate.get("sha256") != sha256:
        return Finding(id, "its certificate and the summary name different files")
    if "probe" not in certificate and "model.onnx" not in files:  # a trained model that does not export
        return Finding(id)
    if "probe" not in certificate:
        return Finding(id, "its certificate cannot be read (KeyError)")
    return _rerun(artifact, id, certificate["probe"])


def _files(folder: Path, id: str) -> tuple[dict[str, Any], dict[str, bytes]] | Finding:
    """The certificate and the files that it names, unchanged; else what is wrong with them."""
    try:
        certificate = json.loads((folder / CERTIFICATE).read_bytes())
        wanted = dict(certificate["files"])
        files = {name: (folder / name).read_bytes() for name in wanted}
    except FileNotFoundError as error:
        return Finding(id, f"{Path(str(error.filename)).name} is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Finding(id, f"its certificate cannot be read ({type(error).__name__})")
    changed = [name for name, content in files.items() if hashlib.sha256(content).hexdigest() != wanted[name]]
    if changed:
        return Finding(id, f"{', '.join(changed)} is not what was measured: its hash differs")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    extra = sorted(there - {str(Path(name)) for name in files} - {CERTIFICATE})
    if extra:
        return Finding(id, f"{', '.join(extra)} does not belong there")
    return certificate, files


def _verify_estimator(folder: Path) -> Finding:
    """The best estimator of a search: its files, and that it predicts what it did.

    The latter where skops is installed and all is of types that are known: those of others may run code.
    """
    read = _files(folder, folder.name)
    if isinstance(read, Finding):
        return read
    certificate, files = read
    if saved.FILE not in files or not saved.is_installed():
        return Finding(folder.name)
    try:
        if saved.foreign_types(files[saved.FILE], saved.FILE):
            return Finding(folder.name)
        estimator = saved.read(files[saved.FILE], saved.FILE)
        told = certificate["probe"]
        if told is None:
            return Finding(folder.name)
        wanted, got = told["outputs"], _predicted(estimator, told)
    except InputError as error:
        return Finding(folder.name, str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Finding(folder.name, f"its certificate cannot be read ({type(error).__name__})")
    same = wanted == got or _are_close(wanted, got)
    return Finding(folder.name, "" if same else "its outputs differ from those that were recorded")


def _are_close(wanted: Any, got: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(wanted, dtype=float), np.asarray(got, dtype=float), rtol=1e-6))
    except (TypeError, ValueError):  # labels are equal or not
        return False


def _rerun(artifact: Artifact, id: str, told: dict[str, Any]) -> Finding:
    try:
        got = predict_all(session(artifact), _inputs(told))
        wanted = [np.asarray(one, dtype=np.float64) for one in told["outputs"]]  # None becomes NaN
    except StepError as error:
        return Finding(id, str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Finding(id, f"its certificate cannot be read ({type(error).__name__})")
    if [one.shape for one in wanted] != [one.shape for one in got]:
        shapes = ", ".join(str(one.shape) for one in got)
        return Finding(id, f"its outputs have shapes {shapes} instead of {', '.join(str(one.shape) for one in wanted)}")
    return max(
        (_compare(id, *pair) for pair in zip(wanted, got, strict=True)), key=lambda one: (one.problem, one.max_error)
    )


def _compare(id: str, wanted: Array, got: Array) -> Finding:
    got = got.astype(np.float64)
    finite = np.isfinite(wanted)
    if (finite != np.isfinite(got)).any():
        return Finding(id, "its outputs are finite where they were not, or the other way round")
    wanted, got = wanted[finite], got[finite]
    worst = float(np.abs(got - wanted).max(initial=0))
    span = float(wanted.max(initial=0) - wanted.min(initial=0))
    if worst > TOLERANCE_SHARE * (span or 1.0):
        return Finding(id, f"its outputs differ by up to {worst:.3g} from those that were recorded", worst)
    return Finding(id, "", worst)


def _inputs(told: dict[str, Any]) -> Rows:
    generator = np.random.default_rng(told["seed"])
    arrays = {name: _drawn(one, generator) for name, one in told["inputs"].items()}
    return arrays[""] if "" in arrays else Columns(arrays)


def _drawn(told: dict[str, Any], generator: np.random.Generator) -> Array:
    low, high, whole = (np.asarray(told[name]) for name in ("low", "high", "whole"))
    share = generator.random(told["shape"])
    counted = np.minimum(np.floor(low + share * (high - low + 1)), high)
    drawn: Array = np.where(whole, counted, low + share * (high - low)).astype(told["dtype"])
    return drawn
