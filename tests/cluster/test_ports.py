"""Which ports others reach, and the firewall lines that close them; the lines are run in tests/hosts."""

from __future__ import annotations

import pytest

from rayopt.cluster.ports import Port, firewall_lines, ports_of


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("127.0.0.1", False),
        ("127.8.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", True),  # noqa: S104 - what Ray does
        ("::", True),
        ("10.0.0.1", True),
        ("::ffff:10.0.0.1", True),
    ],
)
def test_loopback_is_for_this_host_alone(address: str, reached: bool) -> None:
    assert Port(address, 1, "x", False).open is reached


def test_ray_s_processes_are_known_by_name_or_mark() -> None:
    rows = [
        {"address": "::", "port": 1, "name": name, "ours": ours}
        for name, ours in (("raylet", False), ("ray::IDLE", False), ("python3", True), ("sshd", False), ("x", False))
    ]
    assert [port.of_ray for port in ports_of(rows)] == [True, True, True, False, False]


def test_lines_name_hosts_and_ports_once() -> None:
    lines = firewall_lines(["10.0.0.1", "10.0.0.2"], [8080, 6379, 8080, 10005], (10002, 10100))
    assert "'{ 10.0.0.1, 10.0.0.2 }' accept" in lines[-2]
    assert "'{ 6379, 8080, 10002-10100 }' drop" in lines[-1]
    assert "'{ 6379 }' drop" in firewall_lines(["10.0.0.1"], [6379], None)[-1]
