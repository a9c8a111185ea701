"""Where a training of several workers runs: a group of Ray Train, kept warm from one training to the next."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from rayopt.errors import InputError, StepError, WorkError, input_error
from rayopt.onray import kept, parcel
from rayopt.onray.backend import OnRay, named_patience_s
from rayopt.onray.group import Done, Group, Joined, Raised, Reported, Shape, unwarned
from rayopt.onray.post import Order
from rayopt.onray.single import Single
from rayopt.training.loop import Trained, Work
from rayopt.training.seat import OnReport

LOOK_S = 0.03
IDLE_S = 30.0  # how long a group waits for the next training
TRIES = 3  # of groups in a row that get nowhere
log = logging.getLogger("rayopt")


class RayTrain:
    """A Host (see `training.seat`) on the Ray of the caller, on the one at `address`, or on one of its own.

    resources: what each worker asks for, one CPU where nothing is said; with a GPU each they exchange by NCCL.
    sharding: `ddp` copies the model to each worker, `fsdp` splits it among them.
    """

    def __init__(
        self, address: str | None = None, resources: Mapping[str, float] | None = None, sharding: str = "ddp"
    ) -> None:
        with unwarned():
            importing = threading.Thread(target=importlib.import_module, args=("ray.train.torch",))
            importing.start()
            self._backend = None if ray.is_initialized() else OnRay(address)
            importing.join()
        self._resources, self._sharding = resources, sharding
        self.name = f"Ray Train on {self._backend.name if self._backend else 'your Ray'}"

    def run(self, work: Work, workers: int | tuple[int, int], folder: Path, on_report: OnReport) -> Trained:
        """What `work.run(seat)` gives in the first of `workers` workers (or from one number to another, as there is
        room), each with a seat of its own.

        Workers whose process dies, and a controller that does, are replaced, and the work is taken up again from its
        newest checkpoint below `folder`, a place that all machines see. Raises InputError where the cluster cannot
        hold that many or the work cannot travel, WorkError where groups die again and again before a new checkpoint,
        and what the work itself raises.
        """
        if " " in sys.executable:  # Ray hands a worker with environment variables to a shell unquoted
            raise WorkError(f"Ray Train cannot start workers of {sys.executable}: its path has a space")
        from ray.train import TrainingFailedError

        shape = Shape.of(workers, self._resources)
        check_room(shape)
        reference = parcel.put(work)
        folder = folder.resolve()
        tries, reached = 0, ""
        while True:
            group = _hire(shape, folder)
            course = Course(group, group.order(reference, folder, self._sharding), on_report)
            try:
                ending = _fetched(course.follow())
                if not isinstance(ending, Raised | BaseException):
                    group.rest(IDLE_S)
                    if isinstance(group, Group):
                        kept.keep(group)
                    return ending  # type: ignore[no-any-return]
                if isinstance(ending, Raised):
                    raise _raised(ending)
            except BaseException:  # an interrupt as well: nobody must go on with what is given up
                group.end(at_once=True)
                raise
            group.end(at_once=True)
            if not isinstance(ending, RayError | TrainingFailedError):  # not of a process: it would come again
                raise ending
            tries = 1 if course.reached > reached else tries + 1
            reached = max(reached, course.reached)
            if tries >= TRIES:
                raise WorkError(f"the workers died {tries} times without getting any further: {_why(ending)}")
            log.info("the workers are started anew: %s", _why(ending))

    def close(self) -> None:
        """Ends a Ray of our own; on another one the workers wait a while for the next training."""
        if self._backend is not None:
            kept.dismiss()
            self._backend.close()
            self._backend = None


@dataclass
class Course:
    """An order under way in a group; `reached` is the newest checkpoint that it has told of."""

    group: Group | Single
    order: Order
    on_report: OnReport
    reached: str = ""

    def follow(self) -> Done | Raised | BaseException:
        """How the order ended, or why the group did before it."""
        while True:
            ending: Done | Raised | None = self.group.post.ending(self.order.number)
            self._hear()
            if ending is not None:
                return ending
            if not self.group.is_fit:
                return self.group.failure or WorkError("the workers went home")
            self.group.wait(LOOK_S)

    def _hear(self) -> None:
        for news in self.group.post.news(self.order.number):
            if isinstance(news, Joined):
                log.debug("%d workers are at work", news.world)
            elif isinstance(news, Reported):
                self.reached = max(self.reached, news.checkpoint)
                if self.on_report(news.metrics):
                    self.group.post.leave(f"stop/{self.order.number}", True)


def _hire(shape: Shape, storage: Path) -> Group | Single:
    """The group that waits, if it is of this shape and there still; else a new one, or the task of a single worker."""
    waiting = kept.take(Group)
    if waiting is not None:
        if waiting.shape == shape:
            waiting.rest(None)
            return waiting  # type: ignore[no-any-return]
        waiting.end()
    return Single(shape) if shape.is_one else Group(shape, storage)


def check_room(shape: Shape) -> None:
    """A cluster that cannot hold the workers would keep them waiting for ever, unless it grows by itself."""
    if named_patience_s():
        return
    room = shape.room()
    if room < shape.least:
        asks = ", ".join(f"{amount:g} {name}" for name, amount in shape.resources)
        raise input_error(
            "workers", f"{shape.least} workers of {asks} each, but the cluster has room for {room}",
            f"ask for {room} at most" if room else "ask for less for each of them",
        )  # fmt: skip


def _fetched(ending: Done | Raised | BaseException) -> Any:
    """What an order gave, where it is done: the worker that holds it may die just then. Else the ending itself."""
    if not isinstance(ending, Done):
        return ending
    try:
        return ray.get(ending.value)
    except RayError as error:
        return error


def _raised(ending: Raised) -> Exception:
    """What a worker raised, with its number where it is not of what was given to all."""
    log.debug("%s", ending.trace)
    if isinstance(ending.error, InputError):
        return ending.error
    kind = type(ending.error) if isinstance(ending.error, StepError) else WorkError
    return kind(f"{ending.error or ending.reason} (in worker {ending.rank})")


def _why(failure: BaseException) -> str:
    """The first telling line of how a group ended."""
    failures = getattr(failure, "worker_failures", None)
    if failures:
        rank, error = next(iter(failures.items()))
        failure = error
        return f"worker {rank}: {type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}"
    return f"{type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}"
