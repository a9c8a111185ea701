"""The manifests for KubeRay and the image: fields that its API has, and versions, images and settings that agree.

kuberay.json beside this file has the names of fields as KubeRay's API reference for ray.io/v1 lists them, with the
commit that they were taken from; containers are Kubernetes' own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayopt.cluster.commands import HEALTH

ROOT = Path(__file__).parent.parent.parent
KUBERNETES = ROOT / "cluster" / "kubernetes"
API = {
    name: set(fields)
    for name, fields in json.loads(Path(__file__).with_name("kuberay.json").read_text())["fields"].items()
}
CONTAINER_FIELDS = {"name", "image", "env", "ports", "resources"}


def pinned(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def load(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return read


def specs() -> list[dict[str, Any]]:
    return [load("raycluster.yaml")["spec"], load("rayjob.yaml")["spec"]["rayClusterSpec"]]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def test_kinds_are_kuberay_s() -> None:
    for name, kind in (("raycluster.yaml", "RayCluster"), ("rayjob.yaml", "RayJob")):
        manifest = load(name)
        assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(load("rayjob.yaml")["spec"]) <= API["RayJobSpec"]


@pytest.mark.parametrize("spec", specs(), ids=["cluster", "job"])
def test_fields_are_those_of_the_api(spec: dict[str, Any]) -> None:
    assert set(spec) <= API["RayClusterSpec"]
    assert set(spec["authOptions"]) <= API["AuthOptions"]
    assert set(spec["headGroupSpec"]) <= API["HeadGroupSpec"]
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= API["WorkerGroupSpec"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for container in containers(spec):
        assert set(container) <= CONTAINER_FIELDS
        assert all(isinstance(one["value"], str) for one in container["env"])
    for params in [one["rayStartParams"] for one in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]:
        assert all(isinstance(value, str) for value in params.values())


def test_both_manifests_describe_the_same_cluster() -> None:
    assert specs()[0] == specs()[1]


@pytest.mark.parametrize("spec", specs(), ids=["cluster", "job"])
def test_versions_and_settings_are_ours(spec: dict[str, Any]) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(\S+)"$', project, re.MULTILINE)
    assert version
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"] == {"mode": "token"}
    for container in containers(spec):
        assert container["image"].endswith(f"/rayopt:{version[1]}")
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {one["name"]: one["value"] for one in container["env"]} == HEALTH


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
@pytest.mark.parametrize("spec", specs(), ids=["cluster", "job"])
def test_pods_are_as_many_and_as_large_as_the_machines_of_a_cloud(spec: dict[str, Any], cloud: str) -> None:
    """Ray takes a pod's CPUs from its limits, as it takes a machine's from `resources:`."""
    types = yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())["available_node_types"]
    (workers,) = spec["workerGroupSpecs"]
    for group, machine in ((spec["headGroupSpec"], types["head"]), (workers, types["worker"])):
        (container,) = group["template"]["spec"]["containers"]
        assert int(container["resources"]["limits"]["cpu"]) == machine["resources"]["CPU"]
        assert "num-cpus" not in group["rayStartParams"]
    replicas = types["worker"]["min_workers"], types["worker"]["max_workers"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == replicas


@pytest.mark.parametrize("spec", specs(), ids=["cluster", "job"])
def test_pods_have_the_ports_of_our_hosts(spec: dict[str, Any]) -> None:
    (command,) = yaml.safe_load((ROOT / "cluster" / "onprem.yaml").read_text())["head_start_ray_commands"]
    ours = {option: int(port) for option, port in re.findall(r"--((?:[a-z]+-)*port)=(\d+)", command)}
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    names = {"gcs-server": "port", "dashboard": "dashboard-port", "metrics": "metrics-export-port"}
    assert ports == {name: ours[option] for name, option in names.items()}


def test_the_image_has_our_ray_and_our_python() -> None:
    text = (KUBERNETES / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{pinned('ray')}-py311-cpu\n" in text
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
    for source in re.findall(r"^COPY \S+ (.*) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists()
    entry = load("rayjob.yaml")["spec"]["entrypoint"]
    job = re.search(r"/home/ray/(\S+\.yaml)", entry)
    assert job
    assert (ROOT / job[1]).is_file()


def test_clusters_of_machines_are_started_alike() -> None:
    """The same ports and, where rayopt does not set them itself, the same health checks everywhere."""
    options: dict[str, set[str]] = {}
    for path in sorted((ROOT / "cluster").glob("*.yaml")):
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            for command in yaml.safe_load(path.read_text())[key]:
                for option, value in re.findall(r"--((?:[a-z]+-)*port)=(\d+)", command):
                    options.setdefault(option, set()).add(value)
        if path.stem in ("aws", "gcp"):
            for name, value in HEALTH.items():
                assert f"{name}={value}" in path.read_text()
            assert f"{path.stem}.token" in path.read_text()
            assert "RAY_AUTH_MODE=token" in path.read_text()
    assert {option for option, values in options.items() if len(values) > 1} == set()
    assert len({value for values in options.values() for value in values}) == len(options)
