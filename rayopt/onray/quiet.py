"""Ray's own libraries say nothing, and find their settings, while the context lasts."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping

TUNE = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # trials stay in the folder in which the search was started
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "3600",
}


@contextlib.contextmanager
def quieted(library: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of `ray.tune` or `ray.train`, by environment variable; what the environment says already stays.

    That a trial or a worker died is told by who asked for it, not by the library's log.
    """
    mine = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        with hushed(library, level=logging.CRITICAL):
            yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextlib.contextmanager
def hushed(*names: str, level: int = logging.ERROR) -> Iterator[None]:
    """The loggers of these names say nothing below the level."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(level)
    try:
        yield
    finally:
        for one, before in zip(loggers, levels, strict=True):
            one.setLevel(before)


def quiet_tune() -> contextlib.AbstractContextManager[None]:
    return quieted("ray.tune", TUNE)
