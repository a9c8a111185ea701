"""4- and 8-bit weights in blocks (MatMulNBits): for size; activations stay in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rayopt.compress.onnx_layers import chosen, excluded, find_layers, finished, graphs, prepare, quiet
from rayopt.compress.rewrite import gemm_to_matmul
from rayopt.compress.settings import BlockSettings
from rayopt.errors import StepError
from rayopt.records import Artifact

DEFAULT = BlockSettings()


def quantize_blocks(model: Artifact, settings: BlockSettings = DEFAULT, only: Sequence[str] | None = None) -> Artifact:
    """The model with blockwise weights in each MatMul and Gemm whose B is constant; of those in `only` if given.

    A matrix that would get no smaller, because its columns fill no block, is left. Raises StepError when none is done.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    proto = prepare(model)
    before = find_layers(proto)
    left = set(excluded(proto, settings.exclude))
    if only is not None:
        left |= {layer.name for layer in before} - set(chosen(proto, only))
    gemm_to_matmul(proto)
    left |= _no_smaller(proto, settings)
    with quiet():
        try:
            quantizer = MatMulNBitsQuantizer(
                proto, settings.bits, settings.block_size, settings.symmetric, settings.accuracy_level,
                nodes_to_exclude=sorted(left), op_types_to_quantize=("MatMul",),
            )  # fmt: skip
            quantizer.process()
        except Exception as error:
            raise StepError(f"ONNX Runtime cannot quantise the model: {type(error).__name__}: {error}") from error
    return finished(before, quantizer.model.model)


def _no_smaller(proto: Any, settings: BlockSettings) -> set[str]:
    found = set()
    for graph in graphs(proto.graph):
        shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "MatMul" and node.input[1] in shapes and len(shapes[node.input[1]]) > 1:
                inner, columns = shapes[node.input[1]][-2:]
                if columns * _column_bytes(inner, settings) >= 4 * inner * columns:
                    found.add(node.name)
    return found


def _column_bytes(inner: int, settings: BlockSettings) -> int:
    """Bytes of one column of a matrix with `inner` rows: whole blocks, a float32 scale each, packed zero points."""
    blocks = -(-inner // settings.block_size)
    zero_points = 0 if settings.symmetric else -(-blocks * settings.bits // 8)
    return blocks * (settings.block_size * settings.bits // 8 + 4) + zero_points
