"""Whether anybody waits for room on a Ray."""

from __future__ import annotations

import ray
from ray.autoscaler.v2.sdk import get_cluster_status


def others_wait() -> bool:
    """Whether tasks, actors or placement groups wait for resources, as Ray tells those who make clusters larger.

    Ray knows of a waiting task after about half a second. Raises what Ray raises when it cannot be asked.
    """
    found = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands
    return bool(found.ray_task_actor_demand or found.placement_group_demand)
