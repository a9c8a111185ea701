"""A group of Ray Train workers that takes orders until it is sent home: one start serves many trainings.

Ray Train replaces workers whose process dies; what they were at is then taken up again from its newest checkpoint.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from rayopt.backend import describe, trace
from rayopt.errors import RayoptError, WorkError
from rayopt.onray.nodes import Nodes
from rayopt.onray.post import RUN, Order, Post
from rayopt.onray.quiet import quieted
from rayopt.onray.reserved import forget_the_dead
from rayopt.onray.session import is_here, session

LIVES = 3  # how often Ray Train starts the workers of one fit anew
POLL_S = 0.5  # of the controller; a report's queue holds one, so that reports once a second never wait for it
GOODBYE_S = 15.0
LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|process group|broken pipe", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """What a group is made of: `workers` of them, or from one number to another as the cluster has room."""

    workers: int | tuple[int, int]
    resources: tuple[tuple[str, float], ...] = (("CPU", 1.0),)

    @classmethod
    def of(cls, workers: int | tuple[int, int], resources: Mapping[str, float] | None = None) -> Shape:
        return cls(workers, tuple(sorted({"CPU": 1.0, **(resources or {})}.items())))

    @property
    def least(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def is_one(self) -> bool:
        return self.workers in (1, (1, 1))

    @property
    def has_gpu(self) -> bool:
        return dict(self.resources).get("GPU", 0) > 0

    @property
    def backend(self) -> str:
        """What the workers exchange tensors by."""
        return "nccl" if self.has_gpu else "gloo"

    def room(self) -> int:
        """How many workers of this kind the nodes that are alive could hold, busy or not."""
        asked = [(name, amount) for name, amount in self.resources if amount > 0]
        return sum(int(min(node.resources.get(name, 0) / amount for name, amount in asked)) for node in Nodes().alive())


@dataclass(frozen=True)
class Joined:
    """The workers are there, and start on an order."""

    world: int


@dataclass(frozen=True)
class Reported:
    """A worker's metrics; `checkpoint` is the name of the one written with them, empty where there is none."""

    metrics: Mapping[str, float]
    checkpoint: str


