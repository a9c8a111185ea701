"""An S3 server on loopback, which can be told to fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

from moto import server as moto_server


class Store:
    """An S3 server in a thread of this process; `breaks` says which requests fail."""

    def __init__(self) -> None:
        from werkzeug.serving import make_server

        self.breaks: Callable[[str, str], bool] = lambda method, path: False
        self.asked: list[tuple[str, str]] = []
        inner = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)

        def application(environ: dict[str, Any], start: Any) -> Any:
            asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.asked.append(asked)
            if self.breaks(*asked):
                start("400 Bad Request", [("Content-Length", "0")])
                return [b""]
            return inner(environ, start)

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # What another store of this process held is in moto's own memory.
        with urlopen(Request(f"{self.url}/moto-api/reset", method="POST"), timeout=30):  # noqa: S310 - our own
            self.asked.clear()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
