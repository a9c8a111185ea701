"""What trainings have reserved of a cluster whose controllers were killed: they could not give it back themselves."""

from __future__ import annotations

from typing import Any

import ray

from rayopt.onray.post import RUN, Post

READY_S = 5.0


def forget_the_dead() -> None:
    """Takes back what controllers that were killed have reserved: Ray keeps it for 180 s from an elastic group."""
    from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
        TrainAutoscalingCoordinatorClient,
    )

    for post in Post.with_runs():
        controller = post.found("controller")
        if controller is not None and _is_dead(controller):
            TrainAutoscalingCoordinatorClient(f"train-{post.found(RUN)}").cancel_resource_request()
            post.burn()


def _is_dead(actor: Any) -> bool:
    asked = actor.__ray_ready__.remote()
    try:
        ray.get(asked, timeout=READY_S)
    except ray.exceptions.GetTimeoutError:
        return False
    except ray.exceptions.RayActorError:
        return True
    return False