@dataclass(frozen=True)
class Done:
    """An order is done; `value` is a reference."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """An order raised in one of the workers."""

    rank: int
    reason: str
    trace: str
    error: RayoptError | None


class Group:
    """The driver's end: the thread in which the trainer runs, and its letters."""

    def __init__(self, shape: Shape, storage: Path) -> None:
        self.shape = shape
        self._session = session()
        self.post = Post(secrets.token_hex(6))
        self.failure: BaseException | None = None
        with unwarned():
            forget_the_dead()
            self._trainer = _trainer(self.post, shape, storage)
        self._count = 0
        self._idle: threading.Timer | None = None
        self._is_closed = False
        self._fit = threading.Thread(target=self._run, daemon=True, name="train")
        self._fit.start()

    @property
    def is_fit(self) -> bool:
        return not self._is_closed and is_here(self._session) and self._fit.is_alive()

    def order(self, work: Any, folder: Path, sharding: str) -> Order:
        """Gives the group something to do; `work` is a reference, which the caller keeps until it is done."""
        self._count += 1
        order = Order(self._count, work, folder, sharding)
        self.post.order(order)
        return order

    def rest(self, limit_s: float | None) -> None:
        """Lets the group wait for its next order, for `limit_s` at most; None: it waits no more."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = None
        if limit_s is not None:
            self._idle = threading.Timer(limit_s, self.end)
            self._idle.daemon = True
            self._idle.start()

    def wait(self, timeout_s: float) -> None:
        """Waits for the end of the group, for `timeout_s` at most."""
        self._fit.join(timeout_s)

    def end(self, at_once: bool = False) -> None:
        """Sends the workers home; `at_once`: in the middle of what they do."""
        if self._is_closed:
            return
        self._is_closed = True
        self.rest(None)
        if not is_here(self._session):
            return
        with contextlib.suppress(Exception):  # a cluster that is gone has forgotten by itself
            self.post.close()
            controller = self.post.found("controller")
            if at_once and controller is not None and self._fit.is_alive():
                controller.abort.remote()
            self._fit.join(GOODBYE_S)
            if self._fit.is_alive() and controller is not None:
                ray.kill(controller)
            self.clear()
            self.post.burn()

    def clear(self) -> None:
        """Gives back what the workers of a controller that is gone still hold: nobody else does so at once."""
        from ray.util import remove_placement_group

        place = self.post.found("place")
        if place is not None:
            remove_placement_group(place)

    def _run(self) -> None:
        try:
            with quieted("ray.train", _settings()):
                self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - it is raised where the group is waited for
            self.failure = error
        if not self._is_closed and self.failure is None:
            self.failure = WorkError("the workers went home before their work was done")


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Ray uses parts of itself that it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _settings() -> dict[str, str]:
    """What Ray Train reads from the environment when it starts."""
    wanted = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    }
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) == 1:  # it would watch for the loss of this machine, and take two seconds of CPU from the first steps
        wanted["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    return wanted


def name_of(storage: Path) -> str:
    """What Ray calls the trainings whose checkpoints lie there: the run's name is its folder's."""
    return "-".join(storage.parts[-2:]).strip("/")


def _trainer(post: Post, shape: Shape, storage: Path) -> Any:
    from ray.data import DataContext
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

    DataContext.get_current()  # is made where its warnings are not heard

    class Known(ControllerCallback):
        """Leaves the controller's handle where the driver finds it, to be able to end it in the middle of something."""

        def after_controller_start(self, train_run_context: Any) -> None:
            post.leave("controller", ray.get_runtime_context().current_actor)
            post.leave(RUN, train_run_context.run_id)

    resources = dict(shape.resources)
    callbacks: list[Any] = [Known()]  # more than the public kind of callbacks is taken
    return TorchTrainer(
        serve,
        train_loop_config={"post": post, "cpus": resources.get("CPU", 1.0)},
        torch_config=TorchConfig(backend=shape.backend),
        scaling_config=ScalingConfig(num_workers=shape.workers, use_gpu=shape.has_gpu, resources_per_worker=resources),
        run_config=RunConfig(  # type: ignore[arg-type]
            name=name_of(storage),
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=LIVES, controller_failure_limit=LIVES),
            callbacks=callbacks,
        ),
    )


def serve(config: dict[str, Any]) -> None:
    """What a worker does: orders one after another, until it is told that there are none any more."""
    import ray.train
    import torch
    from ray.util import get_current_placement_group

    from rayopt.onray.seat import RaySeat

    torch.set_num_threads(max(1, int(config["cpus"])))
    post: Post = config["post"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    if rank == 0:
        post.leave("place", get_current_placement_group())
    number, kept = 0, None
    while (order := post.next_order(number)) is not None:
        number, kept = order.number, None
        try:
            if rank == 0:
                post.tell(number, Joined(context.get_world_size()))
            value = ray.get(order.work).run(RaySeat(post, order))
            if rank == 0:
                kept = ray.put(value)  # it is held here until the next order: until the driver has it
                post.end(number, Done(kept))
        except Exception as error:
            if _is_loss(error):  # of another worker: Ray Train sees that, and replaces it
                raise
            known = error if isinstance(error, RayoptError) else None
            post.end(number, Raised(rank, describe(error), trace(), known))
            threading.Event().wait()  # the others may hang in an exchange with this one: the driver ends the group


def _is_loss(error: BaseException) -> bool:
    """Whether an exchange with another worker failed, and not what is done in this one; or what it was raised from."""
    import torch.distributed as dist

    if error.__cause__ is not None:
        return _is_loss(error.__cause__)
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(LOST.search(str(error))))
