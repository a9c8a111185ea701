"""Several simulated nodes: some have a label or a resource, some join late, some die."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# A process has one connection to Ray, and the other tests have theirs: these run in a process of their own.
START = """
import logging, os, time
import ray
from ray.cluster_utils import Cluster
from rayopt.backend import Call, Raised, Returned, Vanished
from rayopt.engine import Engine, Of, Task
from rayopt.onray.backend import OnRay
from rayopt.plan import Node
from rayopt.records import Need
from rayopt.runs.cache import Cache, Entry
from rayopt.watch import Silent

small = {"object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
head = ray.get_runtime_context().get_node_id()

def node():
    return ray.get_runtime_context().get_node_id()

def node_after(seconds):
    began = time.time()
    time.sleep(seconds)
    return node(), began, time.time()

def until(backend, count):
    found = {}
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found.update({report.id: report for report in backend.wait(0.5)})
    return found
"""

END = """
ray.shutdown()
cluster.shutdown()
"""


def run(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + code + END], capture_output=True, text=True, timeout=180, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_calls_go_to_the_nodes_that_they_are_for_and_late_nodes_are_used(tmp_path: Path) -> None:
    run(
        """
edge = cluster.add_node(num_cpus=2, labels={"kind": "edge"}, **small)
pi = cluster.add_node(num_cpus=1, resources={"pi4": 1}, **small)
backend = OnRay("auto", patience_s=0)
assert backend.room == 16
backend.submit(Call("edge", "edge", node_after, (0.5,), exclusive=True, where={"kind": "edge"}))
for number in range(6):
    backend.submit(Call(f"n{number}", "n", node_after, (0.3,)))
backend.submit(Call("pi", "pi", node, (), exclusive=True, where={"resource": "pi4"}))
backend.submit(Call("pi too", "pi too", node, (), where={"resource": "pi4"}))
backend.submit(Call("no label", "x", node, (), exclusive=True, where={"kind": "phone"}))
backend.submit(Call("no resource", "x", node, (), where={"resource": "pi5"}))
backend.submit(Call("large", "large", node, (), Need(cpus=3)))
found = until(backend, 12)
assert found["no label"] == Raised("no label", "no node has what it asks for: 1 CPUs, the label kind=phone"), found
assert found["no resource"] == Raised("no resource", "no node has what it asks for: 1 CPUs, the resource 'pi5'"), found
assert found["large"] == Raised("large", "no node has what it asks for: 3 CPUs"), found
at, began, ended = found["edge"].value
assert at == edge.node_id, found
for number in range(6):  # nothing else ran on that node meanwhile
    other, other_began, other_ended = found[f"n{number}"].value
    assert other != at or other_ended <= began or other_began >= ended, found
assert found["pi"].value == found["pi too"].value == pi.node_id, found

# A node that joins is used at once, and needs are judged against it.
late = cluster.add_node(num_cpus=8, **small)
backend.submit(Call("large again", "large", node, (), Need(cpus=3)))
backend.submit(Call("largest", "largest", node, (), exclusive=True))
found = until(backend, 2)
assert found["large again"].value == found["largest"].value == late.node_id, found
time.sleep(1.1)
assert backend.room == 4 * 12

# One that is patient waits for a node that comes, and not for ever for one that does not.
backend._patience_s = 20
backend.submit(Call("patient", "patient", node, (), where={"kind": "phone"}))
assert backend.wait(0.5) == []
phone = cluster.add_node(num_cpus=1, labels={"kind": "phone"}, **small)
assert until(backend, 1)["patient"].value == phone.node_id
backend._patience_s = 3
backend.submit(Call("in vain", "in vain", node, (), where={"kind": "watch"}))
assert until(backend, 1) == {"in vain": Raised("in vain", "no node has what it asks for: 1 CPUs, the label kind=watch")}

# What waits for a node that goes is given back.
backend._patience_s = 0
backend.submit(Call("runs", "runs", node_after, (60.0,), where={"kind": "phone"}))
backend.submit(Call("waits", "waits", node, (), where={"kind": "phone"}))
assert backend.wait(1.0) == []
cluster.remove_node(phone, allow_graceful=False)
found = until(backend, 2)
assert all(isinstance(report, Vanished) for report in found.values()), found
backend.close()
""",
        tmp_path,
    )


def test_a_node_that_dies_costs_only_what_it_held(tmp_path: Path) -> None:
    run(
        """
class Codec:
    def encode(self, value):
        return Entry({"value": len(value)}, {"file": value})
    def decode(self, entry):
        return entry.files["file"]

def large(path, seconds):
    with open(path, "a") as file:
        file.write(node() + "\\n")
    time.sleep(seconds)
    return b"x" * (2 << 20)

def larger(value, path, seconds):
    return value + large(path, seconds)

doomed = cluster.add_node(num_cpus=2, **small)
tasks = []
for number in range(8):
    args = (os.path.abspath(f"a{number}"), 0.7)
    tasks.append(Task(Node(f"a{number}"), "a", large, args, lambda values, n=number: f"a{n:063}"))
    args = (Of(f"a{number}"), os.path.abspath(f"b{number}"), 0.7)
    tasks.append(Task(Node(f"b{number}", f"a{number}"), "b", larger, args, lambda values, n=number: f"b{n:063}"))
ended = []

def on_end(one):
    ended.append(one)
    if len(ended) == 5:
        cluster.remove_node(doomed, allow_graceful=False)

engine = Engine(lambda: OnRay("auto"), Cache("cache"), Codec(), Silent())
engine.run(tasks, on_end, list)
engine.close()
assert sorted((one.id, one.status) for one in ended) == sorted((task.node.id, "done") for task in tasks), ended
assert all(len(engine.values[f"b{number}"]) == 4 << 20 for number in range(8))
runs = {task.node.id: open(task.node.id).read().split() for task in tasks}
again = {id: nodes for id, nodes in runs.items() if len(nodes) > 1}
assert 1 <= len(again) <= 2, runs  # it had two CPUs
assert all(nodes[0] == doomed.node_id != nodes[1] and len(nodes) == 2 for nodes in again.values()), runs
""",
        tmp_path,
    )
