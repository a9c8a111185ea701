"""What is told of a model by its bytes alone: how deep its graphs are nested, which protobuf refuses to parse where it
is too deep, and where its external data lies, for whoever does not want to parse a file that somebody else wrote."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Sequence

Bytes = bytes | mmap.mmap

# The fields that lead from one message into nested graphs, by the kind of message (onnx.proto3).
INTO = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
TO_EXTERNAL = (7, 5, 13)  # a model's graph, its initialisers, and what they say of external data


def graph_depth(content: bytes) -> int | None:
    """The depth of the deepest graph (the model's own: 1), None where the bytes are no protobuf message."""
    deepest = 0
    stack = [("model", 0, len(content), 0)]
    try:
        while stack:
            kind, start, end, depth = stack.pop()
            depth += kind in ("graph", "function")
            deepest = max(deepest, depth)
            for number, at, until in _fields(content, start, end):
                inner = INTO[kind].get(number)
                if inner is not None:
                    stack.append((inner, at, until, depth))
    except (IndexError, ValueError):
        return None
    return deepest


def external_locations(content: Bytes) -> set[str]:
    """Where the initialisers of the outermost graph say that their data lies; what cannot be read says nothing."""
    found = set()
    with contextlib.suppress(IndexError, ValueError):
        for at, until in _along(content, (0, len(content)), TO_EXTERNAL):
            entry = {number: content[start:end] for number, start, end in _fields(content, at, until)}
            if entry.get(1) == b"location":
                found.add(bytes(entry.get(2, b"")).decode())
    return found


def _along(content: Bytes, where: tuple[int, int], path: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the messages are that lie in each other under the numbers of `path`."""
    if not path:
        yield where
        return
    for number, at, until in _fields(content, *where):
        if number == path[0]:
            yield from _along(content, (at, until), path[1:])


def _fields(content: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields of a message: number, where the content begins, and where it ends."""
    while at < end:
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(content, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            size, at = _varint(content, at)
            if at + size > end:
                raise ValueError("a field is longer than what holds it")
            yield tag >> 3, at, at + size
            at += size
        else:
            raise ValueError("no wire type of ONNX")


def _varint(content: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number without an end")
