"""The best estimator of a search is given back as it was, or said to be another; nothing foreign is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from sklearn.ensemble import RandomForestClassifier

from rayopt import InputError, api, load_estimator
from rayopt.cli.commands import cli
from rayopt.search import saved

OWN = """
from sklearn.linear_model import LogisticRegression

class Own(LogisticRegression):
    pass
"""


@pytest.fixture
def searched(tmp_path: Path, points: tuple[np.ndarray, np.ndarray]) -> Callable[..., tuple[Path, Path]]:
    """Runs a search; gives its folder and that of the job."""

    def run(**fields: Any) -> tuple[Path, Path]:
        place = tmp_path / "job"
        place.mkdir()
        np.savez(place / "points.npz", x=points[0], y=np.where(points[1], "yes", "no"))
        (place / "own_estimator.py").write_text(OWN)
        job = {
            "kind": "search",
            "name": "best",
            "estimator": {"use": "sklearn.ensemble:RandomForestClassifier", "args": {"n_estimators": 5}},
            "data": {"source": "points.npz"},
            "grid": {"max_depth": [1, 3]},
            "cv": 2,
            "test": 0.25,
            **fields,
        }
        (place / "job.yaml").write_text(yaml.safe_dump(job))
        api.run(place / "job.yaml", tmp_path / "out", address="inprocess")
        return tmp_path / "out", place

    return run


def expected(job: Path, params: dict[str, Any]) -> Any:
    from sklearn.model_selection import train_test_split

    data = np.load(job / "points.npz")
    x, _, y, _ = train_test_split(data["x"], data["y"], test_size=0.25, random_state=0, stratify=data["y"])
    return RandomForestClassifier(n_estimators=5, random_state=0, **params).fit(x, y)


@pytest.mark.parametrize("is_saved", [True, False])
def test_it_predicts_what_it_did(
    searched: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, is_saved: bool
) -> None:
    if not is_saved:
        monkeypatch.setattr(saved, "is_installed", lambda: False)
    out, job = searched()
    summary = json.loads((out / "summary.json").read_text())
    assert (out / summary["path"] / "estimator.skops").exists() == is_saved
    found = load_estimator(out, folder=job)
    x = np.load(job / "points.npz")["x"]
    assert (found.predict_proba(x) == expected(job, summary["best_params"]).predict_proba(x)).all()
    assert CliRunner().invoke(cli, ["verify", str(out)]).exit_code == 0


@pytest.mark.parametrize("name", ["estimator.skops", "estimator.json"])
def test_a_changed_file_is_told(searched: Callable[..., tuple[Path, Path]], name: str) -> None:
    out, _ = searched()
    path = next(out.glob(f"artifacts/*/{name}"))
    path.write_bytes(path.read_bytes() + b" ")
    result = CliRunner().invoke(cli, ["verify", str(out)])
    assert result.exit_code == 1
    assert f"{name} is not what was measured" in result.output
    with pytest.raises(InputError, match="its hash differs"):
        load_estimator(out)


def test_outputs_that_are_not_those_recorded_are_told(searched: Callable[..., tuple[Path, Path]]) -> None:
    out, _ = searched()
    path = next(out.glob("artifacts/*/certificate.json"))
    certificate = json.loads(path.read_text())
    swapped = {"yes": "no", "no": "yes"}
    certificate["probe"]["outputs"] = [swapped[one] for one in certificate["probe"]["outputs"]]
    path.write_text(json.dumps(certificate))
    result = CliRunner().invoke(cli, ["verify", str(out)])
    assert result.exit_code == 1
    assert "its outputs differ" in result.output


def test_types_of_others_are_read_only_when_they_are_trusted(searched: Callable[..., tuple[Path, Path]]) -> None:
    out, job = searched(estimator="own_estimator:Own", grid={"C": [1.0]}, test=0)
    with pytest.raises(InputError, match=r"types that are not scikit-learn's: own_estimator.Own"):
        load_estimator(out)
    x = np.load(job / "points.npz")["x"]
    assert set(load_estimator(out, trusted=["own_estimator.Own"]).predict(x)) == {"yes", "no"}


def test_without_the_saved_one_the_data_must_be_the_same(
    searched: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "is_installed", lambda: False)
    out, job = searched()
    with pytest.raises(InputError, match="there is no file"):
        load_estimator(out)
    data = np.load(job / "points.npz")
    np.savez(job / "points.npz", x=data["x"] + 1, y=data["y"])
    with pytest.raises(InputError, match="the data have changed"):
        load_estimator(out, folder=job)
