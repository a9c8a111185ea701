"""The Backend that carries out calls as Ray tasks, on a Ray of this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.worker import get_dashboard_url
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from rayopt.backend import Call, Handle, Raised, Report, Returned, Vanished, describe, trace
from rayopt.errors import InputError, WorkError, input_error
from rayopt.onray import kept
from rayopt.onray.limits import Limits, forget
from rayopt.onray.nodes import Asked, Nodes
from rayopt.onray.processes import Family
from rayopt.onray.quiet import hushed
from rayopt.onray.token import private_token
from rayopt.provenance import forget_own_modules
from rayopt.runs.hidden import redact

STARTING = ("ray", "ray._private.worker", "ray._private.authentication")  # how Ray starts is not for the terminal
JUDGE_S = 2.0  # how often it is looked whether what waits can still run anywhere


@dataclass
class _Sent:
    """A call that is under way; `until`: when it is given up, if no node has what it asks for by then."""

    id: str
    asked: Asked
    limits: Limits
    until: float | None
    had_node: bool


class OnRay:
    """Calls as tasks. `address` is None for a Ray of our own on this machine, else a running cluster's.

    A call is tried once by Ray: whether it is tried again is the plan's decision. What no node has is waited for
    `patience_s` seconds, $RAYOPT_NODE_WAIT_S by default or not at all: a cluster that grows by itself takes minutes.
    """

    def __init__(self, address: str | None, cpus: int | None = None, patience_s: float | None = None) -> None:
        self._patience_s = named_patience_s() if patience_s is None else patience_s
        self._family: Family | None = None
        self._token: Path | None = None
        self._joined = ray.is_initialized()
        at = joined_address() or address
        self.name = f"Ray at {at}" if at else "a local Ray"
        if not self._joined:
            self._start(address, cpus)
        kept.dismiss()
        url = get_dashboard_url()  # type: ignore[no-untyped-call]
        asks = f" (it asks for the token in {self._token})" if self._token else ""
        self.dashboard: str | None = f"http://{url}{asks}" if url else None
        self._calls: dict[Any, _Sent] = {}
        self._refused: list[Report] = []
        self._nodes = Nodes()
        self._judged = time.monotonic()
        self._run = uuid.uuid4().hex

    @property
    def room(self) -> int:
        return self._nodes.room

    def put(self, value: Any) -> Handle:
        return Handle(ray.put(value))

    def submit(self, call: Call) -> Handle:
        asked = self._nodes.asked(call)
        until = None
        if not self._nodes.have(asked):
            self._nodes.look()
            asked = self._nodes.asked(call)
        if not self._nodes.have(asked):
            if not self._patience_s:  # Ray would keep it waiting for ever
                self._refused.append(Raised(call.id, f"no node has what it asks for: {asked}"))
                return Handle(None)
            until = time.monotonic() + self._patience_s
        args = [argument.value if isinstance(argument, Handle) else argument for argument in call.args]
        limits = Limits.of(f"{self._run}/{call.id}", call.need)
        task = _perform.options(name=call.name, max_retries=0, **asked.options)
        reference = task.remote(limits, call.code, call.function, *args)
        self._calls[reference] = _Sent(call.id, asked, limits, until, until is None)
        return Handle(reference)

    def wait(self, timeout_s: float) -> list[Report]:
        if self._refused or not self._calls:
            return self.drain()
        ended, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        self._judge()
        return self._reports(ended) + self.drain() if ended else self.drain()

    def drain(self) -> list[Report]:
        refused, self._refused = self._refused, []
        if not self._calls:
            return refused
        ended, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return refused + self._reports(ended)

    def _judge(self) -> None:
        """Gives up what waits for a node that has gone, or that did not come."""
        now = time.monotonic()
        if now - self._judged < JUDGE_S:
            return
        self._judged = now
        for reference, sent in list(self._calls.items()):
            if self._nodes.have(sent.asked):
                sent.until, sent.had_node = None, True
            elif sent.until is None:  # it was there: the cluster takes a moment to tell what ran on it from what waits
                sent.until = now + max(self._patience_s, 2 * JUDGE_S)
            elif now >= sent.until:
                with contextlib.suppress(RayError):
                    ray.cancel(reference, force=True)
                del self._calls[reference]
                # What had a node may have run on it and been lost with it; it is asked for anew.
                end = Vanished if sent.had_node else Raised
                self._refused.append(end(sent.id, f"no node has what it asks for: {sent.asked}"))

    def close(self) -> None:
        """Stops what still runs; a Ray of our own goes altogether."""
        with contextlib.suppress(Exception):  # a cluster that is gone has forgotten by itself
            forget(self._run)
        if self._family is not None:
            with _uninterrupted():
                self._end()
            return
        for reference in self._calls:
            with contextlib.suppress(RayError):
                ray.cancel(reference, force=True)
        self._calls.clear()
        if not self._joined:
            ray.shutdown()

    def _start(self, address: str | None, cpus: int | None) -> None:
        if address is None:
            self._token = private_token()
            self._family = Family()
        try:
            with _own_signals():
                _connect(address, cpus)
        except BaseException:  # an interrupt as well: what has started by then must not stay
            with _uninterrupted():
                self._end()
            raise

    def _end(self) -> None:
        if self._family is not None:
            self._family.look()
        ray.shutdown()
        if self._family is not None:
            self._family.end()

    def _reports(self, ended: list[Any]) -> list[Report]:
        return [self._report(self._calls.pop(reference), reference) for reference in ended]

    def _report(self, sent: _Sent, reference: Any) -> Report:
        try:
            value = ray.get(reference)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) and isinstance(error.cause, RayError) else error
            why = _why(sent.limits) if isinstance(cause, WorkerCrashedError) else None
            return Raised(sent.id, why) if why else Vanished(sent.id, _loss(cause))
        if isinstance(value, Raised):
            return Raised(sent.id, value.reason, value.trace)
        return Returned(sent.id, value.value, value.began, value.ended)


@dataclass(frozen=True)
class _Worked:
    """A result as it travels, with when the work on it began and ended."""

    value: Any
    began: float
    ended: float


@ray.remote
def _perform(limits: Limits, code: str, function: Any, *args: Any) -> _Worked | Raised:
    """The result, or a Raised in its place: an exception of a user's own class may not survive the journey."""
    if _last["code"] not in ("", code):
        forget_own_modules()
    _last["code"] = code
    given = [argument.value if isinstance(argument, _Worked) else argument for argument in args]
    began = time.time()
    try:
        with limits.enforced():
            return _Worked(function(*given), began, time.time())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a step raises ends that step only
        return Raised("", describe(error), trace())


