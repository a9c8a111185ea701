"""A step's memory without running it: every storage that its operators would make, from its birth to its end.

The operators run on FakeTensors, which have shapes and no data. What lives is counted by storage, so views cost nothing
and a tensor that autograd has saved lives as long as autograd holds it. (The idea is that of torch's own mem_tracker;
here every event is kept, so that a snapshot of the peak and a line through two traces can be made of them.)
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from rayopt.memory.scalars import ASKS, Scalars

BACKWARD, OPTIMIZER, FORWARD = "backward", "optimizer", "forward"


@dataclass
class Storage:
    """A block of memory: its bytes, between which events it lives, and where in the step it was made."""

    size_bytes: int
    birth: int
    phase: str
    module: str
    kind: str = ""
    death: int | None = None


@dataclass(frozen=True)
class Call:
    """An operator that may take scratch memory inside: what it was called with, and its place among the events."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    at: int


@dataclass
class Trace:
    """All events of a step: `events[i]` is a label and the bytes that it adds."""

    events: list[tuple[str, int]] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    flops: int = 0
    operators_count: int = 0
    moved_bytes: int = 0


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators make while it is entered, and asks `modules` which part makes them."""

    def __init__(self, element_bytes: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.phase, self.module = BACKWARD, ""
        self._block = element_bytes
        self._known: dict[int, Storage] = {}
        self._scalars = Scalars()

    def add(self, tensor: Tensor, kind: str = "") -> None:
        """Counts a tensor's storage if it is new, and says what it is if that is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._known.get(key)
        if known is None:
            size = -(-storage.nbytes() // self._block) * self._block
            known = Storage(size, len(self.trace.events), self.phase, self.module)
            self._known[key] = known
            self.trace.storages.append(known)
            self.trace.events.append(("new", size))
            weakref.finalize(storage, self._free, key).atexit = False
        if kind:
            known.kind = kind

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in ASKS:
            return self._scalars.answer(args[0])
        if function.namespace != "aten" and function.namespace in ("prim", "profiler"):
            return function(*args, **kwargs)
        trace = self.trace
        view = _is_view(function)
        if not view:
            trace.calls.append(Call(function, *_described(args, kwargs), len(trace.events)))
            trace.events.append((str(function), 0))
        out = function(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for one in tensors:
            self.add(one)
        if not view:
            trace.operators_count += 1
            trace.moved_bytes += sum(one.nbytes for one in tensors)
            trace.moved_bytes += sum(one.nbytes for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor))
            count = flop_registry.get(function) or flop_registry.get(function._overloadpacket)
            trace.flops += count(*args, **kwargs, out_val=out) if count else 0
        self._scalars.follow(function, args, kwargs, out)
        return out

    def close(self) -> None:
        """From now on nothing is counted: what dies later does so whenever it is collected."""
        self._known.clear()

    def _free(self, key: int) -> None:
        known = self._known.pop(key, None)
        if known is None:
            return
        known.death = len(self.trace.events)
        self.trace.events.append(("free", -known.size_bytes))
        self._scalars.drop(key)


@dataclass(frozen=True)
class Shape:
    """A tensor as an operator sees it: enough to make another one like it."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _described(args: Any, kwargs: Any) -> tuple[Any, Any]:
    described: tuple[Any, Any] = torch.utils._pytree.tree_map(_shape_of, (args, kwargs))
    return described


def _shape_of(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return Shape(tuple(leaf.shape), tuple(leaf.stride()), leaf.dtype, leaf.device)


@cache
def _is_view(function: Any) -> bool:
    returns = function._schema.returns
    return bool(returns) and all(one.alias_info is not None and not one.alias_info.is_write for one in returns)


@contextmanager
def tracing(element_bytes: int = 1) -> Iterator[Tracer]:
    """Within it tensors have no data, and what operators make is counted."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # when a cycle is collected must not depend on what else this process does
    fakes, tracer = FakeTensorMode(allow_non_fake_inputs=True), Tracer(element_bytes)
    complaints = logging.getLogger("torch._subclasses.fake_tensor")
    complains, complaints.disabled = complaints.disabled, True  # a step that fails is told of by whoever traces it
    try:
        with fakes, tracer, _counting_random_states(tracer):
            yield tracer
    finally:
        complaints.disabled = complains
        tracer.close()
        if was_enabled:
            gc.enable()


@contextmanager
def _counting_random_states(tracer: Tracer) -> Iterator[None]:
    """Checkpointed parts keep the generator's state, which no operator makes."""

    def counted() -> Tensor:
        state = original()
        tracer.add(state)
        return state

    original = torch.get_rng_state
    torch.get_rng_state = torch.random.get_rng_state = counted
    try:
        yield
    finally:
        torch.get_rng_state = torch.random.get_rng_state = original


def watch(module: nn.Module, optimizer: torch.optim.Optimizer, tracer: Tracer) -> None:
    """Tells the tracer what the model's tensors are, and by hooks which part and phase an operator belongs to."""
    open_parts: list[tuple[str, str]] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            open_parts.append((tracer.phase, tracer.module))
            tracer.phase, tracer.module = FORWARD if tracer.phase != OPTIMIZER else OPTIMIZER, name

        return hook

    def leave(*_: Any) -> None:
        if open_parts:
            tracer.phase, tracer.module = open_parts.pop()

    def begin(*_: Any) -> None:
        tracer.phase, tracer.module = OPTIMIZER, ""

    def end(*_: Any) -> None:
        tracer.phase = BACKWARD
        for state in optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    tracer.add(value, "optimizer")

    def added(one: Tensor) -> None:
        if one.grad is not None:
            tracer.add(one.grad, "gradients")

    for kind, tensors in (("weights", module.parameters()), ("buffers", module.buffers())):
        for one in tensors:
            tracer.add(one, kind)
    for name, part in module.named_modules():
        part.register_forward_pre_hook(enter(name))
        part.register_forward_hook(leave, always_call=True)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(added)  # type: ignore[no-untyped-call]
    optimizer.register_step_pre_hook(begin)
    optimizer.register_step_post_hook(end)
