"""The dims, types and data of tensors in a file that somebody else wrote: what they say must be what is there."""

from __future__ import annotations

import math
from typing import Any

from rayopt.graph.external import is_external
from rayopt.graph.verdicts import Refused

MAX_TENSOR_BYTES = 1 << 40


def tensor_bytes(tensor: Any) -> int:
    """The bytes of a tensor's data as its dims and type say; raises Refused where the data is not what they say."""
    name = tensor.name or "a constant"
    if any(dim < 0 for dim in tensor.dims):
        raise Refused("bad_dimension", f"{name!r} has a negative dimension")
    bits = element_bits(tensor.data_type)
    if bits is None:
        raise Refused("bad_tensor", f"{name!r} is of the unknown type {tensor.data_type}")
    count = int(math.prod(tensor.dims))
    size = (count * bits + 7) // 8
    if is_external(tensor):
        if bits == 0:
            raise Refused("bad_tensor", f"{name!r} is of text, which cannot be external")
        return size
    if size > MAX_TENSOR_BYTES or count > MAX_TENSOR_BYTES:
        raise Refused("short_data", f"{name!r} says that it has {count:,} elements")
    if tensor.HasField("raw_data"):
        there = len(tensor.raw_data)
        if there != size:
            raise Refused("short_data", f"{name!r} needs {size:,} bytes and has {there:,}")
        return size
    there = _typed_count(tensor)
    if there != _expected(tensor.data_type, count):
        raise Refused("short_data", f"{name!r} needs {count:,} elements and has {there:,}")
    return size


def element_bits(data_type: int) -> int | None:
    """The bits of one element of a type, 0 for text, None for a type that is not known."""
    from onnx import TensorProto

    return _bits(TensorProto).get(data_type)


def _bits(proto: Any) -> dict[int, int]:
    if not _BITS:
        sizes = {
            64: ("DOUBLE", "INT64", "UINT64", "COMPLEX64"),
            128: ("COMPLEX128",),
            32: ("FLOAT", "INT32", "UINT32"),
            16: ("FLOAT16", "BFLOAT16", "INT16", "UINT16"),
            8: (
                "INT8",
                "UINT8",
                "BOOL",
                "FLOAT8E4M3FN",
                "FLOAT8E4M3FNUZ",
                "FLOAT8E5M2",
                "FLOAT8E5M2FNUZ",
                "FLOAT8E8M0",
            ),
            4: ("INT4", "UINT4", "FLOAT4E2M1"),
            2: ("INT2", "UINT2"),
            0: ("STRING",),
        }
        known = set(proto.DataType.keys())
        _BITS.update(
            {proto.DataType.Value(name): bits for bits, names in sizes.items() for name in names if name in known}
        )
    return _BITS


_BITS: dict[int, int] = {}


def _typed_count(tensor: Any) -> int:
    """How many numbers a tensor without raw data has in the one typed field that it uses."""
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return max(len(getattr(tensor, field)) for field in fields)


def _expected(data_type: int, count: int) -> int:
    bits = _BITS[data_type]
    if bits in (2, 4):  # packed into int32_data, a byte each
        return (count * bits + 7) // 8
    from onnx import TensorProto

    return 2 * count if data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else count
