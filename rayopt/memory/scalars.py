"""What a traced step is told when it asks a tensor without data for its value: whether a loss is finite, say.

Tensors of one element are computed beside the trace, from zeros: a loss is finite. Whole numbers are what shapes
may depend on, so there is no answer that would not be a guess: asking for one raises Untraceable.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map

ASKS = (torch.ops.aten._local_scalar_dense.default,)


class Untraceable(RuntimeError):  # noqa: N818  as torch's own for control flow: a fact about the step, not a fault
    """The step depends on the values of its data."""


class Scalars:
    """The values of one-element tensors, by the tensors' storages."""

    def __init__(self) -> None:
        self._values: dict[int, Tensor] = {}

    def answer(self, asked: Tensor) -> bool | float:
        """The value of a tensor of one element."""
        if not (asked.is_floating_point() or asked.dtype == torch.bool):
            raise Untraceable(f"asks for the value of a tensor of {asked.dtype}, which depends on the data")
        with unset_fake_temporarily():
            value: bool | float = self._of(asked).item()
        return value

    def follow(self, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Computes beside the trace what an operator makes of, or does to, one-element tensors."""
        given, made = _tensors((args, kwargs)), _tensors(out)
        touched = [*given, *made]
        if not touched or any(one.numel() != 1 for one in made):
            return
        with unset_fake_temporarily():
            if any(one.numel() != 1 for one in given) or not self._compute(function, args, kwargs, given, made):
                self._guess(function, made)

    def drop(self, key: int) -> None:
        """Forgets a storage that was freed."""
        self._values.pop(key, None)

    def _compute(self, function: Any, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor]) -> bool:
        """Runs the operator on the values and keeps what it made and what it changed; False where it cannot."""
        copies: dict[int, Tensor] = {id(one): self._of(one).clone() for one in given}
        args, kwargs = tree_map(lambda leaf: copies.get(id(leaf), _on_cpu(leaf)), (args, kwargs))
        try:
            results = _tensors(function(*args, **kwargs))
        except (RuntimeError, NotImplementedError, TypeError):
            return False
        for one, value in zip([*given, *made], [*copies.values(), *results], strict=False):
            self._values[_key(one)] = torch.nan_to_num(value, 1.0, 1.0, 1.0) if value.is_floating_point() else value
        return True

    def _guess(self, function: Any, made: list[Tensor]) -> None:
        """Of many elements: all are finite, none is not; every sum is 0."""
        for one in made:
            self._values[_key(one)] = torch.full((), one.dtype == torch.bool and "any" not in str(function)).to(
                one.dtype
            )

    def _of(self, one: Tensor) -> Tensor:
        if not isinstance(one, FakeTensor):
            return one.detach()
        known = self._values.get(_key(one), one.constant)
        if known is None or known.dtype != one.dtype or known.numel() != 1:
            return torch.zeros(one.shape, dtype=one.dtype)
        return known.reshape(one.shape)


def _tensors(tree: Any) -> list[Tensor]:
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())


def _on_cpu(leaf: Any) -> Any:
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _key(one: Tensor) -> int:
    return int(one.untyped_storage()._cdata)
