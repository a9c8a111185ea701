"""How deep a model's graphs are nested, read from the bytes alone: protobuf refuses to parse what is too deep."""

from __future__ import annotations

from collections.abc import Iterator

# The fields that lead from one message into nested graphs, by the kind of message (onnx.proto3).
INTO = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}


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


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
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


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number without an end")