_last = {"code": ""}  # the sources that this worker process has imported


def named_patience_s() -> float:
    """How long what no node has is waited for, by $RAYOPT_NODE_WAIT_S."""
    named = os.environ.get("RAYOPT_NODE_WAIT_S") or "0"
    try:
        return max(0.0, float(named))
    except ValueError:
        raise input_error(
            "RAYOPT_NODE_WAIT_S", f"{named!r} is no number of seconds", "write one, such as 300"
        ) from None


def _why(limits: Limits) -> str | None:
    """Why the process of a call was ended, as far as the cluster's memory can be asked."""
    try:
        return limits.why()
    except Exception:  # noqa: BLE001 - it may be gone with the process
        return None


def _loss(error: BaseException) -> str:
    if isinstance(error, WorkerCrashedError):
        return "its worker process died"
    if isinstance(error, OutOfMemoryError):
        return "its worker was ended for lack of memory"
    lines = redact(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def joined_address() -> str | None:
    """The address of a Ray that the caller has connected to already, None where there is none."""
    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


def _connect(address: str | None, cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    with hushed(*STARTING):
        try:
            if address is None:
                # `local` never joins a cluster that happens to run here; the dashboard is for this machine alone.
                ray.init("local", num_cpus=cpus, include_dashboard=True, dashboard_host="127.0.0.1", **quiet)
            else:
                ray.init(address, **quiet)
        except ConnectionError as error:
            raise _no_answer(address, error) from error
        except Exception as error:
            raise WorkError(f"Ray could not be started: {describe(error)}") from error


def knock(address: str) -> None:
    """Raises InputError unless somebody answers at `host:port`; Ray itself would try for minutes and not be stopped."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str | None, error: Exception) -> InputError:
    remedy = "give the address that `ray status` on the cluster's head names, `auto`, or `inprocess`"
    return input_error(f"--address {address}", f"no Ray answers there ({error})", remedy)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; whoever had it gets it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not stop the cleaning up after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
