"""Certificates for Ray's own channels (gRPC): an authority for each cluster, kept here, and one for each host.

Ray checks both sides of a connection against the authority's certificate, whose key never leaves this machine.
"""

from __future__ import annotations

import ipaddress
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rayopt.cluster.files import ClusterFile
from rayopt.cluster.token import clusters_folder
from rayopt.errors import WorkError, input_error

DAYS = 3650
OPENSSL = "openssl"
FILES = {"RAY_TLS_SERVER_KEY": "host.key", "RAY_TLS_SERVER_CERT": "host.crt", "RAY_TLS_CA_CERT": "authority.crt"}
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def tls_place(cluster: ClusterFile, mark: str, name: str) -> str:
    """Where a host keeps a file of `FILES`."""
    return f"~/.rayopt/clusters/{cluster.name}.{mark}.{name}"


def tls_environment(cluster: ClusterFile, mark: str) -> dict[str, str]:
    """What tells Ray to use them, as words of the shell."""
    named = {key: tls_place(cluster, mark, name).replace("~", '"$HOME"', 1) for key, name in FILES.items()}
    return {"RAY_USE_TLS": "1", **named}


def authority(cluster: ClusterFile) -> Path:
    """The folder with the authority's key and certificate, made now where there is none yet."""
    folder = clusters_folder() / f"{cluster.name}.authority"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / "authority.crt").is_file():
        words = ["req", "-x509", *CURVE, "-days", str(DAYS), "-subj", f"/CN=rayopt {cluster.name}"]
        _openssl([*words, "-keyout", "authority.key", "-out", "authority.crt"], folder)
        (folder / "authority.key").chmod(0o600)
    return folder


def host_files(folder: Path, host: str, addresses: Iterable[str]) -> dict[str, str]:
    """The content of a host's `FILES`: a new key, and a certificate for all names that the host goes by."""
    with tempfile.TemporaryDirectory() as place:
        there = Path(place)
        (there / "names").write_text(f"subjectAltName={','.join(_names(host, addresses))}\n")
        _openssl(["req", *CURVE, "-subj", f"/CN={host}", "-keyout", "host.key", "-out", "request"], there)
        signing = ["-CA", str(folder / "authority.crt"), "-CAkey", str(folder / "authority.key"), "-CAcreateserial"]
        serial = ["-CAserial", str(there / "serial")]
        words = ["x509", "-req", "-in", "request", *signing, *serial, "-days", str(DAYS), "-extfile", "names"]
        _openssl([*words, "-out", "host.crt"], there)
        mine = {name: (there / name).read_text() for name in ("host.key", "host.crt")}
    return {**mine, "authority.crt": (folder / "authority.crt").read_text()}


def drop_authority(cluster: ClusterFile) -> None:
    folder = clusters_folder() / f"{cluster.name}.authority"
    for path in folder.glob("*"):
        path.unlink()
    if folder.is_dir():
        folder.rmdir()


def _names(host: str, addresses: Iterable[str]) -> list[str]:
    """Subject alternative names: Ray's processes call one another by address, and on one host by `localhost`."""
    kinds = dict.fromkeys((host, "localhost", "127.0.0.1", *addresses))
    return [f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in kinds]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _openssl(words: list[str], folder: Path) -> None:
    try:
        done = subprocess.run([OPENSSL, *words], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise input_error("openssl", "is not installed here, and --tls needs it", "install openssl") from error
    if done.returncode:
        raise WorkError(f"openssl {words[0]}: {done.stderr.strip()}")
