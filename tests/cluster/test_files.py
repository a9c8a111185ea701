"""Cluster files: those that come with rayopt, Ray's own schema, and everything that is wrong with a file, by line."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rayopt.cluster.files import ClusterFile, read_cluster
from rayopt.cluster.schema import faults_of, ray_schema
from rayopt.errors import InputError

SHIPPED = sorted((Path(__file__).parent.parent.parent / "cluster").glob("*.yaml"))
GOOD = """\
cluster_name: mine
provider:
    type: local
    head_ip: 10.0.0.1
    worker_ips: [10.0.0.2, 10.0.0.3]
auth:
    ssh_user: ray
    ssh_private_key: KEY
head_start_ray_commands:
    - ray start --head --port=6400 --dashboard-port 8300 --min-worker-port=10002 --max-worker-port=10100
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("a key")
    path.chmod(0o600)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the keys that the shipped files name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    for name in ("id_ed25519", "rayopt.pem", "rayopt-gcp"):
        (tmp_path / ".ssh" / name).touch(mode=0o600)
    return tmp_path


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_cluster(write(tmp_path, text))
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def test_a_file_is_read(tmp_path: Path, key: Path) -> None:
    found = read_cluster(write(tmp_path, GOOD.replace("KEY", str(key))))
    assert (found.name, found.provider, found.head_ip) == ("mine", "local", "10.0.0.1")
    assert found.hosts == ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert (found.ssh_user, found.ssh_key, found.here) == ("ray", key, False)
    assert (found.gcs_port, found.dashboard_port, found.worker_ports) == (6400, 8300, (10002, 10100))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_valid_by_ray_s_own_schema(path: Path, home: Path) -> None:
    cluster = read_cluster(path)
    jsonschema.validate(dict(cluster.raw), json.loads((files("ray.autoscaler") / "ray-schema.json").read_text()))
    jsonschema.validate(yaml.safe_load(path.read_text()), ray_schema())
    assert cluster.dashboard_port == 8265
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster.commands("head_start_ray_commands"))
    assert cluster.worker_ports == (10002, 19999)


