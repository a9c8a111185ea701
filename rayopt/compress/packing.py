"""Whole numbers of any width packed into bytes, without a bit between them.

A number of 7 bits is cut into planes of 4, 2 and 1 bits, and each plane is packed by itself: so a byte holds 2, 4 or 8
whole pieces, and a reader needs only a shift and a remainder for each plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ALIGNED = 8  # planes of one bit hold eight numbers a byte: counts are padded to a multiple of this


def plane_widths(bits: int) -> list[int]:
    """The bits of each plane, lowest first: 13 is 8, 4 and 1."""
    widths = [8] * (bits // 8)
    return widths + [width for width in (4, 2, 1) if bits % 8 & width]


def pack(codes: Array, bits: int) -> list[Array]:
    """The planes of unsigned numbers below `2 ** bits` as uint8 arrays, lowest first; padded with zeros."""
    flat = np.zeros(padded(codes.size), np.uint16)
    flat[: codes.size] = codes.reshape(-1)
    planes, offset = [], 0
    for width in plane_widths(bits):
        pieces = (flat >> offset & (2**width - 1)).astype(np.uint8).reshape(-1, 8 // width)
        planes.append(np.bitwise_or.reduce(pieces << shifts(width), axis=1))
        offset += width
    return planes


def unpack(planes: Sequence[Array], bits: int, count: int) -> Array:
    """The first `count` numbers of packed planes, as uint8 or for more than 8 bits uint16."""
    flat, offset = np.zeros(padded(count), np.uint16), 0
    for width, plane in zip(plane_widths(bits), planes, strict=True):
        pieces = plane[:, None] >> shifts(width) & np.uint8(2**width - 1)
        flat |= pieces.reshape(-1).astype(np.uint16) << np.uint16(offset)
        offset += width
    return flat[:count].astype(np.uint8 if bits <= 8 else np.uint16)


def split(packed: Array, bits: int, count: int) -> list[Array]:
    """The planes of `count` numbers that lie one after another in one array of bytes."""
    ends = np.cumsum([padded(count) * width // 8 for width in plane_widths(bits)])
    return np.split(packed, ends[:-1])


def padded(count: int) -> int:
    """The count that is packed for `count` numbers."""
    return -(-count // ALIGNED) * ALIGNED


def shifts(width: int) -> Array:
    """By how many bits the pieces of one byte are shifted."""
    return np.arange(0, 8, width, dtype=np.uint8)
