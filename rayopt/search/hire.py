"""A crew that is being called while the search goes on without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rayopt.search.crew import Crew


class Hire:
    """Opens a crew in a thread of its own, which lasts as long as the crew.

    Linux ends the processes of a Ray when the thread that has started them ends, not the process.
    """

    def __init__(self, open_crew: Callable[[], Crew]) -> None:
        self._start = time.monotonic()
        self.crew: Crew | None = None
        self.error: BaseException | None = None
        self.is_told = False
        self._open_crew = open_crew
        self._closed = False
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            crew = self._open_crew()
        except BaseException as error:  # noqa: BLE001 - the search goes on without them, or raises it
            self.error = error
            return
        with self._lock:
            self.crew = crew
            if self._closed:
                crew.close()
                return
        self._over.wait()

    def joined(self) -> float:
        """Seconds from the call until now."""
        return time.monotonic() - self._start

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self.crew is not None:
                self.crew.close()
        self._over.set()

    def wait(self) -> None:
        """Until one that was closed before it came has come and gone: a Ray must not be there while another starts."""
        self._thread.join()
