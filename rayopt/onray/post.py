"""Letters between a driver and the workers of a group, kept by the cluster itself: they outlive workers and controller.

No process more is needed for them, and a letter of a hundred bytes takes half a millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

from rayopt.onray.limits import NAMESPACE

LOOK_S = 0.02
CLOSED = b"closed"


def dumps(value: Any) -> bytes:
    """As Ray pickles, which knows references and handles."""
    content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return content


RUN = "run"  # the letter that says what Ray calls the training of a group


@dataclass(frozen=True)
class Order:
    """What a group is to do next. `work` is a reference to something with `run(seat)`; `folder` is seen by all."""

    number: int
    work: Any
    folder: Path
    sharding: str


@dataclass(frozen=True)
class Post:
    """The letters of one group, by its name among all groups of the cluster."""

    group: str

    def order(self, order: Order) -> None:
        self._put("order", dumps(order))

    def close(self) -> None:
        self._put("order", CLOSED)

    def next_order(self, after: int) -> Order | None:
        """Waits for an order with a number above `after`; None when there will be none."""
        while True:
            content = self._get("order")
            if content == CLOSED:
                return None
            if content is not None:
                order: Order = cloudpickle.loads(content)
                if order.number > after and self.ending(order.number) is None:
                    return order
            time.sleep(LOOK_S)

    def tell(self, number: int, news: Any) -> None:
        """News about order `number`, in the order in which they are told."""
        self._put(f"news/{number}/{time.time_ns():020d}", dumps(news))

    def news(self, number: int) -> Iterator[Any]:
        """What has been told of an order since it was last asked."""
        for key in sorted(_internal_kv_list(self._key(f"news/{number}/"), namespace=NAMESPACE)):
            content = _internal_kv_get(key, namespace=NAMESPACE)
            _internal_kv_del(key, namespace=NAMESPACE)
            if content is not None:
                yield cloudpickle.loads(content)

    def end(self, number: int, ending: Any) -> None:
        """How order `number` ended; the first word counts."""
        _internal_kv_put(self._key(f"ended/{number}"), dumps(ending), overwrite=False, namespace=NAMESPACE)

    def ending(self, number: int) -> Any:
        content = self._get(f"ended/{number}")
        return None if content is None else cloudpickle.loads(content)

    def leave(self, name: str, value: Any) -> None:
        """Something that the driver may look for, such as a handle."""
        self._put(name, dumps(value))

    def found(self, name: str) -> Any:
        content = self._get(name)
        return None if content is None else cloudpickle.loads(content)

    def burn(self) -> None:
        """All letters go but the one that says that there will be no more: a late worker may still look for it."""
        for part in ("news/", "ended/", "stop/", "controller", "place", RUN):
            _internal_kv_del(self._key(part), del_by_prefix=True, namespace=NAMESPACE)

    @classmethod
    def with_runs(cls) -> Iterator[Post]:
        """The posts of the cluster whose letters were not burnt: of groups that work, and of dead ones."""
        for key in _internal_kv_list(b"train/", namespace=NAMESPACE):
            _, group, name = key.decode().split("/", 2)
            if name == RUN:
                yield cls(group)

    def _put(self, name: str, content: bytes) -> None:
        _internal_kv_put(self._key(name), content, namespace=NAMESPACE)

    def _get(self, name: str) -> bytes | None:
        content: bytes | None = _internal_kv_get(self._key(name), namespace=NAMESPACE)
        return content

    def _key(self, name: str) -> bytes:
        return f"train/{self.group}/{name}".encode()
