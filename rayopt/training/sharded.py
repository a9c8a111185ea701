"""The state of a model that is split among workers (FSDP2): whole for files, in parts to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(module: nn.Module) -> bool:
    return any(isinstance(one, DTensor) for one in module.parameters())


def whole(state: Any) -> Any:
    """Nested dicts and lists with each split tensor put together; all workers must ask for it."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    return [whole(value) for value in state] if isinstance(state, list | tuple) else state


def like(own: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, or this worker's part of it where `own` is a part."""
    if not isinstance(own, DTensor):
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def like_all(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: like(own[name], value) if name in own else value for name, value in values.items()}


def optimizer_like(groups: list[dict[str, Any]], state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's whole state with what has a parameter's shape split as that parameter is."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    parts = {
        number: {
            name: like(parameters[int(number)], value)
            if isinstance(value, Tensor) and value.shape == parameters[int(number)].shape
            else value
            for name, value in one.items()
        }
        for number, one in state["state"].items()
    }
    return {**state, "state": parts}
