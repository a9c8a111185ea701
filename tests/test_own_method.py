"""Adding a method is adding a file: one in a package of the user's own, named by its dotted path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rayopt import api, loading

SHIFTED = '''
"""Adds a constant to the model's outputs."""
from rayopt.spec import Settings
from rayopt.records import Artifact

accepts = "onnx"
gives = "onnx"
version = 1


class Params(Settings):
    by: float = 0.5


def apply(model, params, context):
    import onnx
    from rayopt.models.onnx_model import from_proto, to_proto

    proto = to_proto(model)
    last = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    proto.graph.initializer.append(onnx.helper.make_tensor("by", onnx.TensorProto.FLOAT, [1], [params.by]))
    proto.graph.node.append(onnx.helper.make_node("Add", ["before", "by"], [last]))
    return from_proto(proto, {"by": params.by})
'''


def test_a_dropped_in_method_runs_in_a_job(small_job: Callable[..., Path], tmp_path: Path) -> None:
    job = small_job(steps=[{"any": [{"use": "my_tools.shifted", "by": 2}, "quantize_dynamic"]}])
    package = tmp_path / "job" / "my_tools"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "shifted.py").write_text(SHIFTED)
    summary = api.run(job, tmp_path / "out", address="inprocess")
    row = summary["candidates"][0]
    assert row["steps"][-1] == "my_tools.shifted(by=2.0)"
    assert row["selection_accuracy"] == summary["baseline"]["selection_accuracy"]
    assert row["size_bytes"] > summary["baseline"]["size_bytes"]

    (package / "shifted.py").write_text(SHIFTED.replace('"by"], [last]', '"by"], [last], name="edited"'))
    again = api.run(job, tmp_path / "again", address="inprocess")
    assert again["candidates"][0]["sha256"] != row["sha256"], "an edited method must not be taken from the cache"


def test_something_that_is_no_method_is_refused(small_job: Callable[..., Path], tmp_path: Path) -> None:
    import pytest

    from rayopt.errors import InputError

    job = small_job(steps=["my_tool.empty"])
    (tmp_path / "job" / "my_tool").mkdir()
    (tmp_path / "job" / "my_tool" / "empty.py").touch()
    with pytest.raises(InputError, match=r"'my_tool.empty' is no method: it lacks accepts, gives"):
        loading.load(job)
