"""The newest file format and operator set that both onnx and the runtime take: each is released on its own."""

from __future__ import annotations

from functools import lru_cache

from rayopt.errors import StepError
from rayopt.graph.sessions import open_session

OLDEST_IR, OLDEST_OPSET = 8, 13  # that every runtime takes which is fit for this


@lru_cache(maxsize=1)
def newest_ir() -> int:
    import onnx

    return next((one for one in range(onnx.IR_VERSION, OLDEST_IR, -1) if takes(one, OLDEST_OPSET)), OLDEST_IR)


@lru_cache(maxsize=1)
def newest_opset() -> int:
    from onnx import defs

    known = range(defs.onnx_opset_version(), OLDEST_OPSET, -1)
    return next((one for one in known if takes(OLDEST_IR, one)), OLDEST_OPSET)


def takes(ir_version: int, opset: int) -> bool:
    """Whether the runtime loads a model of these versions."""
    from onnx import TensorProto, helper

    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", infos[:1], infos[1:])
    opsets = [helper.make_opsetid("", opset)]
    try:
        open_session(helper.make_model(graph, ir_version=ir_version, opset_imports=opsets).SerializeToString())
    except StepError:
        return False
    return True
