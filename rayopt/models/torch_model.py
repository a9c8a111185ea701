"""torch models into and out of artifacts: `weights.safetensors`, and `model.json` with what pruning left.

That are the widths of layers, and the names of tensors whose zeros stay zero in training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rayopt.data.rows import Columns, Rows, told
from rayopt.errors import input_error
from rayopt.models.masks import mask, masked
from rayopt.models.onnx_model import fits
from rayopt.models.settings import ModelSource
from rayopt.plugins import importable, locate
from rayopt.provenance import sources_of
from rayopt.records import Artifact

WEIGHTS = "weights.safetensors"
SHAPES = "model.json"

# What a layer knows of its own widths; structured pruning changes these along with the tensors.
WIDTH_ATTRIBUTES = (
    "in_channels", "out_channels", "groups", "num_channels", "num_features", "in_features", "out_features",
    "normalized_shape", "num_parameters", "embedding_dim", "embed_dim", "kdim", "vdim", "num_heads", "head_dim",
    "input_size", "hidden_size",
)  # fmt: skip


def build(source: ModelSource, seed: int) -> nn.Module:
    """The model as its factory makes it, with the job's weights if it names some; raises InputError."""
    settings = source.settings
    place = source.place("factory")
    with importable(source.folder):
        factory = locate(str(settings.factory), place)
        torch.manual_seed(seed)
        try:
            module = factory(**settings.args)
        except (Exception, SystemExit) as error:
            problem = f"{settings.factory} raised {type(error).__name__}: {error}"
            raise input_error(place, problem, "mend the factory or its `args`") from error
    if not isinstance(module, nn.Module):
        raise input_error(place, f"{settings.factory} returned {type(module).__name__}", "return a torch.nn.Module")
    if settings.weights is not None:
        _load_weights(module, source.path(settings.weights), source.place("weights"))
    return module.cpu().eval()


def to_artifact(module: nn.Module, notes: dict[str, Any] | None = None) -> Artifact:
    """The module's state, widths and masked tensors as files."""
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    widths = {name: _widths(layer) for name, layer in module.named_modules() if _widths(layer)}
    kept = {"masked": masked(module)} if masked(module) else {}
    shapes = json.dumps({"widths": widths, **kept}, sort_keys=True, indent=1)
    return Artifact("torch", {WEIGHTS: save(state), SHAPES: shapes.encode()}, notes or {})


def from_artifact(artifact: Artifact, source: ModelSource, seed: int) -> nn.Module:
    """The module of an artifact: what the factory makes, brought to the artifact's widths and state, in eval mode."""
    from safetensors.torch import load

    bare = replace(source, settings=source.settings.model_copy(update={"weights": None}))
    module = build(bare, seed)
    state = load(artifact.files[WEIGHTS])
    layers = dict(module.named_modules())
    shapes = json.loads(artifact.files[SHAPES])
    for name, widths in shapes["widths"].items():
        for attribute, value in widths.items():
            setattr(layers[name], attribute, tuple(value) if isinstance(value, list) else value)
    _reshape(module, state)
    module.load_state_dict(state)
    mask(module, shapes.get("masked", ()))
    return module.eval()


def fingerprint(source: ModelSource, module: nn.Module, example: Rows) -> str:
    """A hash of what the model is: factory and arguments, layers, initial state, outputs on `example`, source code.

    The code is the factory's module and what it imports from its own package or folder.
    """
    settings = source.settings
    total = hashlib.sha256(f"{settings.factory} {json.dumps(settings.args, sort_keys=True)}".encode())
    total.update(re.sub(" at 0x[0-9a-f]+", "", str(module)).encode())
    for name, tensor in module.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    total.update(np.round(run(module, example).astype(np.float64), 4).tobytes())
    with importable(source.folder):
        total.update(sources_of([str(settings.factory).partition(":")[0]]).sha256.encode())
    return total.hexdigest()


def _load_weights(module: nn.Module, path: Path, place: str) -> None:
    state = _read_state(path, place)
    own = module.state_dict()
    wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected or wrong:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)]
        listed = "; ".join(f"{word}: {', '.join(names[:3])}" for word, names in parts if names)
        raise input_error(place, f"{path.name} does not fit the model ({listed})", "check `args` and the weights file")
    module.load_state_dict(state)


def _read_state(path: Path, place: str) -> dict[str, torch.Tensor]:
    remedy = "save the state_dict with safetensors.torch.save_file"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        first = first.partition(". ")[0]
        raise input_error(
            place, f"{path.name} was refused: it does not load as plain tensors ({first})", remedy
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise input_error(place, f"{path.name} holds no state_dict of tensors", remedy)
    return state


def _widths(layer: nn.Module) -> dict[str, Any]:
    found = {name: getattr(layer, name, None) for name in WIDTH_ATTRIBUTES}
    return {name: value for name, value in found.items() if _is_width(value)}


def _is_width(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_width(one) for one in value)
    return isinstance(value, int) and not isinstance(value, bool)


def _reshape(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Replaces every tensor whose shape differs from the state's; tied parameters stay tied where they are equal."""
    replaced: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for layer_name, layer in module.named_modules():
        for name, tensor in _own_tensors(layer):
            wanted = state[f"{layer_name}.{name}" if layer_name else name]
            if tensor.shape == wanted.shape:
                continue
            twins = replaced.setdefault(id(tensor), [])
            new = next((new for content, new in twins if torch.equal(content, wanted)), None)
            if new is None:
                new = torch.empty_like(wanted)
                if isinstance(tensor, nn.Parameter):
                    new = nn.Parameter(new, tensor.requires_grad)
                twins.append((wanted, new))
            setattr(layer, name, new)  # not register_parameter: recurrent layers keep a list of their own


def _own_tensors(layer: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from list(layer.named_parameters(recurse=False, remove_duplicate=False))
    lasting = set(layer.state_dict(keep_vars=True))
    yield from [(name, buffer) for name, buffer in layer.named_buffers(recurse=False) if name in lasting]


def check(source: ModelSource, seed: int, example: Rows, wanted: tuple[int, ...] | None) -> nn.Module:
    """The built model, once it has been seen to give outputs of shape `wanted` (None: any) for each row of `example`.

    Raises InputError.
    """
    module = build(source, seed)
    place = source.place("factory")
    try:
        result = run(module, example)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"the model does not take this data of {told(example)} ({type(error).__name__}: {first})"
        raise input_error(place, problem, "check `args` against the data") from error
    if not isinstance(result, np.ndarray) or result.shape[:1] != (len(example),):
        what = result.shape if isinstance(result, np.ndarray) else type(result).__name__
        raise input_error(place, f"the model gives {what} for {len(example)} rows", "return one row for each")
    if wanted is not None and not fits(result.shape[1:], wanted):
        needed = (len(example), *wanted)
        raise input_error(place, f"the model gives {result.shape} for {len(example)} rows", f"the data needs {needed}")
    return module


def run(module: nn.Module, rows: Rows) -> Any:
    """The module's outputs for rows, as an array where they are one tensor."""
    if isinstance(rows, Columns):
        raise ValueError("it takes one array; models with several inputs can be given as an ONNX file")
    with torch.no_grad():
        result = module(torch.tensor(rows))
    if not isinstance(result, torch.Tensor):
        return result
    return (result.float() if result.dtype == torch.bfloat16 else result).numpy()  # numpy has no bfloat16


__all__ = ["build", "check", "fingerprint", "from_artifact", "run", "to_artifact"]
