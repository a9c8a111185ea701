"""Weights of torch models quantised in place, and the packed safetensors file that holds them in their few bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from rayopt.compress import packing
from rayopt.compress.weights import FLOAT32_MAX, Codes, Plan, check_finite, quantize
from rayopt.errors import StepError, input_error

FORMAT = "rayopt packed weights 1"
TIED = "tied to"


def quantize_weights(target: nn.Module | Mapping[str, Tensor], plan: Plan) -> dict[str, Codes]:
    """Replaces each weight by its nearest of few values, in place; gives the codes by name.

    Weights are parameters, or tensors of a state_dict, of floating type with two dimensions or more: no biases, norms,
    whole numbers or buffers. Tied ones are quantised once and stay tied. A tensor is as large as before; `pack` makes
    it small. Raises StepError for NaN or infinite weights, and where nothing was quantised.
    """
    found = _weights(target)
    bits = plan.bits_of({name: [name] for name in found})
    chosen = {name: tensor for name, tensor in found.items() if bits[name] and tensor.numel() >= max(1, plan.min_size)}
    if not chosen:
        raise StepError(f"no weights were quantised: {_why_none(found, plan)}")
    axes = _channel_axes(target)
    arrays = {name: usable(name, tensor) for name, tensor in chosen.items()}  # all are checked before one is changed
    codes = {}
    for name, tensor in chosen.items():
        limit = min(FLOAT32_MAX, torch.finfo(tensor.dtype).max)
        own = (axes.get(name, 0),) if plan.per_channel else ()
        codes[name] = quantize(arrays[name], bits[name], own, plan.symmetric, limit)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(codes[name].decoded()))
    return codes


def pack(target: nn.Module | Mapping[str, Tensor], codes: Mapping[str, Codes]) -> bytes:
    """A safetensors file of the whole state, the tensors of `codes` in their few bits, tied tensors once.

    Raises StepError where a tensor has changed since it was quantised.
    """
    from safetensors.torch import save

    state = target.state_dict(keep_vars=True) if isinstance(target, nn.Module) else target
    tensors: dict[str, Tensor] = {}
    about: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name in sorted(state, key=lambda name: name not in codes):  # the name that has codes is the one to be tied to
        tensor = state[name].detach()
        twin = first.setdefault(_identity(name, tensor), name)
        if twin != name:
            about[name] = f"{TIED} {twin}"
        elif name in codes:
            tensors |= _packed(name, tensor, codes[name])
            about[name] = _described(tensor, codes[name])
        else:
            _refuse_meta(name, tensor)
            tensors[name] = tensor.cpu().contiguous().clone()
    return bytes(save(tensors, metadata={FORMAT: json.dumps(about)}))  # of several keys the order would be by chance


def unpack(content: bytes, place: str = "the packed file") -> dict[str, Tensor]:
    """The state_dict of a packed file, each tensor exactly as it was packed; raises InputError naming `place`."""
    from safetensors.torch import load

    try:
        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][FORMAT])
        tensors = load(content)
        parts = {f"{name}{part}" for name in about for part in ("", ":scale", ":zero")}
        state = {name: tensor for name, tensor in tensors.items() if name not in parts}
        state |= {name: _unpacked(name, tensors, how) for name, how in about.items() if not how.startswith(TIED)}
        return state | {name: state[how[len(TIED) + 1 :]] for name, how in about.items() if how.startswith(TIED)}
    except Exception as error:
        problem = f"is no whole file of packed weights ({type(error).__name__}: {error})"
        raise input_error(place, problem, "write it again with ModelCompressor.save") from error


def usable(name: str, tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor's float32 values; raises StepError naming it where it has none, or NaN or infinite ones."""
    _refuse_meta(name, tensor)
    array: np.ndarray[Any, Any] = tensor.detach().float().cpu().numpy()
    check_finite(name, array)
    return array


def _refuse_meta(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise StepError(f"{name} lies on the `meta` device and has no values; load the weights first")


def _weights(target: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, tied ones under their first name alone."""
    named = target.named_parameters() if isinstance(target, nn.Module) else target.items()
    found, seen = {}, set()
    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.ndim < 2 or tensor.element_size() < 2:
            continue
        _refuse_meta(name, tensor)
        if _identity(name, tensor) not in seen:
            seen.add(_identity(name, tensor))
            found[name] = tensor
    return found


def _identity(name: str, tensor: Tensor) -> Any:
    """Equal for tensors that share their memory whole."""
    if tensor.is_meta or not tensor.numel():
        return name
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _channel_axes(target: nn.Module | Mapping[str, Tensor]) -> dict[str, int]:
    """The axis of the output channels by parameter, where it is not the first."""
    if not isinstance(target, nn.Module):
        return {}
    return {
        f"{name}.weight" if name else "weight": 1
        for name, layer in target.named_modules()
        if isinstance(layer, _ConvTransposeNd)
    }


def _packed(name: str, tensor: Tensor, codes: Codes) -> dict[str, Tensor]:
    if not torch.equal(tensor.cpu(), torch.from_numpy(codes.decoded()).to(tensor.dtype)):
        raise StepError(f"{name} has changed since it was quantised; quantise it again before it is saved")
    planes = np.concatenate(packing.pack(codes.values, codes.bits))
    parts = {name: torch.from_numpy(planes), f"{name}:scale": torch.from_numpy(codes.scale)}
    if not codes.symmetric:
        kind = np.uint8 if codes.bits <= 8 else np.uint16
        parts[f"{name}:zero"] = torch.from_numpy(codes.zero.astype(kind))
    return parts


def _described(tensor: Tensor, codes: Codes) -> str:
    """What the file's header says of a packed tensor, such as `3 symmetric float32 16 8 3 3`."""
    kind = "symmetric" if codes.symmetric else "asymmetric"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return " ".join([str(codes.bits), kind, dtype, *map(str, tensor.shape)])


def _unpacked(name: str, tensors: Mapping[str, Tensor], described: str) -> Tensor:
    width, kind, dtype, *sizes = described.split()
    bits, shape = int(width), [int(size) for size in sizes]
    count = int(np.prod(shape, dtype=np.int64))
    planes = packing.split(tensors[name].numpy(), bits, count)
    values = packing.unpack(planes, bits, count).reshape(shape)
    scale = tensors[f"{name}:scale"].numpy()
    half = np.full_like(scale, 2 ** (bits - 1))
    zero = half if kind == "symmetric" else tensors[f"{name}:zero"].numpy().astype(np.float32)
    decoded = Codes(values, scale, zero, bits, kind == "symmetric").decoded()
    return torch.from_numpy(decoded).to(getattr(torch, dtype))


def _why_none(found: Mapping[str, Tensor], plan: Plan) -> str:
    if not found:
        return "the model has no weights of floating type with two dimensions or more"
    largest = max(tensor.numel() for tensor in found.values())
    return f"the largest of {len(found)} has {largest}, and `min_size` {plan.min_size} or `layers` leaves all in float"
