"""The certificate beside an optimised model, and the proof repeated from it: on recorded outputs, on the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph.child import Limits, call
from rayopt.graph.difference import HALF, LEAST_EDGE_SCALE, LEAST_SCALE
from rayopt.graph.edges import DROWNED, LOWEST
from rayopt.graph.inputs import Input, Probe, feed
from rayopt.graph.nursery import Tell
from rayopt.graph.sessions import open_session, run
from rayopt.measure.machine import machine
from rayopt.runs.files import file_sha256

if TYPE_CHECKING:
    from rayopt.graph.proof import Reference

SAMPLED = 32  # values of each output that a certificate holds


def samples(outputs: Sequence[Sequence[Any]]) -> list[list[dict[str, Any] | None]]:
    """A few values of each output of each probe, spread over it; what is not finite is text, what is no array None."""
    return [[_sample(one) for one in found] for found in outputs]


def _sample(output: Any) -> dict[str, Any] | None:
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
        return None
    flat = output.ravel()
    chosen = flat[np.linspace(0, flat.size - 1, min(SAMPLED, flat.size)).astype(int)] if flat.size else flat
    values = [float(one) if np.isfinite(one) else str(float(one)) for one in chosen.astype(np.float64)]
    scale = float(np.abs(flat[np.isfinite(flat)].astype(np.float64)).max(initial=0)) if flat.size else 0.0
    return {"shape": list(output.shape), "dtype": str(output.dtype), "values": values, "scale": scale}


def repeat(folder: Path, certificate: Mapping[str, Any], limits: Limits) -> tuple[str, float]:
    """What is wrong with a model beside its certificate ("" where nothing is), and the largest error that was seen."""
    fused = certificate.get("fused") or {}
    (name,) = [name for name in certificate["files"] if name.endswith(".onnx") and name != fused.get("file")]
    source = certificate["source"]
    original = Path(source["path"])
    there = original.is_file() and file_sha256(original) == source["sha256"]
    argument = {
        "path": str(folder / name),
        "original": str(original) if there else "",
        "proof": certificate["proof"],
        "seed": certificate["order"]["seed"],
        "fused": str(folder / fused["file"]) if fused.get("machine") == machine() else "",
    }
    reply = call("rayopt.graph.certificate:replay", argument, limits)
    if reply.died:
        return f"it cannot be run again: {reply.died}", 0.0
    return str(reply.returned["problem"]), float(reply.returned["max_error"])


def replay(argument: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """In a child: the model on the certificate's probes beside recorded outputs, and beside the original."""
    try:
        bones = _skeleton_of(argument) if "skeleton" in argument["proof"] else None
        worst = _on_samples(argument, argument["path"] if bones is None else bones.SerializeToString())
        if argument["fused"]:
            worst = max(worst, _on_samples(argument, argument["fused"]))
        if argument["original"]:
            worst = max(worst, _on_original(argument) if bones is None else _on_large_original(argument, bones))
    except StepError as error:
        return {"problem": str(error), "max_error": 0.0}
    return {"problem": "", "max_error": worst}


def _on_samples(argument: Mapping[str, Any], model: bytes | str) -> float:
    from onnx import load, numpy_helper

    proof = argument["proof"]
    if proof["drawn"]:
        return 0.0  # random operators: the comparison with the original is all there is
    tensors = load(model).graph.initializer if isinstance(model, str) else ()
    overridable = {one["name"] for one in proof["inputs"]}
    defaults = {one.name: numpy_helper.to_array(one) for one in tensors if one.name in overridable}
    inputs = [
        Input(
            **{**one, "shape": tuple(one["shape"]), "pool": tuple(one["pool"]), "near": tuple(one.get("near", ()))},
            default=defaults.get(one["name"]),
        )
        for one in proof["inputs"]
    ]
    running = open_session(model)
    names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
    worst = 0.0
    for told, wanted in zip(proof["probes"], proof["outputs"], strict=True):
        fed = feed(inputs, Probe(**told))
        found = run(running, {name: value for name, value in fed.items() if name in names})
        for output, sample in zip(found, wanted, strict=True):
            if sample is not None:
                edge = told.get("edge", "")
                error = _compared(output, sample, proof, edge)
                worst = worst if edge else max(worst, error)
    return worst


def _compared(output: Any, wanted: Mapping[str, Any], proof: Mapping[str, Any], edge: str) -> float:
    """The largest difference from what was recorded, but for what overflows at an edge; raises StepError."""
    got = _sample(output)
    if got is None or (got["shape"], got["dtype"]) != (wanted["shape"], wanted["dtype"]):
        raise StepError("an output has another shape or type than was recorded")
    left, right = (np.array([float(one) for one in told["values"]]) for told in (wanted, got))
    if edge.startswith(LOWEST):
        left, right = left[np.abs(left) < DROWNED], right[np.abs(left) < DROWNED]
    least_scale = LEAST_EDGE_SCALE if edge else LEAST_SCALE
    rtol, share = proof.get("half", HALF).get(wanted["dtype"], (proof["rtol"], proof["atol_share"]))
    if not np.allclose(left, right, rtol, share * max(wanted["scale"], least_scale), equal_nan=True):
        finite = np.isfinite(left) & np.isfinite(right)
        worst = float(np.abs(left[finite] - right[finite]).max(initial=0))
        raise StepError(f"its outputs differ by up to {worst:.3g} from those that were recorded")
    finite = np.isfinite(left)
    return float(np.abs(left[finite] - right[finite]).max(initial=0))


def _on_original(argument: Mapping[str, Any]) -> float:
    from onnx import load, numpy_helper

    from rayopt.graph.face import take_off
    from rayopt.graph.gate import admit
    from rayopt.graph.proof import Reference
    from rayopt.graph.working import whole

    model = whole(admit(Path(argument["original"])))
    opened, face = take_off(model)
    defaults = {one.name: numpy_helper.to_array(one) for one in face.overridable}
    reference = Reference(opened, defaults, argument["seed"])
    _widen(reference, argument)
    return reference.check(load(argument["path"]))


def _widen(reference: Reference, argument: Mapping[str, Any]) -> None:
    """The edges that the original took when the certificate was written are compared again, and forced branches."""
    for switch, way in reference.unreached():
        reference.force(switch, way)
    for probe in (Probe(**told) for told in argument["proof"]["probes"]):
        if probe.edge and probe not in reference.probes and not reference.add(probe):
            raise StepError(f"the original does not run at {probe.edge!r}, as it did before")


def _skeleton_of(argument: Mapping[str, Any]) -> Any:
    """The skeleton of a large model: without the weights that the certificate names."""
    from onnx import load

    from rayopt.graph.face import take_off
    from rayopt.graph.skeleton import skeleton

    path = Path(argument["path"])
    names = {one["name"] for one in argument["proof"]["inputs"] if one["weight"]}
    return skeleton(take_off(load(path, load_external_data=False))[0], path.parent, names).model


def _on_large_original(argument: Mapping[str, Any], bones: Any) -> float:
    from rayopt.graph.face import take_off
    from rayopt.graph.gate import admit
    from rayopt.graph.skeleton import skeleton

    original = Path(argument["original"])
    opened, _ = take_off(admit(original).model)
    reference = skeleton(opened, original.parent).reference(argument["seed"])
    _widen(reference, argument)
    return reference.check(bones)
