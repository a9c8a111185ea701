"""The Backend that carries out calls as Ray tasks, on a Ray of this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private.worker import get_dashboard_url
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from rayopt.backend import Call, Handle, Raised, Report, Returned, Vanished, describe
from rayopt.errors import InputError, WorkError, input_error
from rayopt.onray import kept
from rayopt.onray.processes import Family
from rayopt.onray.token import private_token
from rayopt.provenance import forget_own_modules


class OnRay:
    """Calls as tasks. `address` is None for a Ray of our own on this machine, else a running cluster's.

    A call is tried once by Ray: whether it is tried again is the plan's decision.
    """

    def __init__(self, address: str | None, cpus: int | None = None) -> None:
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
        self._calls: dict[Any, str] = {}
        self._refused: list[Report] = []
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self._nodes: list[dict[str, float]] = [node["Resources"] for node in nodes if node["Alive"]]

    def put(self, value: Any) -> Handle:
        return Handle(ray.put(value))

    def submit(self, call: Call) -> Handle:
        asked = self._asked(call)
        if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in self._nodes):
            # Ray would keep it waiting for ever.
            self._refused.append(Raised(call.id, f"no node has what it asks for: {_words(asked)}"))
            return Handle(None)
        args = [argument.value if isinstance(argument, Handle) else argument for argument in call.args]
        options = {"num_cpus": asked["CPU"], "num_gpus": asked.get("GPU", 0), "memory": asked.get("memory")}
        reference = _perform.options(name=call.name, max_retries=0, **options).remote(call.code, call.function, *args)
        self._calls[reference] = call.id
        return Handle(reference)

    def wait(self, timeout_s: float) -> list[Report]:
        if self._refused or not self._calls:
            return self.drain()
        ended, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        return self._reports(ended) + self.drain() if ended else []

    def _asked(self, call: Call) -> dict[str, float]:
        """What a call asks of a node; an exclusive one asks for all CPUs of the largest."""
        largest = max((node.get("CPU", 0) for node in self._nodes), default=1)
        asked = {"CPU": largest if call.exclusive else call.need.cpus}
        if call.need.gpus:
            asked["GPU"] = call.need.gpus
        if call.need.memory_bytes:
            asked["memory"] = call.need.memory_bytes
        return asked

    def drain(self) -> list[Report]:
        refused, self._refused = self._refused, []
        if not self._calls:
            return refused
        ended, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return refused + self._reports(ended)

    def close(self) -> None:
        """Stops what still runs; a Ray of our own goes altogether."""
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
        return [_report(self._calls.pop(reference), reference) for reference in ended]


@ray.remote
def _perform(code: str, function: Any, *args: Any) -> Any:
    """The result, or a Raised in its place: an exception of a user's own class may not survive the journey."""
    if _last["code"] not in ("", code):
        forget_own_modules()
    _last["code"] = code
    try:
        return function(*args)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a step raises ends that step only
        return Raised("", describe(error), traceback.format_exc())


_last = {"code": ""}  # the sources that this worker process has imported


def _words(asked: Mapping[str, float]) -> str:
    units = {"CPU": "CPUs", "GPU": "GPUs", "memory": "bytes of memory"}
    return ", ".join(f"{amount:,g} {units[name]}" for name, amount in asked.items())


def _report(id: str, reference: Any) -> Report:
    try:
        value = ray.get(reference)
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, RayError) else error
        return Vanished(id, _loss(cause))
    except RayError as error:
        return Vanished(id, _loss(error))
    return Raised(id, value.reason, value.trace) if isinstance(value, Raised) else Returned(id, value)


def _loss(error: BaseException) -> str:
    if isinstance(error, WorkerCrashedError):
        return "its worker process died"
    if isinstance(error, OutOfMemoryError):
        return "its worker was ended for lack of memory"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def joined_address() -> str | None:
    """The address of a Ray that the caller has connected to already, None where there is none."""
    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


def _connect(address: str | None, cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    with _quiet():
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's own lines about how it starts are kept from the terminal; its errors come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray._private.worker", "ray._private.authentication")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
