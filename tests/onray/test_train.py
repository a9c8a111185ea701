"""Groups of Ray Train workers: what they are given, what comes back, and what becomes of it when processes die."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from torch import nn

from rayopt import DistributedTrainer, InputError, StepError, WorkError
from rayopt.onray import kept
from rayopt.onray.group import Shape, name_of
from rayopt.onray.nodes import Node
from rayopt.onray.parcel import culprit
from rayopt.onray.post import RUN, Post
from rayopt.onray.reserved import forget_the_dead
from rayopt.onray.train import RayTrain
from rayopt.training.source import Arrays
from tests.onray.trainings import training
from tests.onray.workers import Facts, Faulty, Gradients, Locked, Shared, network

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(" " in sys.executable, reason="Ray Train starts no worker whose path has a space"),
]


@pytest.fixture(scope="module", autouse=True)
def _nobody_waits(ray_session: str) -> Iterator[None]:
    """The group that waits for the next training is sent home after these tests."""
    yield
    kept.dismiss()


class Controller:
    """An actor that does nothing."""


def run(work: Any, folder: Path, workers: Any = 2, **host: Any) -> Any:
    return RayTrain(**host).run(work, workers, folder, lambda metrics: None)


def test_a_group_takes_what_there_is_between_its_limits(tmp_path: Path) -> None:
    assert run(Facts(), tmp_path, workers=(1, 3))["world"] == 2


def test_what_a_killed_controller_has_reserved_is_given_back(tmp_path: Path) -> None:
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )
    from ray.train import ScalingConfig
    from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
        TrainAutoscalingCoordinatorClient,
    )
    from ray.util import placement_group, placement_group_table, remove_placement_group

    run(Facts(), tmp_path)
    kept.dismiss()
    dead, alive, places = Post("dead"), Post("alive"), {}
    for post, ends in ((dead, True), (alive, False)):
        actor = ray.remote(num_cpus=0)(Controller).remote()
        ray.get(actor.__ray_ready__.remote())
        post.leave("controller", actor)
        post.leave(RUN, post.group)
        places[post.group] = placement_group([{"CPU": 0.5}])
        post.leave("place", places[post.group])
        client = TrainAutoscalingCoordinatorClient(f"train-{post.group}")
        client.send_resource_request(ScalingConfig(num_workers=1), 1)
        if ends:
            ray.kill(actor)
    forget_the_dead()
    coordinator = get_or_create_autoscaling_coordinator()
    reserved = [ray.get(coordinator.get_reserved_resources.remote(f"train-{name}")) for name in ("dead", "alive")]
    states = [placement_group_table(places[name])["state"] for name in ("dead", "alive")]
    remove_placement_group(places["alive"])
    alive.burn()
    TrainAutoscalingCoordinatorClient("train-alive").cancel_resource_request()
    assert [bool(one) for one in reserved] == [False, True]
    assert [state == "REMOVED" for state in states] == [True, False]
    assert list(Post.with_runs()) == []


def test_a_group_serves_one_work_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # a port that was named for something else
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        first = run(Facts(), tmp_path)
    again = run(Facts(), tmp_path)
    assert again == first  # the same process: nothing was started anew
    assert (first["rank"], first["world"], first["total"]) == (0, 2, 2.0)
    assert (first["device"], first["backend"], first["threads"]) == ("cpu", "gloo", 1)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_gradients_are_those_of_the_whole_batch(tmp_path: Path, sharding: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 4, generator=generator), torch.randint(0, 2, (12,), generator=generator)
    model = network()
    nn.functional.cross_entropy(model(x), y).backward()
    found = run(Gradients(x, y), tmp_path, sharding=sharding)
    for parameter, grad in zip(model.parameters(), found, strict=True):
        np.testing.assert_allclose(grad, parameter.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("victim", ["ray::TrainController", "ray::RayTrainWorker"])
def test_what_is_killed_changes_no_bit_of_the_end(tmp_path: Path, victim: str) -> None:
    whole = run(training(), tmp_path / "whole")
    killed: list[int] = []

    def kill(metrics: Mapping[str, float]) -> None:
        if metrics["step"] >= 25 and not killed:
            killed.extend(one.pid for one in of_ray(victim)[:1])
            os.kill(killed[0], signal.SIGKILL)

    again = RayTrain().run(training(), 2, tmp_path / "killed", kill)
    assert killed
    assert 20 <= again.resumed_at < whole.steps == again.steps == 63
    assert again.artifact.sha256 == whole.artifact.sha256


def test_a_model_that_is_split_among_workers_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = run(training(), tmp_path / "whole", sharding="fsdp")
    part = RayTrain(sharding="fsdp").run(training(), 2, tmp_path / "part", lambda metrics: metrics["step"] >= 10)
    assert part.steps < whole.steps
    again = run(training(), tmp_path / "part", sharding="fsdp")
    assert again.resumed_at == part.steps
    assert again.artifact.sha256 == whole.artifact.sha256


def test_the_caller_can_stop_a_training_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    stopped = RayTrain().run(training(epochs=50), 2, tmp_path, lambda metrics: metrics["step"] >= 21)
    assert stopped.steps < 50 * 21
    assert stopped.steps % 21 == 0


def test_workers_share_the_memory_of_the_rows(tmp_path: Path) -> None:
    assert run(Shared(Arrays(np.zeros((50_000, 4), np.float32), np.zeros(50_000, np.int64))), tmp_path) is True


def test_a_model_of_the_caller_is_trained_in_place() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    y = (x[:, 0] > 0).long()
    alone, together = network(), network()
    settings = {"epochs": 3, "batch_size": 16, "precision": "fp32"}
    DistributedTrainer(alone, 1).train(x, y, **settings)
    with DistributedTrainer(together, 2) as trainer:
        assert trainer.train(x, y, **settings).steps == 12
    for one, other in zip(alone.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)  # each worker has half of each batch


def of_ray(name: str) -> list[psutil.Process]:
    """The processes of this session's Ray with that title."""
    return [one for one in psutil.Process().children(recursive=True) if _title(one).startswith(name)]


