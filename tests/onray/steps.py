"""A training by hand in the fewest lines, for tests of what becomes of it when its processes are killed.

bf16 autocast, two micro-batches a step, momentum, an average of the weights; a checkpoint every so many steps.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, MICRO = 32, 8
DECAY = 0.99


@dataclass
class Steps:
    """Gives the final weights and their average, as bytes. `at` in its folder gets a line for each start and step."""

    steps: int = 60
    every: int = 10
    seed: int = 0
    width: int = 16

    def run(self, seat: Any) -> bytes:
        torch.manual_seed(self.seed)
        model = nn.Sequential(
            nn.Conv2d(1, self.width, 3), nn.BatchNorm2d(self.width), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(),
            nn.Linear(self.width * 36, 10),
        )  # fmt: skip
        average = copy.deepcopy(model)
        parallel = seat.wrap(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        step = self._resume(seat, model, average, optimizer)
        self._note(seat, f"start {step} of {os.getpid()}")
        while step < self.steps:
            self._take(seat, parallel, optimizer, step)
            with torch.no_grad():
                for kept, now in zip(average.parameters(), model.parameters(), strict=True):
                    kept.lerp_(now, 1 - DECAY)
            step += 1
            self._note(seat, f"step {step}")
            written = self._write(seat, step, model, average, optimizer) if step % self.every == 0 else None
            seat.report({"step": step}, written)
        return b"".join(t.numpy().tobytes() for t in [*model.state_dict().values(), *average.parameters()])

    def _take(self, seat: Any, parallel: nn.Module, optimizer: Any, step: int) -> None:
        optimizer.zero_grad()
        torch.manual_seed(self.seed * 1_000_003 + step * seat.world + seat.rank)  # dropout's masks
        x, y = self._batch(step)
        share = slice(seat.rank, None, seat.world)
        micros = list(zip(x[share].split(MICRO), y[share].split(MICRO), strict=True))
        for index, (part, targets) in enumerate(micros):
            parallel.require_backward_grad_sync = index == len(micros) - 1
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(parallel(part), targets) / len(micros)
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed + 7 * step)
        return torch.randn(BATCH, 1, 8, 8, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator)

    def _write(self, seat: Any, step: int, model: Any, average: Any, optimizer: Any) -> Path:
        path: Path = seat.folder / f"checkpoint-{step:06d}.pt"
        if seat.rank == 0:
            state = [step, model.state_dict(), average.state_dict(), optimizer.state_dict()]
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        return path

    def _resume(self, seat: Any, model: Any, average: Any, optimizer: Any) -> int:
        newest = seat.agree(max((str(path) for path in seat.folder.glob("checkpoint-*.pt")), default=""))
        if not newest:
            return 0
        step, *states = torch.load(newest, weights_only=True)
        for part, state in zip((model, average, optimizer), states, strict=True):
            part.load_state_dict(state)
        return int(step)

    def _note(self, seat: Any, line: str) -> None:
        if seat.rank == 0:
            with (seat.folder / "at").open("a") as file:
                file.write(line + "\n")
