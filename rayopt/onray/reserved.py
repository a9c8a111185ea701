"""What trainings have reserved of a cluster whose controllers were killed: they could not give it back themselves."""

from __future__ import annotations

from typing import Any

import ray

from rayopt.onray.post import RUN, Post

READY_S = 5.0


def forget_the_dead() -> None:
    """Takes back what groups whose controllers were killed still hold and have reserved.

    Ray itself gives an elastic group nothing of it for 180 s, and the CPUs to nobody as long as several Rays run on a
    machine: what watches its controllers then does not know which one to ask.
    """
    from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
        TrainAutoscalingCoordinatorClient,
    )
    from ray.util import remove_placement_group

    for post in Post.with_runs():
        controller = post.found("controller")
        if controller is not None and _is_dead(controller):
            place = post.found("place")
            if place is not None:
                remove_placement_group(place)
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
