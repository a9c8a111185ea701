"""What data parallelism adds to a worker's memory: buckets that stay, into which gradients go.

DDP's with `gradient_as_bucket_view`: a gradient that has been computed is copied into its place in a bucket and becomes
a view of it, but under `no_sync`, where it is added to what is there. Buckets live on while there are no gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Bucketed(nn.Module):
    """A module whose gradients go into one bucket, as its worker would have them; nothing is exchanged."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self._gathers = module, True
        trained = [one for one in module.parameters() if one.requires_grad]
        for one, place in zip(trained, _places(trained), strict=True):
            one.register_post_accumulate_grad_hook(self._moved_to(place))  # type: ignore[no-untyped-call]

    def forward(self, *args: Any) -> Any:
        return self.module(*args)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        self._gathers = False
        try:
            yield
        finally:
            self._gathers = True

    def _moved_to(self, place: Tensor) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if self._gathers:
                place.copy_(parameter.grad)  # type: ignore[arg-type]  # it has one: the hook comes after it
                parameter.grad = place

        return hook


def _places(parameters: list[nn.Parameter]) -> list[Tensor]:
    """A view for each parameter, of one bucket for each type of numbers."""
    found = []
    buckets: dict[tuple[torch.dtype, torch.device], tuple[Tensor, int]] = {}
    for one in parameters:
        kind = (one.dtype, one.device)
        if kind not in buckets:
            size = sum(other.numel() for other in parameters if (other.dtype, other.device) == kind)
            buckets[kind] = torch.zeros(size, dtype=one.dtype, device=one.device), 0
        bucket, start = buckets[kind]
        found.append(bucket[start : start + one.numel()].view(one.shape))
        buckets[kind] = bucket, start + one.numel()
    return found
