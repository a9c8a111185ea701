"""Several workers, however unequal their parts, come to the weights of one worker that takes whole batches."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rayopt.training.seat import OneSeat
from tests.training.group_of_processes import WORKS, weights

REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE_S = 240  # they would wait for one another for ever


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which so many processes have left the weights of all their trainings."""
    folder = tmp_path_factory.mktemp("group")
    command = [sys.executable, "-m", "tests.training.group_of_processes"]
    ranks = [
        subprocess.Popen([*command, str(rank), str(request.param), folder], cwd=REPOSITORY, stderr=subprocess.PIPE)
        for rank in range(request.param)
    ]
    try:
        said = [one.communicate(timeout=PATIENCE_S)[1].decode() for one in ranks]
    finally:
        for one in ranks:
            one.kill()
            one.communicate()
    assert [one.returncode for one in ranks] == [0] * request.param, "\n".join(said)
    return folder


@pytest.mark.parametrize("name", [*WORKS, "mean-sharded"])
def test_the_weights_are_those_of_whole_batches(together: Path, tmp_path: Path, name: str) -> None:
    work = WORKS[name.removesuffix("-sharded")]
    alone = replace(work, settings=work.settings.model_copy(update={"micro_batch": None}))
    wanted, found = weights(alone, OneSeat(tmp_path)), load_file(together / f"{name}.safetensors")
    begun = weights(
        replace(alone, settings=alone.settings.model_copy(update={"steps": 1})), OneSeat(tmp_path / "first")
    )
    assert wanted.keys() == found.keys()
    assert any((wanted[key] - begun[key]).abs().max() > 1e-2 for key in wanted)  # it has gone a way since
    for key, one in wanted.items():
        torch.testing.assert_close(found[key], one, atol=1e-6, rtol=1e-6)
