"""What a Ray leaves listening on a host, who may reach it and whether it asks for the token; and how to close it.

Seen on Ray 2.60 with RAY_AUTH_MODE=token; tests/hosts/test_up.py asks each of these ports as a stranger does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RAY_NAMES = ("gcs_server", "raylet", "ray::", "ray.", "dashboard.py", "monitor.py", "log_monitor.py", "agent.py")


@dataclass(frozen=True)
class Port:
    """A port that is listened on."""

    address: str
    port: int
    name: str
    ours: bool
    lets_in: bool = False  # it is a dashboard that answers whoever asks

    @property
    def open(self) -> bool:
        """Whether others than this host may reach it."""
        found = ipaddress.ip_address(self.address)
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return not (mapped or found).is_loopback

    @property
    def of_ray(self) -> bool:
        return self.ours or self.name.startswith(RAY_NAMES)


def ports_of(rows: Iterable[Mapping[str, Any]]) -> list[Port]:
    """The ports in what `on_host.listening` says."""
    return [Port(row["address"], row["port"], row["name"], row["ours"], row.get("lets_in", False)) for row in rows]


def firewall_lines(hosts: Sequence[str], ports: Iterable[int], workers: tuple[int, int] | None) -> list[str]:
    """Rules of nftables for each host: the cluster's hosts reach one another, and nobody else reaches these ports.

    `hosts` are addresses; `workers` is the range of ports that Ray's worker processes listen on while they live.
    """
    named = ", ".join(hosts)
    low, high = workers or (0, 0)
    numbers = ", ".join(str(one) for one in sorted(set(ports)) if not low <= one <= high)
    if workers:
        numbers += f", {low}-{high}"
    return [
        "nft add table inet rayopt",
        "nft add chain inet rayopt input '{ type filter hook input priority 0; policy accept; }'",
        "nft add rule inet rayopt input iif lo accept",
        f"nft add rule inet rayopt input ip saddr '{{ {named} }}' accept",
        f"nft add rule inet rayopt input tcp dport '{{ {numbers} }}' drop",
    ]
