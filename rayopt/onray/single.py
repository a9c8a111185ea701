"""The only worker of a training on a cluster: a task, with the face of a group; nobody waits for another training."""

from __future__ import annotations

import contextlib
import secrets
import traceback
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from rayopt.backend import describe
from rayopt.errors import RayoptError
from rayopt.onray.group import Done, Raised, Shape
from rayopt.onray.post import Order, Post


class Single:
    """See `onray.group.Group`; takes one order."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.post = Post(secrets.token_hex(6))
        self.failure: BaseException | None = None
        self._task: Any = None
        self._is_over = False

    @property
    def is_fit(self) -> bool:
        return not self._is_over

    def order(self, work: Any, folder: Path, sharding: str) -> Order:
        order = Order(1, work, folder, sharding)
        asked = dict(self.shape.resources)
        cpus, gpus = asked.pop("CPU", 1.0), asked.pop("GPU", 0)
        task = ray.remote(_serve).options(  # a worker that dies is replaced by who follows it
            num_cpus=cpus, num_gpus=gpus, resources=asked or None, max_retries=0, name="train"
        )
        self._task = task.remote(self.post, order, max(1, int(cpus)))
        return order

    def rest(self, limit_s: float | None) -> None: ...

    def wait(self, timeout_s: float) -> None:
        """Waits for the end of the task, for `timeout_s` at most."""
        ended, _ = ray.wait([self._task], timeout=timeout_s)
        if not ended:
            return
        try:
            if ray.get(self._task) is not None:  # else a letter says why
                self.post.end(1, Done(self._task))
        except RayError as error:
            self.failure = error
        self._is_over = self.failure is not None

    def end(self, at_once: bool = False) -> None:
        self._is_over = True
        with contextlib.suppress(Exception):  # a cluster that is gone has forgotten by itself
            ray.cancel(self._task, force=True)
            self.post.burn()


def _serve(post: Post, order: Order, threads: int) -> Any:
    """What the work gives; what it raises is in a letter."""
    import torch

    from rayopt.onray.seat import PostSeat

    torch.set_num_threads(threads)
    try:
        return ray.get(order.work).run(PostSeat(post, order))
    except Exception as error:  # noqa: BLE001 - it is raised in the driver
        known = error if isinstance(error, RayoptError) else None
        post.end(order.number, Raised(0, describe(error), traceback.format_exc(), known))
        return None
