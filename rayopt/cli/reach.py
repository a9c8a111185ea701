"""How a command reaches a cluster: by its file, through a tunnel; or by an address and a token."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from rayopt.errors import input_error

if TYPE_CHECKING:
    from rayopt.cluster.files import ClusterFile
    from rayopt.onray.submit import Submissions

HTTP_PORT = 80
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

    def __init__(self, cluster: ClusterFile | None, address: str | None, token: str | None) -> None:
        self.cluster, self._address, self._token = cluster, address, token
        self._stack = contextlib.ExitStack()
        self.jobs = self._open()

    def reopen(self) -> None:
        """Makes the connection again, where there is more to it than an address; raises WorkError where it cannot."""
        if self.cluster is not None:
            self._stack.close()
            self.jobs = self._open()

    def close(self) -> None:
        self._stack.close()

    def _open(self) -> Submissions:
        from rayopt.cluster.token import token_of
        from rayopt.cluster.tunnel import open_tunnel
        from rayopt.onray.submit import Submissions

        if self.cluster is None:
            return Submissions(str(self._address), self._token)
        url = self._stack.enter_context(open_tunnel(self.cluster))
        return Submissions(url, token_of(self.cluster))  # one that was started anew has another


@contextlib.contextmanager
def reached(cluster: Path | None, address: str | None, token_file: Path | None) -> Iterator[Line]:
    """The connection that a command's options ask for; raises InputError where there is nobody at its other end."""
    from rayopt.cluster.following import LostError

    given, token = _given(cluster, address, token_file)
    try:
        line = Line(given, address, token)
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
        token = _token(token_file)
        if token is not None and token_file is None:
            _refuse_strangers(str(address))
        return None, token
    from rayopt.cluster.files import read_cluster
    from rayopt.cluster.token import token_of

    if token_file is not None:
        raise input_error("--token-file", "goes with --address alone", "leave it out: rayopt has the cluster's token")
    given = read_cluster(cluster)
    return given, token_of(given)


def _refuse_strangers(address: str) -> None:
    """The token that Ray keeps goes to no port of this machine that another user has taken."""
    from rayopt.cluster.files import is_here
    from rayopt.cluster.holders import refuse_others_here

    found = urlsplit(address if "://" in address else f"http://{address}")
    with contextlib.suppress(ValueError):  # a port that is none is told where the address is used
        if is_here(found.hostname or ""):
            refuse_others_here(found.port or HTTP_PORT)


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
