"""Adding a method is adding a file: one in a package of the user's own, named by its dotted path."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rayopt import api, loading
from rayopt.errors import InputError

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
    job = small_job(steps=["my_tool.empty"])
    (tmp_path / "job" / "my_tool").mkdir()
    (tmp_path / "job" / "my_tool" / "empty.py").touch()
    with pytest.raises(InputError, match=r"'my_tool.empty' is no method: it lacks accepts, gives"):
        loading.load(job)


RUDE = '''
"""Behaves in the way that it is told to."""
import sys
from rayopt.records import Artifact
from rayopt.spec import Settings

accepts = gives = "onnx"
version = 1

class Params(Settings):
    how: str

class Own(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def apply(model, params, context):
    if params.how == "leave":
        sys.exit(7)
    if params.how == "raise":
        raise Own(1, 2)
    if params.how == "nothing":
        return None
    if params.how == "empty":
        return Artifact("onnx", {})
    if params.how == "torch":
        return Artifact("torch", model.files)
    return Artifact("onnx", model.files, {"notes": float("nan")})
'''
SAYS = {
    "leave": "SystemExit: 7",
    "raise": "Own: 1 and 2",
    "nothing": "tool.rude gave NoneType instead of an Artifact",
    "empty": "tool.rude gave an Artifact whose files are not bytes by name",
    "torch": "tool.rude gave a torch model but promises onnx",
    "notes": "tool.rude gave notes that JSON cannot hold: Out of range float values are not JSON compliant",
}


@pytest.mark.ray
@pytest.mark.parametrize("where", ["inprocess", "ray"])
def test_a_rude_method_ends_its_own_chain_only(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str, where: str
) -> None:
    job = small_job(steps=["export_onnx", {"any": ["nothing", *({"use": "tool.rude", "how": how} for how in SAYS)]}])
    (tmp_path / "job" / "tool").mkdir()
    (tmp_path / "job" / "tool" / "rude.py").write_text(RUDE)
    summary = api.run(job, tmp_path / "out", address=ray_session if where == "ray" else where)
    reasons = {row["step"].partition("how=")[2].rstrip(")"): row["reason"] for row in summary["failed"]}
    assert {how: reason.partition(": nan")[0] for how, reason in reasons.items()} == SAYS
    assert summary["status"] == "done"


FACTOR = '''
"""Notes a number that is written in its source, and one that it imports from elsewhere."""
from rayopt.records import Artifact
from rayopt.spec import Settings
from settings_elsewhere import NUMBER

accepts = gives = "onnx"
version = 1
OWN = 1

class Params(Settings):
    pass

def apply(model, params, context):
    return Artifact("onnx", model.files, {"numbers": [OWN, NUMBER]})
'''


@pytest.mark.ray
@pytest.mark.parametrize("where", ["inprocess", "ray"])
def test_an_edit_is_seen_by_processes_that_have_imported_the_code_before(
    small_job: Callable[..., Path], tmp_path: Path, ray_session: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    job = small_job(steps=["tool.factor"])
    (tmp_path / "job" / "tool").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.syspath_prepend(elsewhere)
    for round in (1, 2, 3):
        (tmp_path / "job" / "tool" / "factor.py").write_text(
            f"import sys; sys.path.insert(0, {str(elsewhere)!r})\n"
            + FACTOR.replace("OWN = 1", f"OWN = {min(round, 2)}")
        )
        (elsewhere / "settings_elsewhere.py").write_text(f"NUMBER = {10 * round}\n")
        for path in (tmp_path / "job" / "tool" / "factor.py", elsewhere / "settings_elsewhere.py"):
            os.utime(path, (round, round))  # Python tells edits apart by whole seconds
        api.run(job, tmp_path / "out", address=ray_session if where == "ray" else where)
    notes = sorted(
        tuple(json.loads(entry.read_text())["value"]["made"]["notes"]["numbers"])
        for entry in (tmp_path / "cache").glob("??/*/entry.json")
        if "numbers" in entry.read_text()
    )
    assert notes == [(1, 10), (2, 20), (2, 30)]
