"""A crew that is being called while the search goes on without it.

Nothing of it may outlive the search: a thread that asks Ray for something after its caller has ended it would start
another one, or end this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rayopt.errors import WorkError
from rayopt.search.crew import Crew

IsWanted = Callable[[], bool]
Open = Callable[[IsWanted], Crew]
LEAVE_S = 120.0  # longer than a Ray takes to start, or to say that it does not


class Hire:
    """Opens a crew in a thread of its own, which lasts as long as the crew.

    Linux ends the processes of a Ray when the thread that has started them ends, not the process. `open_crew` may ask
    between two steps whether it is wanted still.
    """

    def __init__(self, open_crew: Open) -> None:
        self._start = time.monotonic()
        self.crew: Crew | None = None
        self.error: BaseException | None = None
        self.is_told = False
        self._open_crew = open_crew
        self._closed = False
        self._lock, self._over, self._is_known = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            crew = self._open_crew(lambda: not self._closed)
        except BaseException as error:  # noqa: BLE001 - the search goes on without them, or raises it
            self.error = error
            self._is_known.set()
            return
        with self._lock:
            self.crew = crew
            self._is_known.set()
            if self._closed:
                crew.close()
                return
        self._over.wait()

    def awaited(self, seconds: float) -> bool:
        """Waits until the crew is there or cannot be had, for so long; whether either is so."""
        return self._is_known.wait(seconds)

    def joined(self) -> float:
        """Seconds from the call until now."""
        return time.monotonic() - self._start

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self.crew is not None:
                self.crew.close()
        self._over.set()

    def wait(self, seconds: float = LEAVE_S) -> bool:
        """Waits until one that was closed, perhaps before it came, has gone; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


def unwanted() -> WorkError:
    """What is raised by one who sees that it is not wanted any more."""
    return WorkError("the search was over before they came")
