"""Graph jobs: which files they name, every fault with its place, and what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner

from rayopt import api
from rayopt.cli.commands import cli
from rayopt.errors import InputError
from rayopt.graph import child
from rayopt.graph.fused import MARK
from tests.graph.hostile import array, good, model, node, value

CERTIFICATE = "certificate.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four models in two folders, and a file that is none."""
    for name in ("a.onnx", "b.onnx", "inner/a.onnx", "inner/c.onnx", "notes.txt"):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good().SerializeToString())
    return tmp_path


def names(folder: Path, models: Any) -> list[str]:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"kind": "graph", "name": "small", "models": models}))
    from rayopt.kinds.graph import Job, files_of
    from rayopt.spec import read_document

    document = read_document(path)
    return [name for name, _ in files_of(Job.model_validate(document.data), document)]


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ("models/a.onnx", ["a.onnx"]),
        ("models", ["a.onnx", "b.onnx", "inner/a.onnx", "inner/c.onnx"]),
        ("models/*.onnx", ["a.onnx", "b.onnx"]),
        ("models/*/c.onnx", ["inner/c.onnx"]),
        (["models/b.onnx", "models"], ["b.onnx", "a.onnx", "inner/a.onnx", "inner/c.onnx"]),
        ("onnx:backend/test/data/light/light_squ*.onnx", ["light_squeezenet.onnx"]),
    ],
)
def test_files_folders_patterns_and_packages_name_models(models: Any, found: list[str], folder: Path) -> None:
    assert names(folder, models) == found


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"models": "nowhere"}, "there is no nowhere"),
        ({"models": "models/*.pb"}, "there are no models in models/*.pb"),
        ({"models": "no_such_package:x"}, "there is no package 'no_such_package'"),
        ({"models": []}, "models"),
        ({"tools": ["own", "onnxslam"]}, "onnxslam"),
        ({"target_opset": 12}, "target_opset"),
        ({"timing_s": -1}, "timing_s"),
        ({"limits": {"fold_bytes": 1}}, "fold_bytes"),
        ({"fussed": True}, "fused"),
    ],
)
def test_every_fault_is_told_with_its_place(fields: dict[str, Any], says: str, folder: Path) -> None:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"kind": "graph", "name": "small", "models": "models"} | fields))
    done = CliRunner().invoke(cli, ["validate", str(path)])
    assert done.exit_code == 2
    assert says in done.stderr
    assert "job.yaml" in done.stderr


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was also asked for fused models, by the command itself."""
    folder = tmp_path_factory.mktemp("kind")
    (folder / "models").mkdir()
    nodes = [
        node("Identity", "x", "i"),
        node("MatMul", "i w", "m"),
        node("Add", "m b", "a"),
        node("Relu", "a", "y"),
    ]
    weights = [array("w", np.random.default_rng(0).normal(size=(32, 32))), array("b", np.ones(32))]
    fusible = model(nodes, [value("x", ("n", 32))], [value("y", ("n", 32))], weights)
    (folder / "models" / "fusible.onnx").write_bytes(fusible.SerializeToString())
    (folder / "models" / "broken.onnx").write_bytes(b"no model")
    job = {"kind": "graph", "name": "small", "models": "models", "tools": ["own"], "timing_s": 0.01, "fused": True}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    command = ["run", str(folder / "job.yaml"), "--out", str(folder / "out"), "--address", "inprocess", "--json"]
    done = CliRunner().invoke(cli, command)
    child.close()
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_a_fused_model_lies_marked_beside_the_portable_one(ended: Path) -> None:
    summary = json.loads((ended / "summary.json").read_text())
    row = next(row for row in summary["models"] if row["name"] == "fusible.onnx")
    portable, fused = onnx.load(ended / row["path"]), onnx.load(ended / row["fused"]["path"])
    assert {one.domain for one in portable.graph.node} == {""}
    assert {one.domain for one in fused.graph.node} == {"com.microsoft"}
    assert Path(row["fused"]["path"]).name == "fusible.fused.onnx"
    assert MARK in {one.key for one in fused.metadata_props}
    assert MARK not in {one.key for one in portable.metadata_props}
    assert row["fused"]["nodes"] == 1 < row["nodes_after"] == 2
    certificate = json.loads((ended / row["path"]).with_name(CERTIFICATE).read_text())
    assert set(certificate["files"]) == {"fusible.onnx", "fusible.fused.onnx"}
    assert certificate["fused"]["file"] == "fusible.fused.onnx"


def test_verify_repeats_the_proof_of_both(ended: Path) -> None:
    done = CliRunner().invoke(cli, ["verify", str(ended)])
    assert done.exit_code == 0, done.output
    (path,) = ended.glob("artifacts/*/fusible.fused.onnx")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = CliRunner().invoke(cli, ["verify", str(ended)])
    path.write_bytes(content)
    child.close()
    assert done.exit_code == 1
    assert "fusible.fused.onnx is not what was proven" in done.output


def test_a_broken_model_is_a_line_of_the_run(ended: Path) -> None:
    lines = [json.loads(line) for line in (ended / "outcomes.jsonl").read_text().splitlines()]
    verdicts = {line["name"]: line["verdict"] for line in lines if "verdict" in line}
    assert verdicts == {"fusible.onnx": "optimized", "broken.onnx": "unreadable"}


def test_models_by_python_without_a_job_file(folder: Path) -> None:
    with pytest.raises(InputError, match="no models in"):
        api.run({"kind": "graph", "name": "none", "models": str(folder / "models" / "*.xyz")}, folder / "out")