def test_there_is_a_file_for_each_place() -> None:
    assert [path.stem for path in SHIPPED] == ["aws", "gcp", "local", "onprem"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "worker_ips:",
            "worker_ipz:",
            "5: provider.worker_ipz: is no key of the provider `local`; did you mean 'worker_ips'",
        ),
        ("auth:", "authh:", "6: authh: is no key of a cluster file here; did you mean 'auth'"),
        ("ssh_user:", "ssh_usr:", "7: auth.ssh_usr: is no key of a cluster file here; did you mean 'ssh_user'"),
        ("type: local", "type: locall", "3: provider.type: there is no provider 'locall'; did you mean 'local'"),
        ("10.0.0.3]", "10.0.0.2]", "5: provider.worker_ips[1]: 10.0.0.2 is given twice, also as worker_ips[0]"),
        ("10.0.0.3]", "10.0.0.1]", "5: provider.worker_ips[1]: 10.0.0.1 is given twice, also as head_ip"),
        ("10.0.0.3]", "7]", "5: provider.worker_ips[1]: must be an address, got 7"),
        ("    head_ip: 10.0.0.1\n", "", "2: provider: lacks the address of the head; add `head_ip:`"),
        ("cluster_name: mine", "cluster_name: ../x", "1: cluster_name: '../x' is no name for a cluster"),
        ("cluster_name: mine\n", "", "1: lacks the key 'cluster_name'"),
        ("cluster_name: mine", "cluster_name: 7", "1: cluster_name: must be text, got 7"),
        ("auth:", "max_workers: -1\nauth:", "6: max_workers: is -1, less than 0"),
        ("auth:", "max_workers: true\nauth:", "6: max_workers: must be a whole number, got True"),
        ("auth:", "max_workers: 1.5\nauth:", "6: max_workers: must be a whole number, got 1.5"),
        ("auth:", "docker: {image: x}\nauth:", "6: docker: is not used with the provider `local`"),
        ("auth:", "\tauth:", "6: is not YAML"),
        ("ssh_user: ray", "ssh_user: ray\n    ssh_user: root", "8: auth.ssh_user: is given twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, key: Path, old: str, new: str, fault: str) -> None:
    assert old in GOOD
    found = faults(tmp_path, GOOD.replace(old, new).replace("KEY", str(key)))
    assert any(one.startswith(f"cluster.yaml:{fault}") for one in found), found


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("worker_ips", "worker_ipz").replace("auth:", "max_workers: many\nauth:")
    assert len(faults(tmp_path, text)) == 3  # and the key is not there


def test_a_key_must_be_there_and_private(tmp_path: Path, key: Path) -> None:
    found = faults(tmp_path, GOOD.replace("KEY", "/nowhere/key"))
    assert found[0].startswith("cluster.yaml:8: auth.ssh_private_key: there is no file /nowhere/key")
    key.chmod(0o644)
    found = faults(tmp_path, GOOD.replace("KEY", str(key)))
    assert "can be read by others" in found[0]
    assert found[0].endswith(f"chmod 600 {key}".replace(f"{tmp_path}/", ""))


@pytest.mark.parametrize(
    ("path", "said"), [("~nosuchuser/x", "~nosuchuser/x: there is no such home"), ("x" * 5000, "File name too long")]
)
def test_a_path_that_is_none_is_a_fault(tmp_path: Path, key: Path, path: str, said: str) -> None:
    (found,) = faults(tmp_path, GOOD.replace("KEY", path))
    assert found.startswith("cluster.yaml:8: auth.ssh_private_key: ")
    assert said in found
    (found,) = faults(tmp_path, GOOD.replace("KEY", str(key)) + f"file_mounts:\n    /a: {path}\n")
    assert found.startswith("cluster.yaml:12: file_mounts./a: ")
    assert said in found


@pytest.mark.parametrize("value", ["5", "[a]", "null"])
def test_what_is_copied_to_hosts_is_a_path(tmp_path: Path, key: Path, value: str) -> None:
    (found,) = faults(tmp_path, GOOD.replace("KEY", str(key)) + f"file_mounts:\n    /a: {value}\n")
    assert found.startswith("cluster.yaml:12: file_mounts./a: must be text, got ")


@pytest.mark.parametrize("text", ["", "[]", "7", "a: &a [*a]", "x: !!python/object:os.system {}"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=problem):
            read_cluster(path)


def test_this_machine_needs_no_ssh(tmp_path: Path) -> None:
    for address, here in (("127.0.0.1", True), ("localhost", True), ("::1", True), ("10.0.0.1", False)):
        text = f"cluster_name: a\nprovider: {{type: local, head_ip: '{address}'}}\n"
        assert read_cluster(write(tmp_path, text)).here is here


# A shipped file with something anywhere replaced: our checker and jsonschema agree on whether it is valid.

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(-2, 3), st.text(max_size=3), st.just([]), st.just({})
)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something is, anywhere in the data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


RAW = [yaml.safe_load(path.read_text()) for path in SHIPPED]
VALIDATOR = jsonschema.Draft7Validator(ray_schema())


@given(st.data())
def test_our_checker_agrees_with_jsonschema(data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from(RAW))
    changed = copy.deepcopy(raw)
    *path, last = data.draw(st.sampled_from(places(raw)[1:]))
    parent = changed
    for key in path:
        parent = parent[key]
    what = data.draw(st.sampled_from(["replace", "drop", "rename"]))
    if what == "replace":
        parent[last] = data.draw(VALUES)
    elif what == "drop" or isinstance(parent, list):
        del parent[last]
    else:
        parent[f"{last}x"] = parent.pop(last)
    ours = faults_of(changed, lambda at: ".".join(map(str, at)))
    # `nullable` is no word of JSON Schema: Ray means that nothing may stand there, jsonschema does not know it.
    theirs = [error for error in VALIDATOR.iter_errors(changed) if "idle_timeout_s" not in error.path]
    assert bool(ours) == bool(theirs), (ours, theirs)


def test_a_cluster_in_a_cloud_has_no_addresses(home: Path) -> None:
    cluster: ClusterFile = read_cluster(next(path for path in SHIPPED if path.stem == "aws"))
    assert (cluster.head_ip, cluster.hosts, cluster.here) == (None, (), False)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/a", "--help", "a b", "user@host", ""])
def test_what_is_no_address_is_no_host(tmp_path: Path, host: str) -> None:
    """ssh would take one for an option."""
    for said in (f"head_ip: 10.0.0.1, worker_ips: ['{host}']", f"head_ip: '{host}', worker_ips: []"):
        path = tmp_path / "cluster.yaml"
        path.write_text(f"cluster_name: mine\nprovider: {{type: local, {said}}}\n")
        with pytest.raises(InputError, match="must be an address"):
            read_cluster(path)


@pytest.mark.parametrize("host", ["10.0.0.1", "node-1.example.org", "fe80::1%eth0", "node_1"])
def test_addresses_and_names_are_hosts(tmp_path: Path, host: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"cluster_name: mine\nprovider: {{type: local, head_ip: 10.9.9.9, worker_ips: ['{host}']}}\n")
    assert read_cluster(path).worker_ips == (host,)


def test_workers_elsewhere_do_not_join_a_head_on_loopback(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 127.0.0.1, worker_ips: [10.0.0.2]}\n")
    with pytest.raises(InputError, match=r"10\.0\.0\.2 cannot join the head at 127\.0\.0\.1"):
        read_cluster(path)
