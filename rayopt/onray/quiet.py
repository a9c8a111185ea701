"""Ray Tune says nothing and keeps nothing of its own while the context lasts."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

WANTED = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # trials stay in the folder in which the search was started
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "3600",
}


@contextlib.contextmanager
def quiet_tune() -> Iterator[None]:
    """What the environment says already stays as it is."""
    mine = {name: value for name, value in WANTED.items() if name not in os.environ}
    os.environ.update(mine)
    log = logging.getLogger("ray.tune")
    level = log.level
    log.setLevel(logging.CRITICAL)  # that a trial died is told by the search
    try:
        yield
    finally:
        log.setLevel(level)
        for name in mine:
            os.environ.pop(name, None)
