"""Runtime environments as Ray itself reads them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rayopt.errors import input_error


def check_environment(data: Mapping[str, Any], place: str) -> None:
    """Raises InputError at `place` for what Ray does not take, which it would say only when a job is sent."""
    from ray.runtime_env import RuntimeEnv

    try:
        RuntimeEnv(**copy.deepcopy(dict(data)))
    except (ValueError, TypeError, OSError) as error:
        said = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise input_error(place, f"is not a runtime environment: {said.splitlines()[0]}", "mend it") from error
