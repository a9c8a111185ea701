"""Cluster files: plain YAML of Ray's cluster launcher, checked against Ray's own schema, each fault with its line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayopt.cluster.schema import faults_of
from rayopt.errors import Fault, InputError, did_you_mean, input_error
from rayopt.yamltext import Location, place_of, read

MAX_FILE_BYTES = 1 << 20
PROVIDERS = ("local", "aws", "gcp", "azure", "aliyun", "vsphere", "external")
LOCAL_KEYS = ("type", "head_ip", "worker_ips")
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
DASHBOARD_PORT = 8265
GCS_PORT = 6379
HOST = re.compile(r"[A-Za-z0-9:\[][A-Za-z0-9._:%\]-]*")  # never an option of ssh
A_HOST = "write an IP address or a host's name"
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class ClusterFile:
    """A checked cluster file; `head_ip` is None where a cloud gives the address at `up`."""

    path: Path
    name: str
    provider: str
    head_ip: str | None
    worker_ips: tuple[str, ...]
    ssh_user: str | None
    ssh_key: Path | None
    ssh_proxy: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses that the file itself names, the head first."""
        return () if self.head_ip is None else (self.head_ip, *self.worker_ips)

    @property
    def here(self) -> bool:
        """Whether the head is this machine, reached without ssh."""
        return self.provider == "local" and self.head_ip is not None and is_here(self.head_ip)

    def commands(self, key: str) -> tuple[str, ...]:
        """The shell commands of one of `COMMANDS`."""
        return tuple(self.raw.get(key) or ())

    @property
    def dashboard_port(self) -> int:
        return self._port("--dashboard-port", DASHBOARD_PORT)

    @property
    def gcs_port(self) -> int:
        return self._port("--port", GCS_PORT)

    @property
    def worker_ports(self) -> tuple[int, int] | None:
        """The range of ports that worker processes listen on, where the file says it."""
        low, high = self._port("--min-worker-port", 0), self._port("--max-worker-port", 0)
        return (low, high) if low and high else None

    def _port(self, option: str, default: int) -> int:
        found = re.search(rf"(?<!\S){option}[= ]\s*(\d+)", " ".join(self.commands("head_start_ray_commands")))
        return int(found[1]) if found else default


