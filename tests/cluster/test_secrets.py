"""Secrets: named, never written down; read on the node; left out of what is printed."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayopt.cluster import secrets
from rayopt.cluster.secrets import Secret, leaks, leaks_in, parse, written
from rayopt.errors import InputError
from rayopt.runs.hidden import VARIABLE, redact
from rayopt.watch import log, logging_to

VALUE = "c0rrect-horse-battery"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's streams and log records are put back."""
    factory, out, err = logging.getLogRecordFactory(), sys.stdout, sys.stderr
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    logging.setLogRecordFactory(factory)
    sys.stdout, sys.stderr = out, err


def test_a_secret_is_a_name_and_perhaps_a_path() -> None:
    assert parse("HF_TOKEN") == Secret("HF_TOKEN")
    assert parse("HF_TOKEN=/run/hf") == Secret("HF_TOKEN", "/run/hf")
    assert parse("HF_TOKEN=~/hf") == Secret("HF_TOKEN", "~/hf")
    assert secrets.named({VARIABLE: written([Secret("A"), Secret("B", "/b")])}) == (
        Secret("A"),
        Secret("B", "/b"),
    )


@pytest.mark.parametrize("text", [f"HF_TOKEN={VALUE}", "=x", "1A", "a b", f"HF_TOKEN={VALUE}/x"])
def test_a_value_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert VALUE not in str(caught.value)


def told(monkeypatch: pytest.MonkeyPatch, *those: Secret) -> None:
    monkeypatch.setenv(VARIABLE, written(those))


def test_values_come_from_the_environment_or_from_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text(VALUE + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("OWN_TOKEN", "there")
    monkeypatch.setenv("FILE_TOKEN", "stale")
    told(monkeypatch, Secret("OWN_TOKEN"), Secret("FILE_TOKEN", str(path)))
    secrets.load()
    import os

    assert (os.environ["OWN_TOKEN"], os.environ["FILE_TOKEN"]) == ("there", VALUE)


def test_every_secret_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all, empty = tmp_path / "open", tmp_path / "empty"
    open_to_all.write_text(VALUE)
    open_to_all.chmod(0o644)
    empty.write_text("\n")
    empty.chmod(0o600)
    monkeypatch.delenv("NO_TOKEN", raising=False)
    told(monkeypatch, Secret("NO_TOKEN"), Secret("B", str(open_to_all)), Secret("C", str(empty)), Secret("D", "/no"))
    with pytest.raises(InputError) as caught:
        secrets.load()
    said = [str(fault) for fault in caught.value.faults]
    assert [next(name for name in ("NO_TOKEN", "B", "C", "D") if f"secret {name} on" in one) for one in said] == [
        *("NO_TOKEN", "B", "C", "D"),
    ]
    assert "chmod 600" in said[1]
    assert VALUE not in "".join(said)


def test_nothing_that_is_printed_or_logged_holds_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("OWN_TOKEN", VALUE)
    told(monkeypatch, Secret("OWN_TOKEN"))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    secrets.setup()
    sys.stdout.write(f"before {VALUE} after\n")
    sys.stderr.writelines([VALUE, "\n"])
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "a %s b", (VALUE,), None)
    assert out.getvalue() == "before *** after\n***\n"
    assert record.getMessage() == "a *** b"
    assert redact(f"{VALUE}{VALUE}") == "******"


