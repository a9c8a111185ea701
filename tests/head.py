"""A Ray of its own on loopback, with a token, as `ray start` makes it; ended by the ids of its processes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

MARK = "RAYOPT_TEST_HEAD"
START_S = 240


class Head:
    """Its home is below `folder`; `address` is its dashboard's."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.home, self.temp = folder / "home", folder / "ray"
        self.token_file = self.home / ".ray" / "auth_token"
        self.token_file.parent.mkdir(parents=True)
        self.token = secrets.token_hex(32)
        self.token_file.write_text(self.token)
        self.token_file.chmod(0o600)
        self.mark = secrets.token_hex(8)
        dashboard, agent, client, self.metrics_port = free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY")}
        environment |= {
            "HOME": str(self.home),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAYOPT_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(Path(__file__).parent.parent),
            MARK: self.mark,
            **variables,
        }
        words = ["start", "--head", "--block", "--port", "0", "--num-cpus", "2", "--temp-dir", str(self.temp)]
        words += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard), "--node-ip-address", "127.0.0.1"]
        words += ["--dashboard-agent-listen-port", str(agent), "--ray-client-server-port", str(client)]
        words += ["--metrics-export-port", str(self.metrics_port), "--min-worker-port", "0", "--max-worker-port", "0"]
        words += ["--object-store-memory", str(100 << 20), "--disable-usage-stats"]
        self._log = (folder / "start.log").open("wb")
        ray = Path(sys.executable).with_name("ray")
        self._process = subprocess.Popen(
            [ray, *words], env=environment, stdout=self._log, stderr=self._log, cwd=self.home
        )
        self._wait()

    @property
    def pid(self) -> int:
        """The process that all others of it have come of."""
        return self._process.pid

    @property
    def options(self) -> list[str]:
        """How a command is told of it."""
        return ["--address", self.address, "--token-file", str(self.token_file)]

    def stop(self) -> None:
        """Ends every process that has come of it, by its id."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    process.kill()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _wait(self) -> None:
        """Until its dashboard knows of the head."""
        request = urllib.request.Request(f"{self.address}/api/v0/nodes?detail=1")  # noqa: S310 - our own
        request.add_header("Authorization", f"Bearer {self.token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                with opener.open(request, timeout=5) as answer:
                    if b'"ALIVE"' in answer.read():
                        return
            except OSError:
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(Path(self._log.name).read_text()[-2000:])


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has just now, above those that Ray gives to its workers."""
    with ExitStack() as stack:
        found = []
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            if one.getsockname()[1] >= 20_000:
                found.append(one.getsockname()[1])
        return found
