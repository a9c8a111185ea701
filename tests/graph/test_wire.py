"""The depth of graphs read from bytes agrees with what protobuf reads, and no bytes make it fail."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.graph.wire import graph_depth
from tests.graph.hostile import good, nested_ifs


@pytest.mark.parametrize("depth", [0, 1, 5, 20])
def test_it_counts_graphs_inside_graphs(depth: int) -> None:
    assert graph_depth(nested_ifs(depth).SerializeToString()) == depth + 1


@given(st.binary(max_size=400))
def test_bytes_that_are_no_model_are_none_or_shallow(content: bytes) -> None:
    depth = graph_depth(content)
    assert depth is None or 0 <= depth <= len(content)


@given(st.integers(1, 200))
def test_what_protobuf_reads_has_a_depth(cut: int) -> None:
    content = good().SerializeToString()[:cut]
    try:
        onnx.ModelProto.FromString(content)
    except Exception:  # noqa: BLE001 - protobuf's own kinds of errors
        return
    assert graph_depth(content) is not None