def is_here(host: str) -> bool:
    """Whether an address is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_cluster(path: Path) -> ClusterFile:
    """Reads and checks a cluster file; raises InputError with everything that is wrong with it."""
    source = str(path)
    data, lines = read(_text(path), source)
    if not isinstance(data, dict):
        problem = "is empty" if data is None else "is not a mapping"
        raise input_error(source, problem, "a cluster file starts with `cluster_name:` and `provider:`")

    def place(at: Location) -> str:
        line = next((lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines), None)
        return place_of(source, line, at)

    faults = faults_of(data, place)
    faults += _name_faults(data, place) + _provider_faults(data, place)
    faults += _key_faults(data, place) + _mount_faults(data, place) + _unsupported(data, place)
    if faults:
        raise InputError(faults)
    return _cluster(path, data)


def _cluster(path: Path, data: dict[str, Any]) -> ClusterFile:
    provider, auth = data["provider"], data.get("auth") or {}
    local = provider["type"] == "local"
    return ClusterFile(
        path=path,
        name=data["cluster_name"],
        provider=provider["type"],
        head_ip=provider["head_ip"] if local else None,
        worker_ips=tuple(provider.get("worker_ips") or ()) if local else (),
        ssh_user=auth.get("ssh_user"),
        ssh_key=_key_path(auth),
        ssh_proxy=auth.get("ssh_proxy_command"),
        raw=data,
    )


def _text(path: Path) -> str:
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise input_error(str(path), problem, "give the path of a cluster file, such as cluster/local.yaml")
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise input_error(str(path), f"is {size:,} bytes long", f"at most {MAX_FILE_BYTES:,} bytes are read")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise input_error(str(path), f"is not UTF-8 text (byte {error.start})", "save the file as UTF-8") from error
    except OSError as error:
        raise input_error(str(path), f"cannot be read: {error.strerror}", "give another path") from error


def _name_faults(data: dict[str, Any], place: Any) -> list[Fault]:
    name = data.get("cluster_name")
    if not isinstance(name, str) or SAFE_NAME.fullmatch(name):
        return []
    remedy = "use up to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    return [Fault(place(("cluster_name",)), f"{name!r} is no name for a cluster", remedy)]


def _provider_faults(data: dict[str, Any], place: Any) -> list[Fault]:
    provider = data.get("provider")
    if not isinstance(provider, dict) or not isinstance(kind := provider.get("type"), str):
        return []
    if kind not in PROVIDERS:
        at = place(("provider", "type"))
        return [Fault(at, f"there is no provider {kind!r}", did_you_mean(kind, PROVIDERS))]
    return _local_faults(provider, place) if kind == "local" else []


def _local_faults(provider: dict[str, Any], place: Any) -> list[Fault]:
    """What Ray's schema leaves open for hosts of one's own: it knows no key too many and no host twice."""
    faults = [
        Fault(place(("provider", key)), "is no key of the provider `local`", did_you_mean(key, LOCAL_KEYS))
        for key in provider
        if key not in LOCAL_KEYS
    ]
    if not isinstance(provider.get("head_ip"), str):
        faults.append(Fault(place(("provider",)), "lacks the address of the head", "add `head_ip:`"))
    elif not HOST.fullmatch(provider["head_ip"]):
        faults.append(Fault(place(("provider", "head_ip")), f"must be an address, got {provider['head_ip']!r}", A_HOST))
    head = provider.get("head_ip")
    seen = {head: "head_ip"}
    workers = provider.get("worker_ips")
    for index, host in enumerate(workers if isinstance(workers, list) else ()):
        at = place(("provider", "worker_ips", index))
        if not isinstance(host, str) or not HOST.fullmatch(host):
            faults.append(Fault(at, f"must be an address, got {host!r}", A_HOST))
        elif isinstance(head, str) and is_here(head) and not is_here(host):
            problem = f"{host} cannot join the head at {head}, which is this machine's loopback"
            faults.append(Fault(at, problem, "give the head the address by which the workers reach it"))
        elif host in seen:
            faults.append(Fault(at, f"{host} is given twice, also as {seen[host]}", "name each host once"))
        seen[host if isinstance(host, str) else None] = f"worker_ips[{index}]"
    return faults


def _unsupported(data: dict[str, Any], place: Any) -> list[Fault]:
    """What Ray's launcher would do on hosts of one's own and rayopt, which starts them itself, does not."""
    provider = data.get("provider")
    if not isinstance(provider, dict) or provider.get("type") != "local":
        return []
    docker = data.get("docker")
    faults = []
    if isinstance(docker, dict) and docker.get("image"):
        problem = "is not used with the provider `local`"
        faults.append(Fault(place(("docker",)), problem, "install into a virtual environment by `setup_commands:`"))
    if data.get("cluster_synced_files"):
        at = place(("cluster_synced_files",))
        faults.append(Fault(at, "is not used with the provider `local`", "write `file_mounts:`"))
    return faults


def _key_path(auth: Mapping[str, Any]) -> Path | None:
    given = auth.get("ssh_private_key")
    return Path(given).expanduser() if isinstance(given, str) else None


def _key_faults(data: dict[str, Any], place: Any) -> list[Fault]:
    """Whether the ssh key is there, and nobody else's to read: ssh itself refuses such a key only when it is used."""
    auth = data.get("auth")
    given = auth.get("ssh_private_key") if isinstance(auth, dict) else None
    if not isinstance(given, str):
        return []
    at = place(("auth", "ssh_private_key"))
    if problem := _path_problem(given):
        return [Fault(at, problem, "name the key that the hosts know")]
    key = Path(given).expanduser()
    if not key.is_file():
        return [Fault(at, f"there is no file {key}", "make one with ssh-keygen, or name the key that the hosts know")]
    if key.stat().st_mode & 0o077:
        return [Fault(at, f"{key} can be read by others, and ssh refuses it", f"chmod 600 {key}")]
    return []


def _mount_faults(data: dict[str, Any], place: Any) -> list[Fault]:
    """What Ray's schema leaves open: whether what is copied to the hosts is named by a path."""
    mounts = data.get("file_mounts")
    faults = []
    for there, here in mounts.items() if isinstance(mounts, dict) else ():
        problem = _path_problem(here) if isinstance(here, str) else f"must be text, got {here!r}"
        if problem:
            faults.append(Fault(place(("file_mounts", there)), problem, "write the path of a file or folder here"))
    return faults


def _path_problem(given: str) -> str:
    """Why a text can be no path on this machine; nothing where it can, whether or not something is there."""
    try:
        Path(given).expanduser().exists()
    except RuntimeError:
        return f"{given}: there is no such home"
    except OSError as error:
        return f"cannot be looked for: {error.strerror}"
    return ""
