"""A cluster of three hosts from cluster/onprem.yaml: up, looked at, knocked at by strangers, mended, down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.clusters import CPUS, RAYOPT, TOKEN, prepare, rayopt
from tests.hosts.ports import CLOSED, KNOCKS, PROCESS_PORTS, knock, of_process, unwanted
from tests.hosts.world import REPOSITORY, World

HOSTS = ("head", "one", "two")
CLUSTERS = Path(".rayopt/clusters")
PYTHON = f"{sys.prefix}/bin/python"

# A driver on the head with a worker process on every node, until its stdin closes.
DRIVER = """
import ray, sys
ray.init("auto", log_to_driver=False)

@ray.remote(num_cpus=2)
def hold():
    import os, time
    print(os.getpid())
    time.sleep(600)

tasks = [hold.remote() for _ in range(3)]
import time
deadline = time.monotonic() + 60
while ray.available_resources().get("CPU", 0) and time.monotonic() < deadline:
    time.sleep(0.1)
print("busy" if not ray.available_resources().get("CPU", 0) else "idle", flush=True)
sys.stdin.read()
"""

SQUATTER = """
import os, socket
with socket.create_server(("127.0.0.1", 8265)) as one:
    os.fchown(one.fileno(), 65534, -1)  # a socket of nobody's, as the kernel sees it
    print("listening", flush=True)
    while True:
        print(one.accept()[0].recv(9999), flush=True)
