"""An S3 server on loopback, which can be told to fail."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal
from urllib.request import Request, urlopen

from moto import server as moto_server

Fault = Literal["400", "503", "reset", "half"]


class Store:
    """An S3 server in a thread of this process; `breaks` says which requests fail, and `fault` how.

    400, 503: refused. reset: the connection breaks before anything is done. half: what is asked is done, and the
    connection breaks in the middle of the answer.
    """

    def __init__(self) -> None:
        from werkzeug.serving import make_server

        self.breaks: Callable[[str, str], bool] = lambda method, path: False
        self.fault: Fault = "400"
        self.asked: list[tuple[str, str]] = []
        inner = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)

        def application(environ: dict[str, Any], start: Any) -> Any:
            asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.asked.append(asked)
            return self._broken(inner, environ, start) if self.breaks(*asked) else inner(environ, start)

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # What another store of this process held is in moto's own memory.
        with urlopen(Request(f"{self.url}/moto-api/reset", method="POST"), timeout=30):  # noqa: S310 - our own
            self.asked.clear()

    def _broken(self, inner: Any, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if self.fault in REFUSALS:
            start(REFUSALS[self.fault], [("Content-Length", "0")])
            return [b""]
        if self.fault == "reset":
            _reset(environ["werkzeug.socket"])
            raise ConnectionResetError
        body = b"".join(inner(environ, start))
        return _half(body, environ["werkzeug.socket"])

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


REFUSALS = {"400": "400 Bad Request", "503": "503 Slow Down"}


def _half(body: bytes, connection: socket.socket) -> Iterable[bytes]:
    yield body[: len(body) // 2]
    _reset(connection)
    raise ConnectionResetError


def _reset(connection: socket.socket) -> None:
    """Breaks a connection off without a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    connection.close()
