"""Which Ray this process is connected to: handles of one are of no use in another."""

from __future__ import annotations

import ray


def session() -> str:
    """The Ray of now, by names that no other has."""
    context = ray.get_runtime_context()
    return f"{context.get_node_id()}/{context.get_job_id()}"


def is_here(name: str) -> bool:
    """Whether this process is connected to that one still. Never starts a Ray, as a call of its functions would."""
    return ray.is_initialized() and session() == name
