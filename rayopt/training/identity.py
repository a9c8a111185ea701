"""What a module that the caller has made is, as a hash: the same in every process that makes it in the same way."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

from torch import nn

from rayopt.models.settings import shown

PLAIN = (bool, int, float, str, type(None), list, tuple)


def identity(module: nn.Module) -> str:
    """A hash of its layers with their settings and numbers, and of the sources of the classes that are not torch's."""
    total = hashlib.sha256(shown(module).encode())
    for name, part in module.named_modules():
        settings = {key: shown(value) for key, value in vars(part).items() if _is_setting(key, value)}
        total.update(json.dumps([name, type(part).__qualname__, settings], sort_keys=True).encode())
        total.update(_source(type(part)).encode())
    for name, tensor in module.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().float().numpy().tobytes())
    return total.hexdigest()


def _is_setting(name: str, value: Any) -> bool:
    return isinstance(value, PLAIN) and name != "training"


def _source(kind: type) -> str:
    """The source of a class; empty of torch's own, which has a version, and where there is no file of it."""
    if kind.__module__.partition(".")[0] == "torch":
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
