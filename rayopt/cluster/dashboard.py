"""What a cluster says about itself: nodes, resources and what runs, by the HTTP interface of its dashboard."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayopt.errors import WorkError

TIMEOUT_S = 10.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
BYTES = ("memory", "object_store_memory")


@dataclass(frozen=True)
class Node:
    """A node as Ray knows it; dead ones with Ray's reason."""

    address: str
    alive: bool
    head: bool
    resources: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Running:
    """A job or a driver that has not ended."""

    id: str
    status: str
    entrypoint: str


def plain_name(resource: str) -> str:
    """A resource's name whichever way it is written: the dashboard answers `objectStoreMemory` at times."""
    return resource.replace("_", "").lower()


class Dashboard:
    """The dashboard at `url`, asked with the cluster's token; raises WorkError when it does not answer as it should."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def nodes(self) -> list[Node]:
        """All nodes that ever were there, the head first."""
        told = self._get("/api/v0/nodes?detail=1&limit=10000")["data"]["result"]["result"]
        nodes = [
            Node(
                one["node_ip"],
                one["state"] == "ALIVE",
                bool(one["is_head_node"]),
                one.get("resources_total") or {},
                one.get("state_message") or "",
            )
            for one in told
        ]
        return sorted(nodes, key=lambda node: (not node.head, not node.alive, node.address))

    def taken(self) -> dict[str, float]:
        """How much of each resource is taken, as counted in the last seconds; see `plain_name` for the keys."""
        report = self._get("/api/cluster_status")["data"]["clusterStatus"] or {}
        usage = (report.get("loadMetricsReport") or {}).get("usage") or {}
        return {plain_name(name): float(used) for name, (used, _) in usage.items()}

    def running(self) -> list[Running]:
        """Jobs and drivers that have not ended."""
        jobs = self._get("/api/jobs/")
        return [
            Running(
                one.get("submission_id") or f"driver {one.get('job_id')}", one["status"], one.get("entrypoint") or ""
            )
            for one in jobs
            if one["status"] not in ENDED
        ]

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(  # noqa: S310 - http to our own tunnel
            self.url + path, headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            meaning = {401: "it wants a token", 403: "it refuses our token"}.get(error.code, f"HTTP {error.code}")
            raise WorkError(f"the dashboard of the cluster does not answer {path}: {meaning}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise WorkError(f"the dashboard of the cluster does not answer: {error}") from error