def _title(process: psutil.Process) -> str:
    try:
        return "".join(process.cmdline()[:1])
    except psutil.Error:  # it is just ending
        return ""


def test_more_workers_than_the_cluster_has_room_for_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers: 3 workers of 1 CPU each, but the cluster has room for 2; ask for 2"):
        run(Facts(), tmp_path, workers=3)
    with pytest.raises(InputError, match="2 workers of 1 CPU, 1 GPU each, but the cluster has room for 0"):
        run(Facts(), tmp_path, resources={"GPU": 1})


def test_what_cannot_be_sent_to_workers_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"parts\.model\.1\.guard: a lock cannot be sent to other processes"):
        run(Locked.make(), tmp_path)
    assert culprit(Facts()) is None


def test_what_raises_in_one_worker_is_told_while_the_other_waits_for_it(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"ValueError: row 7 is broken \(in worker 1\)"):
        run(Facts(faulty=1), tmp_path)


def test_a_training_is_named_by_its_run() -> None:
    assert name_of(Path("/home/me/runs/digits/checkpoints")) == "digits-checkpoints"
    assert "/" not in name_of(Path("/"))


def test_workers_with_a_gpu_exchange_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node({"CPU": 8, "GPU": 2}, {}), Node({"CPU": 8}, {}), Node({"CPU": 3, "GPU": 4}, {})]
    monkeypatch.setattr("rayopt.onray.group.Nodes.alive", lambda self: nodes)
    with_gpu = Shape.of(2, {"GPU": 1, "CPU": 2})
    assert (with_gpu.backend, Shape.of((2, 5)).backend) == ("nccl", "gloo")
    assert with_gpu.room() == 2 + 0 + 1
    assert Shape.of((2, 5)).room() == 8 + 8 + 3


def test_a_single_worker_is_a_task_that_is_replaced_when_it_dies(tmp_path: Path) -> None:
    whole = run(training(), tmp_path / "whole", workers=1)
    killed: list[int] = []

    def kill(metrics: Mapping[str, float]) -> None:
        if metrics["step"] >= 25 and not killed:
            killed.extend(one.pid for one in of_ray("ray::train")[:1])
            os.kill(killed[0], signal.SIGKILL)

    again = RayTrain().run(training(), 1, tmp_path / "there", kill)
    assert killed
    assert again.resumed_at >= 20
    assert again.artifact.sha256 == whole.artifact.sha256
    with pytest.raises(WorkError, match=r"ValueError: row 7 is broken \(in worker 0\)"):
        run(Facts(faulty=0), tmp_path, workers=(1, 1))


@pytest.mark.parametrize("fault", ["raises", "is not finite"])
def test_a_fault_of_the_second_workers_rows_is_told_with_its_worker(tmp_path: Path, fault: str) -> None:
    given = training()
    assert isinstance(given.rows, Arrays)
    rows = Faulty(given.rows.x, given.rows.y, fault)
    said = "OSError: the disk is gone" if fault == "raises" else "the loss became nan"
    with pytest.raises(StepError, match=rf"step \d+ of 63: {said}.*checkpoint is of step 10 \(in worker 1\)"):
        run(replace(given, rows=rows), tmp_path)
