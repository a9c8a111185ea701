"""Jobs of a cluster from outside, through Ray's job submission: every question has a time limit and a clear answer."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from rayopt.cluster.demand import Machine
from rayopt.cluster.files import is_here
from rayopt.cluster.following import LostError, UnknownError
from rayopt.cluster.submission import ENDED, HELPER, Order, Submission, entrypoint
from rayopt.errors import Fault, WorkError, did_you_mean, input_error
from rayopt.onray.quiet import hushed
from rayopt.runs.files import BLOCK_BYTES

CONNECT_S, ANSWER_S, UPLOAD_S = 5.0, 30.0, 600.0
SUBMIT_S = 60.0  # how long a submission is tried through a line that is lost
HEAD_WAIT_S = 20.0
MAX_ID = 1000
UPLOADING = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.utils")  # their lines are for who debugs Ray
OWN_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray takes them for more than what it is asked for
PYTHON = re.compile(r"--python_worker_command=(.+?) \S*setup_worker\.py ")


class Submissions:
    """The jobs of the cluster whose dashboard is at `address`, an `http://` one. Raises InputError where none answers.

    Whatever is asked raises LostError while the cluster cannot be asked, InputError for a token that it does not take.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address if "://" in address else f"http://{address}"
        parts = urlsplit(self._address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            remedy = "give the dashboard's, such as http://127.0.0.1:8265, or --cluster FILE"
            raise input_error(f"--address {address}", "is no address of a dashboard", remedy)
        if parts.username or parts.password:
            raise input_error("--address", "holds a password", "give a token with --token-file")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        with _without_own_addresses(), hushed(*UPLOADING), self._answers():
            self._client = _Client(self._address, headers=dict(self._headers))

    def submit(self, order: Order, environment: Mapping[str, Any], package: Path) -> bool:
        """Submits a job with its packed working directory, once; False where its id is another's.

        Raises WorkError, with the id, once the cluster could not be asked for SUBMIT_S: the job may run.
        """
        until = time.monotonic() + SUBMIT_S
        sent, refused = False, None
        while True:
            try:
                there = self._there(order.id) if sent else None
                if there is not None:
                    return there.metadata == order.metadata
                if refused is not None:
                    raise WorkError(f"the cluster refuses the job: {_last_line(refused)}") from refused
                sent = True
                self._send(order, environment, package)
                return True
            except LostError as error:
                if time.monotonic() > until:
                    problem = f"the cluster has not answered for {SUBMIT_S:.0f} s ({error}), and may run {order.id}"
                    raise WorkError(f"{problem}; `rayopt jobs status {order.id}` tells") from error
                time.sleep(1)
            except RuntimeError as error:  # also where an earlier try has arrived, or another's of that id
                refused = error

    def _send(self, order: Order, environment: Mapping[str, Any], package: Path) -> None:
        with self._answers(), hushed(*UPLOADING):
            self._client.submit_job(
                entrypoint=entrypoint(order.words),
                runtime_env={**environment, "working_dir": str(package)},
                submission_id=order.id,
                metadata=order.metadata,
            )

    def start(self, id: str, words: tuple[str, ...]) -> None:
        """Starts a command of our own on the head, with nothing but what is there."""
        try:
            with self._answers(), hushed(*UPLOADING):
                self._client.submit_job(entrypoint=entrypoint(words), submission_id=id)
        except RuntimeError as error:
            raise WorkError(f"the cluster refuses to run a command: {_last_line(error)}") from error

    def all(self) -> list[Submission]:
        """Every submission that the cluster remembers, newest first."""
        told = [one for one in self._get("/api/jobs/") if one.get("submission_id")]
        found = [_submission(one) for one in told if not one["submission_id"].startswith(HELPER)]
        return sorted(found, key=lambda one: -(one.began or 0))

    def status(self, id: str) -> Submission:
        """What became of a submission; raises UnknownError for an id that the cluster does not know."""
        return _submission(self._told(id))

    def find(self, id: str) -> Submission:
        """The submission of that id, or the newest one of that name; raises InputError for what can be neither.

        What others submitted has no name: the empty one would find it.
        """
        if id in ("", ".", "..") or len(id) > MAX_ID or not id.isprintable():
            raise input_error("ID", f"{id[:40]!r} is no id or name of a job", "see `rayopt jobs list`")
        named = [one for one in self.all() if id in (one.id, one.name)]
        return named[0] if named else self.status(id)

    def log(self, id: str) -> bytes:
        """All that a submission has said so far."""
        told = self._told(id)
        if told.get("driver_node_id") is None:
            return b""
        query = f"node_id={told['driver_node_id']}&filename=job-driver-{quote(id, safe='')}.log"
        answer = self._ask("GET", f"/api/v0/logs/file?{query}&lines=-1&timeout={ANSWER_S:.0f}")
        if answer.status_code == 200:
            return bytes(answer.content)
        if "file is not found" in answer.text:
            return b""
        raise LostError(f"the log cannot be read: {_short(answer)}")

    def stop(self, id: str, timeout_s: float) -> Submission:
        """Stops a submission and waits for its end; raises InputError for one that has ended already."""
        before = self.status(id)
        if before.is_over:
            raise input_error(id, f"has ended already: {before.status}", f"see `rayopt jobs logs {id}`")
        _data(self._ask("POST", f"/api/jobs/{quote(id, safe='')}/stop"))
        until = time.monotonic() + timeout_s
        while not (now := self.status(id)).is_over:
            if time.monotonic() > until:
                raise WorkError(f"{id} has not ended within {timeout_s:.0f} s; it was told to")
            time.sleep(0.2)
        return now

    def machines(self) -> list[Machine]:
        """What the nodes have that are alive."""
        return [Machine(node["resources_total"], node.get("labels") or {}) for node in self._nodes()]

    def head(self) -> Mapping[str, Any]:
        """What is known of the head: `node_id`, the `python` that its Ray runs by, and the folder of its `logs`."""
        until = time.monotonic() + HEAD_WAIT_S  # one that has just started is told of a moment later
        while (head := next((node for node in self._nodes() if node["is_head_node"]), None)) is None:
            if time.monotonic() > until:
                raise WorkError(f"the cluster at {self._address} tells of no head")
            time.sleep(0.5)
        detail = self._get(f"/nodes/{head['node_id']}")["data"]["detail"]
        found = PYTHON.search(" ".join(detail.get("cmdline") or ()))
        logs = f"{detail['raylet']['sessionDir']}/logs"
        return {"node_id": head["node_id"], "python": found[1] if found else "python3", "logs": logs}

    def download(self, node_id: str, name: str) -> Iterator[bytes]:
        """A file among the logs of a node, block by block."""
        query = f"node_id={node_id}&filename={quote(name, safe='')}&lines=-1&timeout={UPLOAD_S:.0f}"
        answer = self._ask("GET", f"/api/v0/logs/file?{query}", stream=True)
        if answer.status_code != 200:
            raise LostError(f"{name} cannot be read: {_short(answer)}")
        try:
            yield from answer.iter_content(BLOCK_BYTES)
        except requests.RequestException as error:
            raise LostError(_reason(error)) from error

    def _told(self, id: str) -> dict[str, Any]:
        answer = self._ask("GET", f"/api/jobs/{quote(id, safe='')}")
        if answer.status_code == 404:
            known = [one.id for one in self.all()]
            raise UnknownError([Fault(id, "the cluster knows no job of that id", did_you_mean(id, known))])
        told: dict[str, Any] = _data(answer)
        return told

    def _there(self, id: str) -> Submission | None:
        try:
            return self.status(id)
        except UnknownError:
            return None

    def _nodes(self) -> list[dict[str, Any]]:
        told = self._get("/api/v0/nodes?detail=1&limit=10000")["data"]["result"]["result"]
        return [node for node in told if node["state"] == "ALIVE"]

    def _get(self, path: str) -> Any:
        return _data(self._ask("GET", path))

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        with self._answers():
            answer: requests.Response = self._client._do_request(method, path, **options)
        if answer.status_code in (502, 503, 504):
            raise LostError(_short(answer))
        return answer

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """What the network and the dashboard say, as errors of ours."""
        place = f"the cluster at {self._address}"
        try:
            yield
        except AuthenticationError as error:
            asks = "a token" if not self._headers else "another token: this one is wrong or no longer good"
            remedy = "give the file of the cluster's token with --token-file, or the cluster's file with --cluster"
            raise input_error(place, f"asks for {asks}", remedy) from error
        except (requests.ConnectionError, requests.Timeout, ConnectionError) as error:
            raise LostError(_reason(error)) from error
        except (requests.RequestException, ValueError) as error:
            raise input_error(place, f"is not answered by Ray ({_reason(error)})", "check the address") from error


class _Client(JobSubmissionClient):
    """Ray's client, which would wait for ever, with time limits; and what is on this machine needs no proxy."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        options.setdefault("timeout", (CONNECT_S, UPLOAD_S if method == "PUT" else ANSWER_S))
        if is_here(urlsplit(self._address).hostname or ""):
            options.setdefault("proxies", {"http": None, "https": None})
        return super()._do_request(method, endpoint, **options)


def _submission(told: Mapping[str, Any]) -> Submission:
    began, ended = told.get("start_time"), told.get("end_time")
    return Submission(
        id=str(told["submission_id"]),
        status=str(told["status"]),
        message=str(told.get("message") or ""),
        exit_code=told.get("driver_exit_code"),
        began=began / 1000 if began else None,
        ended=ended / 1000 if ended and told["status"] in ENDED else None,
        metadata=told.get("metadata") or {},
    )


def _data(answer: requests.Response) -> Any:
    if answer.status_code != 200:
        raise LostError(_short(answer))
    return answer.json()


def _short(answer: requests.Response) -> str:
    return f"{answer.status_code} {_last_line(answer.text)}"


def _last_line(said: object) -> str:
    lines = [line.strip() for line in str(said).splitlines() if re.search(r"\w", line)]
    return lines[-1][:300] if lines else "no word"


def _reason(error: BaseException) -> str:
    """Why a connection failed, without the layers of libraries around it."""
    said = f"{error} {error.__context__ or ''}"
    found = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)|(timed out)", said)
    return (found[1] or found[2]).lower() if found else type(error).__name__


@contextlib.contextmanager
def _without_own_addresses() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in OWN_ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
