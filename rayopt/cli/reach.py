"""How a command reaches a cluster: by its file, through a tunnel; or by an address and a token."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from rayopt.errors import input_error

if TYPE_CHECKING:
    from rayopt.cluster.files import ClusterFile
    from rayopt.onray.submit import Submissions

PORTS = {"http": 80, "https": 443}
PATH = click.Path(path_type=Path)
OPTIONS = (
    click.option("--cluster", type=PATH, metavar="FILE", help="The file of a cluster that `cluster up` started."),
    click.option("--address", metavar="URL", help="The dashboard of a cluster, such as http://127.0.0.1:8265."),
    click.option("--token-file", type=PATH, help="For --address: its token.  [default: as Ray, ~/.ray/auth_token]"),
)


def reaching(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cluster is meant."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


class Line:
    """A connection to a cluster's jobs, which can be made again."""

    def __init__(
        self, cluster: ClusterFile | None, address: str | None, token: str | None, looks: bool = False
    ) -> None:
        """looks: the token goes to no port of this machine that another user has taken."""
        self.cluster, self._address, self._token, self._looks = cluster, address, token, looks
        self._stack = contextlib.ExitStack()
        self._jobs: Submissions | None = self._open()

    @property
    def jobs(self) -> Submissions:
        """Raises LostError while there is no way to them: the old end of one may be somebody else's by then."""
        from rayopt.cluster.following import LostError

        if self._jobs is None:
            raise LostError("there is no way to it")
        return self._jobs

    def reopen(self) -> None:
        """Makes the connection again; raises WorkError where it cannot, TakenError where another user listens there."""
        self._stack.close()
        self._jobs = None
        self._jobs = self._open()

    def close(self) -> None:
        self._stack.close()

    def _open(self) -> Submissions:
        from rayopt.cluster.token import token_of
        from rayopt.cluster.tunnel import open_tunnel
        from rayopt.onray.submit import Submissions

        if self.cluster is None:
            if self._looks:
                _refuse_strangers(str(self._address))
            return Submissions(str(self._address), self._token)
        url = self._stack.enter_context(open_tunnel(self.cluster))
        return Submissions(url, token_of(self.cluster))  # one that was started anew has another


@contextlib.contextmanager
def reached(cluster: Path | None, address: str | None, token_file: Path | None) -> Iterator[Line]:
    """The connection that a command's options ask for; raises InputError where there is nobody at its other end."""
    from rayopt.cluster.following import LostError

    given, token = _given(cluster, address, token_file)
    try:
        line = Line(given, address, token, looks=token_file is None)
    except LostError as error:
        place = f"--cluster {cluster}" if cluster else f"--address {address}"
        raise input_error(place, f"no Ray answers there ({error})", "check it, and that the cluster is up") from error
    try:
        yield line
    finally:
        line.close()


def _given(cluster: Path | None, address: str | None, token_file: Path | None) -> tuple[ClusterFile | None, str | None]:
    if (cluster is None) == (address is None):
        problem = "is missing" if cluster is None else "and --cluster say different things"
        raise input_error("--address", problem, "give one of them: --cluster FILE or --address URL")
    if cluster is None:
        return None, _token(token_file)
    from rayopt.cluster.files import read_cluster
    from rayopt.cluster.token import token_of

    if token_file is not None:
        raise input_error("--token-file", "goes with --address alone", "leave it out: rayopt has the cluster's token")
    given = read_cluster(cluster)
    return given, token_of(given)


def _refuse_strangers(address: str) -> None:
    """Raises TakenError where another user of this machine listens at an address of it."""
    from rayopt.cluster.holders import refuse_others_here

    with contextlib.suppress(ValueError):  # what is no address is told where it is used
        found = urlsplit(address if "://" in address else f"http://{address}")
        port = found.port or PORTS.get(found.scheme, 0)
        for one in _resolved(found.hostname or "", port):
            refuse_others_here(one, port)


def _resolved(host: str, port: int) -> set[str]:
    try:
        return {str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _token(given: Path | None) -> str | None:
    """The token of an address: what is given, or what Ray itself would take."""
    from rayopt.cluster.token import read_token

    if given is None and os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"]
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = given or (Path(named) if named else Path.home() / ".ray" / "auth_token")
    if path.is_file():
        return read_token(path)
    if given is not None:
        raise input_error("--token-file", f"there is no file {given}", "give the path of the cluster's token")
    return None
