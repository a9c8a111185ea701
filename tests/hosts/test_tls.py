"""A cluster whose own channels are encrypted: it works, and who has the token but no certificate is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.hosts.clusters import prepare, rayopt
from tests.hosts.world import World

PYTHON = f"{sys.prefix}/bin/python"
CLUSTERS = Path(".rayopt/clusters")
ON_EACH = """
import ray
ray.init("auto", log_to_driver=False)
where = ray.remote(lambda: ray.util.get_node_ip_address())
nodes = [node["NodeManagerAddress"] for node in ray.nodes()]
print(*sorted(ray.get([where.options(resources={f"node:{one}": 0.01}).remote() for one in nodes])))
"""
# Asks the GCS with the token: over TLS with a certificate of the cluster, over TLS without one, and over nothing.
CALL = """
import grpc, os, sys
address, start = sys.argv[1:]
read = lambda name: open(f"{start}.{name}", "rb").read()
authority = read("authority.crt")
known = grpc.ssl_channel_credentials(authority, read("host.key"), read("host.crt"))
for credentials in (known, grpc.ssl_channel_credentials(authority), None):
    made = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with made as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        try:
            call(b"", timeout=5, metadata=[("authorization", "Bearer " + read("token").decode())])
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)
"""


def test_channels_are_encrypted(world: World) -> None:
    file = prepare(world, ("one",))
    client, head = world["client"], world["head"]
    up = rayopt(client, "cluster", "up", file, "--tls")
    again = rayopt(client, "cluster", "up", file)
    assert up.returncode == 0, up.stderr
    assert (again.returncode, "starting" in again.stderr) == (0, False)
    start = f"{head.home / CLUSTERS}/rayopt-onprem.{json.loads(client.read(CLUSTERS / 'rayopt-onprem.json'))['mark']}"
    modes = head.run(["bash", "-c", f"stat -c %a {start}.*"]).stdout.split()
    assert modes == ["600"] * 4
    tls = {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": f"{start}.host.crt",
        "RAY_TLS_SERVER_KEY": f"{start}.host.key",
        "RAY_TLS_CA_CERT": f"{start}.authority.crt",
    }
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{start}.token"}
    ran = head.run([PYTHON, "-c", ON_EACH], env={**token, **tls})
    assert ran.stdout.split() == [head.address, world["one"].address]
    called = head.run([PYTHON, "-c", CALL, f"{head.address}:6379", start])
    assert called.stdout.split() == ["OK", "UNAVAILABLE", "UNAVAILABLE"]
    down = rayopt(client, "cluster", "down", file)
    assert down.returncode == 0
    assert head.run(["bash", "-c", f"ls {head.home / CLUSTERS}"]).stdout == ""
    assert not head.processes()