"""


@pytest.fixture(scope="module")
def file(world: World) -> Path:
    """The cluster file on the client, whose cluster is up."""
    path = prepare(world)
    done = rayopt(world["client"], "cluster", "up", path)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 nodes are there" in done.stdout
    return path


@pytest.fixture
def driver(world: World, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver that takes all CPUs."""
    head = world["head"]
    with head.popen(
        [PYTHON, "-c", DRIVER],
        env={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.home / there(world))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        yield process
        process.communicate()


def there(world: World) -> Path:
    """Where the hosts keep the token."""
    return CLUSTERS / f"rayopt-onprem.{json.loads(world['client'].read(CLUSTERS / 'rayopt-onprem.json'))['mark']}.token"


def told(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_all_nodes_are_there_with_what_they_have(world: World, file: Path) -> None:
    done = rayopt(world["client"], "cluster", "status", file, "--json")
    status = told(done)
    assert done.returncode == 0
    assert [(one["address"], one["alive"], one["head"]) for one in status["nodes"]] == [
        (world["head"].address, True, True),
        (world["one"].address, True, False),
        (world["two"].address, True, False),
    ]
    assert status["resources"]["CPU"]["total"] == 3 * CPUS
    assert (status["missing"], status["differing"], status["running"]) == ([], {}, [])


def test_the_token_is_for_its_owner_alone_everywhere(world: World, file: Path) -> None:
    places = {"client": TOKEN, **dict.fromkeys(HOSTS, there(world))}
    tokens = {world[name].read(place) for name, place in places.items()}
    assert len(tokens) == 1
    for name, place in places.items():
        assert world[name].run(["stat", "-c", "%a", world[name].home / place]).stdout == "600\n"
    token = tokens.pop().strip()
    for name in HOSTS:
        shown = world[name].run(["ps", "-eo", "args="]).stdout
        assert "gcs-address" in shown
        assert token not in shown


def test_a_token_that_others_could_read_is_refused(world: World, file: Path) -> None:
    client = world["client"]
    client.run(["chmod", "644", client.home / TOKEN])
    refused = rayopt(client, "cluster", "status", file)
    seen = rayopt(client, "doctor")
    client.run(["chmod", "600", client.home / TOKEN])
    assert refused.returncode == 2
    assert "others can read this token" in refused.stderr
    assert seen.returncode == 1
    assert "is open to others (mode 644)" in seen.stdout


def test_another_token_is_refused_by_the_cluster(world: World, file: Path) -> None:
    client = world["client"]
    right = client.read(TOKEN)
    client.write(TOKEN, "a" * 64, 0o600)
    refused = rayopt(client, "cluster", "status", file)
    client.write(TOKEN, right, 0o600)
    assert refused.returncode == 1
    assert "it refuses our token" in refused.stderr


def test_a_second_up_starts_nothing(world: World, file: Path) -> None:
    before = world["head"].processes()
    done = rayopt(world["client"], "cluster", "up", file)
    assert done.returncode == 0
    assert "3 of 3 nodes are there" in done.stdout
    assert "starting" not in done.stderr
    assert set(before) <= set(world["head"].processes())


def test_two_commands_at_once_do_not_meet(world: World, file: Path) -> None:
    first = world["client"].popen(
        [*RAYOPT, "cluster", "up", file], where=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stderr is not None
    assert "looking at 3 hosts" in first.stderr.readline()
    second = rayopt(world["client"], "cluster", "up", file)
    out, _ = first.communicate(timeout=120)
    assert second.returncode == 1
    assert "rayopt cluster up (process " in second.stderr
    assert first.returncode == 0
    assert "3 of 3" in out


def test_the_dashboard_is_reached_through_a_tunnel_with_the_token(world: World, file: Path) -> None:
    client = world["client"]
    shown = client.popen(
        [*RAYOPT, "cluster", "dashboard", file], where=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout is not None
    url = shown.stdout.readline().split()[0]
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/api/jobs/"]
    right = f"Authorization: Bearer {client.read(TOKEN).strip()}"
    page = ["-H", "Origin: http://evil.example", "-H", "Host: evil.example", "-A", "Mozilla/5.0"]
    answers = [
        client.run([*ask, *more]).stdout
        for more in (
            [],
            ["-H", f"Authorization: Bearer {'b' * 64}"],
            ["-H", right],
            page,
            [*page, "-H", right, "-X", "POST"],
        )
    ]
    client.run(["pkill", "-INT", "-f", "cluster dashboard"])
    shown.communicate(timeout=20)
    assert url.startswith("http://127.0.0.1:")
    assert answers == ["401", "403", "200", "401", "405"]
    assert not [words for words in client.processes().values() if "8265" in words]


def test_the_doctor_names_a_token_that_others_on_a_host_can_read(world: World, file: Path) -> None:
    at = world["two"].home / there(world)
    world["two"].run(["chmod", "644", at])
    found = told(rayopt(world["client"], "doctor", "--cluster", file, "--json"))
    world["two"].run(["chmod", "600", at])
    assert [one for one in found["faults"] if "is open" in one] == [
        f"{world['two'].address}: ~/{there(world)} is open to others (mode 644): end the cluster, start it anew"
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_strangers_read_and_run_nothing(world: World, file: Path, name: str) -> None:
    found = told(rayopt(world["client"], "doctor", "--cluster", file, "--json"))
    listening = {one["port"] for one in found["listening"][world[name].address]}
    assert listening == {one.port for one in KNOCKS[name]}  # a port that Ray opens anew must be looked at
    assert unwanted(knock(world["stranger"], world[name], KNOCKS[name])) == []
    for host in HOSTS:
        assert world[host].run(["test", "-e", "/tmp/broken-in"], check=False).returncode == 1


def test_strangers_cannot_join_or_connect(world: World, file: Path) -> None:
    stranger, head = world["stranger"], world["head"].address
    connect = f"import ray; ray.init('{head}:6379', log_to_driver=False); print('in')"
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}
    tries = [
        stranger.popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command, env in (([PYTHON, "-c", connect], wrong), (["ray", "start", f"--address={head}:6379"], {}))
    ]
    for process in tries:
        out, err = process.communicate(timeout=100)
        assert process.returncode != 0
        assert "in" not in out.split()
        assert "uthenticat" in out + err or "oken" in out + err
    assert len(told(rayopt(world["client"], "cluster", "status", file, "--json"))["nodes"]) == 3


def test_a_busy_cluster_is_not_ended_without_a_word(world: World, file: Path, driver: subprocess.Popen[str]) -> None:
    refused = rayopt(world["client"], "cluster", "down", file, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "something runs on the cluster; give --yes" in refused.stderr
    status = rayopt(world["client"], "cluster", "status", file)
    assert "1 running" in status.stdout
    assert driver.poll() is None
    listening = told(rayopt(world["client"], "doctor", "--cluster", file, "--json"))["listening"]
    for name in HOSTS:
        workers = [one["port"] for one in listening[world[name].address] if one["port"] in PROCESS_PORTS]
        assert workers
        asked = [one for port in workers for one in of_process(port)]
        assert unwanted(knock(world["stranger"], world[name], asked)) == []


def test_a_second_client_leaves_the_cluster_alone(world: World, file: Path) -> None:
    """Another home on the same client knows nothing of what was started from the first one."""
    client = world["client"]
    before = world["head"].read(there(world))
    other = {"HOME": str(client.home / "other")}
    client.run(
        ["bash", "-c", "mkdir -p ~/other && ln -s ~/.ssh ~/other/.ssh && cp ~/.bashrc ~/other 2>/dev/null || true"]
    )
    done = rayopt(client, "cluster", "up", file, env=other)
    assert done.returncode == 2
    assert "a cluster 'rayopt-onprem' that was not started from here runs on" in done.stderr
    assert world["head"].read(there(world)) == before
    assert rayopt(client, "cluster", "status", file).returncode == 0


def test_the_firewall_lines_close_what_is_open(world: World, file: Path) -> None:
    lines = told(rayopt(world["client"], "doctor", "--cluster", file, "--json"))["firewall"]
    world["head"].run(["bash", "-ec", "\n".join(lines)])
    ports = sorted({one.port for one in KNOCKS["head"] if one.wanted is not CLOSED})
    tried = {port: world["stranger"].reaches(world["head"], port) for port in ports}
    inside = {port: world["one"].reaches(world["head"], port) for port in ports}
    status = rayopt(world["client"], "cluster", "status", file)
    world["head"].run(["nft", "delete", "table", "inet", "rayopt"])
    assert (set(tried.values()), set(inside.values())) == ({False}, {True})
    assert world["stranger"].reaches(world["head"], 8080)  # so it was the lines
    assert "3 of 3 nodes are there" in status.stdout


def test_what_died_is_named_and_brought_back(world: World, file: Path) -> None:
    world["one"].run(["pkill", "-KILL", "raylet"])
    status = rayopt(world["client"], "cluster", "status", file)  # before Ray itself has noticed
    up = rayopt(world["client"], "cluster", "up", file)
    assert status.returncode == 1
    assert f"missing {world['one'].address}: is up, but Ray does not run there" in status.stdout
    assert up.returncode == 0
    assert "3 of 3 nodes are there" in up.stdout
    assert up.stderr.count("starting Ray on") == 1
    assert "raylet" in " ".join(world["one"].processes().values())


def test_up_and_down_ask_what_they_cannot_see(world: World, file: Path) -> None:
    """The dashboard has died and may have left jobs at work: neither command ends them without a word."""
    client, head = world["client"], world["head"]
    synced = rayopt(client, "cluster", "sync", file)
    head.run(["pkill", "-KILL", "-f", "dashboard/dashboard.py"])
    up = rayopt(client, "cluster", "up", file)
    down = rayopt(client, "cluster", "down", file, stdin=subprocess.DEVNULL)
    assert synced.returncode == 0  # nothing differs, so nothing is replaced under a running cluster
    assert up.returncode == 1
    assert "but the dashboard of the cluster does not answer" in up.stderr
    assert f"`rayopt cluster down {file}` ends it" in up.stderr
    assert down.returncode == 2
    assert "what runs on it cannot be seen" in down.stderr
    for name in HOSTS:
        assert "raylet" in " ".join(world[name].processes().values())


def test_another_user_who_takes_the_dashboards_port_is_not_sent_the_token(world: World, file: Path) -> None:
    """The dashboard is dead since the test before this one, and its port free for anybody on the head."""
    with world["head"].popen([PYTHON, "-c", SQUATTER], stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        status = rayopt(world["client"], "cluster", "status", file)
        world["head"].run(["pkill", "-f", "fchown"])
        heard, _ = squatter.communicate(timeout=60)
    assert (status.returncode, heard) == (1, "")
    assert "another user (uid 65534) listens at port 8265" in status.stdout + status.stderr


def test_down_ends_what_up_has_started_and_nothing_else(world: World, file: Path) -> None:
    other = ["bash", "-c", "exec -a raylet sleep 1000"]
    with world["one"].popen(other, env={"RAYOPT_CLUSTER": "another"}):
        done = rayopt(world["client"], "cluster", "down", file, "--yes")
        left = {name: list(world[name].processes().values()) for name in HOSTS}
        world["one"].run(["pkill", "sleep"])
    assert done.returncode == 0
    assert left == {"head": [], "one": ["raylet 1000"], "two": []}
    assert not world["client"].run(["find", world["client"].home / TOKEN], check=False).stdout
    for name in HOSTS:
        assert world[name].run(["ls", "-A", world[name].home / CLUSTERS]).stdout == ""
    again = rayopt(world["client"], "cluster", "down", file)
    assert (again.returncode, "nothing to end" in again.stdout) == (0, True)
    assert rayopt(world["client"], "cluster", "status", file).returncode == 2
