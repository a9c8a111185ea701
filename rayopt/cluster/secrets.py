"""Secrets on the nodes: named by a job, never sent with it, and kept out of what it says.

A secret is the name of an environment variable. Its value is in the environment of the nodes, or in a file on them;
what travels is the name and the path alone. Every process of a job reads them when it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rayopt.errors import Fault, InputError, input_error
from rayopt.runs.hidden import MIN_LENGTH, hidden_values, places, redact
from rayopt.yamltext import Location

SETUP = "rayopt.cluster.secrets.setup"  # Ray calls it in every worker process of a job
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET_NAME = re.compile(
    r"(?i).*(token|secret|passw(or)?d|passphrase|credential|api_?key|access_?key|private_?key|connection_?string).*"
)
NO_SECRETS = re.compile(r"(?i).*(_file|_path|_url|_uri|_mode|_name|_id|_limit|_count)|tokenizers_.*|.*max_tokens")
FIELD = re.compile(  # of a job, which has fields such as `tokenizer` and `max_tokens` as well
    r"(?i)(.*_)?(token|secret|passw(or)?d|passphrase|credentials?|api_?key|access_?key|private_?key|connection_?string)"
)
IN_TEXT = (
    (re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"), "an address with a password in it"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\b(ghp|gho|ghs|github_pat|glpat|hf|sk|xox[abp])[_-][A-Za-z0-9_-]{20,}"), "an access token"),
)
REMEDY = "take it out, and name a variable or file of the nodes with --secret NAME or NAME=/path"


@dataclass(frozen=True)
class Secret:
    """An environment variable of a job; `path`: the file on the nodes with its value, None where they have it set."""

    name: str
    path: str | None = None


def parse(text: str) -> Secret:
    """`NAME` or `NAME=/path/on/the/node`; raises InputError for anything else, without repeating it."""
    name, equals, path = text.partition("=")
    if not NAME.fullmatch(name):
        raise input_error("--secret", "begins with no name of an environment variable", "write NAME or NAME=/path")
    if equals and not (path.startswith(("/", "~/")) and "\0" not in path):
        problem = "is not followed by an absolute path"  # it may be the secret itself
        raise input_error(f"--secret {name}", problem, "write the path of a file on the nodes, never the value")
    return Secret(name, path or None)


def written(secrets: Iterable[Secret]) -> str:
    """What travels in the variable that names them."""
    return json.dumps({secret.name: secret.path for secret in secrets})


def named(environ: Mapping[str, str] = os.environ) -> tuple[Secret, ...]:
    """The secrets that this process was told of."""
    return tuple(Secret(name, path) for name, path in places(environ).items())


def load() -> None:
    """Puts what this process was told of into its environment; raises InputError for each that is not on this node."""
    faults: list[Fault] = []
    for secret in named():
        try:
            os.environ[secret.name] = _value(secret)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)


def setup() -> None:
    """`load` for worker processes: one that lacks a secret starts all the same, and what it prints is kept clean."""
    try:
        load()
    except InputError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the worker's log on its node
    hide()


def hide() -> None:
    """From now on no value shows in what Python prints or logs in this process."""
    if not hidden_values():
        return
    streams = Hiding(sys.stdout), Hiding(sys.stderr)
    sys.stdout, sys.stderr = streams
    for stream in streams:
        atexit.register(stream.release)
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.msg, record.args = redact(_said(record)), ()
        record.stack_info = redact(record.stack_info) if record.stack_info else None
        if record.exc_info:  # formatters take the text that is there
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(factory)


def _said(record: logging.LogRecord) -> str:
    """What a log call says; a faulty one is no reason to fail, as it is none to Python."""
    with contextlib.suppress(Exception):
        return record.getMessage()
    with contextlib.suppress(Exception):
        return f"{record.msg} {record.args!r}"
    return "a message that cannot be written"


class Hiding:
    """A text stream that leaves out secrets, and is otherwise the one below.

    The end of what was written waits for the next words where a secret may begin with it.
    """

    def __init__(self, below: IO[str]) -> None:
        self._below = below
        self._waiting = ""
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def write(self, text: str) -> int:
        with self._lock:
            whole = redact(self._waiting + text)
            end = len(whole) - _begun(whole)
            self._waiting = whole[end:]
            self._below.write(whole[:end])
        return len(text)

    def release(self) -> None:
        """Writes what waits: nothing comes any more."""
        with self._lock, contextlib.suppress(OSError, ValueError):  # the stream may be closed
            left, self._waiting = self._waiting, ""
            self._below.write(left)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


def _begun(text: str) -> int:
    """How many characters at the end of a text may be the beginning of a secret."""
    last = text[-1:]
    sizes = [
        size
        for value in hidden_values()
        for size in range(1, len(value))
        if value[size - 1] == last and text.endswith(value[:size])
    ]
    return max(sizes, default=0)


def leaks(texts: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> list[Fault]:
    """A fault for each text, by place, that holds a secret: one known by its form, or a value of our variables."""
    own = {
        name: value
        for name, value in environ.items()
        if SECRET_NAME.fullmatch(name) and not NO_SECRETS.fullmatch(name) and len(value) >= 2 * MIN_LENGTH
    }
    faults = []
    for place, text in texts.items():
        found = [what for pattern, what in IN_TEXT if pattern.search(text)]
        found += [f"the value of your ${name}" for name, value in own.items() if value in text]
        faults += [Fault(place, f"holds {what}", REMEDY) for what in found]
    return faults


def leaks_in(data: Any, place: Callable[[Location], str], at: Location = ()) -> list[Fault]:
    """A fault for each text that a mapping has under the name of a secret, such as `password:`; paths are none."""
    inner = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    faults = []
    for key, value in inner:
        if isinstance(key, str) and FIELD.fullmatch(key) and _may_be_secret(value):
            faults.append(Fault(place((*at, key)), "looks like a secret", REMEDY))
        faults += leaks_in(value, place, (*at, key))
    return faults


def _may_be_secret(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= MIN_LENGTH and not value.startswith(("/", "~/"))


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name is likely to hold a secret."""
    return bool(SECRET_NAME.fullmatch(name)) and not NO_SECRETS.fullmatch(name)


def _value(secret: Secret) -> str:
    place = f"the secret {secret.name} on {socket.gethostname()}"
    if secret.path is None:
        if not os.environ.get(secret.name):
            problem = "is not in the environment that Ray was started with"
            raise input_error(place, problem, "set it there, or keep it in a file: --secret NAME=/path")
        return os.environ[secret.name]
    path = Path(secret.path).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise input_error(place, f"{path} can be read by others", f"chmod 600 {path}")
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise input_error(place, f"{path} cannot be read: {why}", "put the file on every node") from error
    if not value:
        raise input_error(place, f"{path} is empty", "write the value into it")
    return value