@pytest.mark.parametrize("cut", range(1, len(VALUE)))
def test_a_value_that_is_written_in_parts_is_left_out(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    out = io.StringIO()
    monkeypatch.setenv("OWN_TOKEN", VALUE)
    told(monkeypatch, Secret("OWN_TOKEN"))
    stream = secrets.Hiding(out)
    for part in ("it is ", VALUE[:cut], VALUE[cut:], " and no ", VALUE[:cut], "\n", VALUE[:cut]):
        stream.write(part)
    assert out.getvalue() == f"it is *** and no {VALUE[:cut]}\n"
    stream.release()
    assert out.getvalue() == f"it is *** and no {VALUE[:cut]}\n{VALUE[:cut]}"


@pytest.mark.parametrize("value", [VALUE, 'with "quotes" and \\', "pässwörd-42"])
def test_nothing_in_the_logs_of_a_run_holds_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Not in what is said, nor in fields, nor in a traceback; the lines of JSON still are JSON."""
    monkeypatch.setenv("OWN_TOKEN", value)
    told(monkeypatch, Secret("OWN_TOKEN"))
    with logging_to(tmp_path / "log.txt"):
        log.info("it is %s", value, extra={"fields": {"reason": value, "more": [value], "path": Path(value)}})
        try:
            raise ValueError(value)
        except ValueError:
            log.info("failed", exc_info=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [lines[0][key] for key in ("message", "reason", "more", "path")] == ["it is ***", "***", ["***"], "***"]
    assert lines[1]["trace"].endswith("ValueError: ***")
    assert (tmp_path / "log.txt").read_text().count("***") == 2
    assert value not in (tmp_path / "log.txt").read_text()


def test_tracebacks_of_other_handlers_hold_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TOKEN", VALUE)
    told(monkeypatch, Secret("OWN_TOKEN"))
    secrets.setup()
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger("another library")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError(VALUE)
    except ValueError:
        logger.exception("failed")
    logger.removeHandler(handler)
    assert "ValueError: ***" in said.getvalue()
    assert VALUE not in said.getvalue()


class Silent:
    """What has no text."""

    def __repr__(self) -> str:
        raise ValueError(VALUE)


def test_a_faulty_log_call_is_no_error_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself only complains about one, and its stack holds no value either."""
    monkeypatch.setenv("MINE", VALUE)
    told(monkeypatch, Secret("MINE"))
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    logger = logging.getLogger("theirs")
    logger.addHandler(handler)
    secrets.hide()
    try:
        logger.warning(f"value %d of {VALUE}", VALUE)
        logger.warning("two %s %s", 1)
        logger.warning("%s", "c0rrect-horse-battery", stack_info=True)  # the stack shows this line
        logger.warning("%s", Silent())
    finally:
        logger.removeHandler(handler)
    cannot = "a message that cannot be written"
    assert [one.getMessage() for one in records] == ["value %d of *** ('***',)", "two %s %s (1,)", "***", cannot]
    stacks = str([one.stack_info for one in records])
    assert "***" in stacks
    assert VALUE not in stacks


def test_without_secrets_nothing_is_wrapped() -> None:
    before = sys.stdout
    secrets.setup()
    assert sys.stdout is before


def test_a_field_that_is_named_as_a_secret_is_one() -> None:
    data = {
        "args": {"password": VALUE, "tokenizer": "bert-base", "max_tokens": "1024000", "token": "cls"},
        "steps": [{"aws_secret_access_key": VALUE}, {"api_key": "/run/secrets/key"}, {"api_key": None}],
    }
    faults = leaks_in(data, lambda at: ".".join(map(str, at)))
    assert [fault.place for fault in faults] == ["args.password", "steps.0.aws_secret_access_key"]
    assert VALUE not in "".join(map(str, faults))


def test_what_looks_like_a_secret_is_found_and_not_repeated() -> None:
    texts = {
        "a": "out: s3://key:hunter22@bucket",
        "b": "AKIAABCDEFGHIJKLMNOP",
        "c": f"x: {VALUE}",
        "d": "-----BEGIN RSA PRIVATE KEY-----",
        "e": "name: quickstart\nout: s3://bucket/path\nurl: http://127.0.0.1:8265/a@b",
    }
    faults = leaks(texts, {"MY_API_KEY": VALUE, "HOME": "/root", "SHORT_TOKEN": "name"})
    assert [fault.place for fault in faults] == ["a", "b", "c", "d"]
    assert "$MY_API_KEY" in faults[2].problem
    assert VALUE not in "".join(map(str, faults))
