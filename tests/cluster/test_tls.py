"""Certificates of a cluster: both sides know each other by the authority, and nobody else is let in."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from rayopt.cluster.files import ClusterFile, read_cluster
from rayopt.cluster.tls import authority, drop_authority, host_files
from rayopt.errors import InputError


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterFile:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "cluster.yaml"
    path.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 10.0.0.1}\n")
    return read_cluster(path)


def context(folder: Path, files: dict[str, str], purpose: ssl.Purpose) -> ssl.SSLContext:
    """A side of a connection that shows its certificate and wants the other's."""
    for name, content in files.items():
        (folder / name).write_text(content)
    made = ssl.create_default_context(purpose, cafile=str(folder / "authority.crt"))
    made.load_cert_chain(folder / "host.crt", folder / "host.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """What two sides say to each other, or why they do not."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with ours:
            try:
                with server.wrap_socket(ours, server_side=True) as connected:
                    connected.sendall(b"hello")
            except ssl.SSLError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs, client.wrap_socket(theirs, server_hostname=name) as connected:
            return connected.recv(5).decode()
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__name__
    finally:
        thread.join()


@pytest.fixture
def sides(cluster: ClusterFile, tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    made = []
    for host, purpose in (("10.0.0.1", ssl.Purpose.CLIENT_AUTH), ("worker.example", ssl.Purpose.SERVER_AUTH)):
        folder = tmp_path / host
        folder.mkdir()
        made.append(context(folder, host_files(authority(cluster), host, ["10.0.0.9", "fe80::1"]), purpose))
    return made[0], made[1]


@pytest.mark.parametrize("name", ["10.0.0.1", "10.0.0.9", "fe80::1", "127.0.0.1", "localhost"])
def test_hosts_know_each_other_by_every_name(sides: tuple[ssl.SSLContext, ssl.SSLContext], name: str) -> None:
    assert shake(*sides, name) == "hello"


def test_another_name_is_refused(sides: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    assert shake(*sides, "10.0.0.2") == "SSLCertVerificationError"


def test_who_has_no_certificate_of_the_cluster_is_refused(
    sides: tuple[ssl.SSLContext, ssl.SSLContext], cluster: ClusterFile, tmp_path: Path
) -> None:
    stranger = ssl.create_default_context(cafile=str(authority(cluster) / "authority.crt"))
    assert shake(sides[0], stranger, "10.0.0.1") != "hello"
    first = (authority(cluster) / "authority.crt").read_text()
    drop_authority(cluster)
    other = tmp_path / "other"
    other.mkdir()
    files = host_files(authority(cluster), "10.0.0.1", [])
    assert files["authority.crt"] != first
    imposter = context(other, files, ssl.Purpose.CLIENT_AUTH)
    assert shake(imposter, sides[1], "10.0.0.1") == "SSLCertVerificationError"


def test_keys_are_for_their_owner_alone(cluster: ClusterFile) -> None:
    folder = authority(cluster)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "authority.key").stat().st_mode & 0o777 == 0o600
    assert authority(cluster) == folder
    assert "authority.key" not in host_files(folder, "a", [])
    drop_authority(cluster)
    drop_authority(cluster)
    assert not folder.exists()


def test_a_machine_without_openssl_is_told(cluster: ClusterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="is not installed here, and --tls needs it"):
        authority(cluster)
