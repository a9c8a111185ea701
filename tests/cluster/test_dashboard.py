"""The dashboard's answers as values, and everything that is no answer as an error; by a server that speaks as Ray's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rayopt.cluster.dashboard import Dashboard, Node, Running, plain_name
from rayopt.errors import WorkError

NODE = {"node_ip": "10.0.0.2", "state": "ALIVE", "is_head_node": False, "resources_total": {"CPU": 2.0}}
DEAD = {"node_ip": "10.0.0.1", "state": "DEAD", "is_head_node": False, "state_message": "gone"}
HEAD = {"node_ip": "10.0.0.9", "state": "ALIVE", "is_head_node": True, "resources_total": {"CPU": 4.0}}
JOBS = [
    {"submission_id": "one", "status": "SUCCEEDED", "entrypoint": "a"},
    {"submission_id": "two", "status": "RUNNING", "entrypoint": "b"},
    {"submission_id": None, "job_id": "03000000", "status": "RUNNING", "entrypoint": ""},
    {"submission_id": "three", "status": "PENDING", "entrypoint": "c"},
]
USAGE = {"CPU": [1.0, 6.0], "objectStoreMemory": [5.0, 9.0]}
ANSWERS: dict[str, Any] = {
    "/api/v0/nodes?detail=1&limit=10000": {"data": {"result": {"result": [NODE, DEAD, HEAD]}}},
    "/api/jobs/": JOBS,
    "/api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": {"usage": USAGE}}}},
}


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Any]], str]]:
    """Serves JSON by path, or the status where a number stands; whoever has no token gets 401, a wrong one 403."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                answer = 401 if given is None else 403 if given != "Bearer right" else answers.get(self.path, 404)
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(answer if isinstance(answer, int) else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_answers_are_read(serve: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never for a tunnel of our own
    dashboard = Dashboard(serve(ANSWERS), "right")
    assert dashboard.nodes() == [
        Node("10.0.0.9", True, True, {"CPU": 4.0}),
        Node("10.0.0.2", True, False, {"CPU": 2.0}),
        Node("10.0.0.1", False, False, {}, "gone"),
    ]
    assert dashboard.running() == [
        Running("two", "RUNNING", "b"),
        Running("driver 03000000", "RUNNING", ""),
        Running("three", "PENDING", "c"),
    ]
    assert dashboard.taken() == {"cpu": 1.0, plain_name("object_store_memory"): 5.0}


def test_a_cluster_that_has_not_counted_yet_has_taken_nothing(serve: Callable[[dict[str, Any]], str]) -> None:
    for answer in ({"data": {"clusterStatus": None}}, {"data": {"clusterStatus": {"loadMetricsReport": None}}}):
        assert Dashboard(serve({"/api/cluster_status": answer}), "right").taken() == {}


@pytest.mark.parametrize(
    ("answer", "token", "words"),
    [(JOBS, "wrong", "it refuses our token"), (500, "right", "HTTP 500"), (b"<html>", "right", "does not answer")],
)
def test_what_is_no_answer_is_an_error(
    serve: Callable[[dict[str, Any]], str], answer: Any, token: str, words: str
) -> None:
    with pytest.raises(WorkError, match=words):
        Dashboard(serve({"/api/jobs/": answer}), token).running()


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(WorkError, match="does not answer"):
        Dashboard("http://127.0.0.1:9", "right").running()
