"""The Ray Tune run of a search: long-lived trials, one for each CPU, that pull cells from a mailbox until sent home."""

from __future__ import annotations

import asyncio
import logging
import pickle
import secrets
import tempfile
import time
from typing import Any

import ray

from rayopt.backend import describe
from rayopt.errors import WorkError
from rayopt.onray.demand import others_wait
from rayopt.onray.mailbox import Mailbox
from rayopt.onray.quiet import quiet_tune
from rayopt.search.crew import Hands

IDLE_S = 300.0  # how long trials wait for the next search
LOOK_S = 0.5  # how often it is looked whether others wait for the CPUs that they hold
START_S = 30.0  # how long trials may take to be there after a search that has not needed them


class Lodge(Mailbox):
    """The mailbox of `count` trials, in whose process Tune runs; between two searches it sends them home by itself.

    They are sent home when the next search takes too long to come, and when others wait for their CPUs.
    """

    def __init__(self, count: int) -> None:
        super().__init__(IDLE_S)
        logging.getLogger("ray._private.worker").setLevel(logging.ERROR)  # it warns of `get` in other threads as well
        self._count = count
        self._resting: asyncio.Task[None] | None = None

    async def tune(self) -> None:
        """Lasts until all trials have gone home."""
        me = ray.get_runtime_context().current_actor
        try:
            await asyncio.to_thread(run, me, self._count)
            reason = "its trials ended before the search did"
        except Exception as error:  # noqa: BLE001 - it is raised where the search asks for news
            reason = describe(error)
        self.fail(WorkError(reason))
        if self._resting is not None:
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    async def rest(self) -> None:
        """A search is over: its data may go."""
        await self.start(0, None, None)
        self._resting = asyncio.create_task(self._rest())

    async def stay(self) -> bool:
        """Whether the trials are here for the next search, which has come."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        return not self.is_closed

    async def _rest(self) -> None:
        """Ends with everybody sent home, unless it is ended before."""
        start = time.monotonic()
        while not await self._should_leave(time.monotonic() - start):
            await asyncio.sleep(LOOK_S)
        await self.close()

    async def _should_leave(self, rested_s: float) -> bool:
        """As long as trials are still to come, it may be they that wait for CPUs."""
        if self.alive_count < self._count:
            return rested_s > START_S
        return rested_s > IDLE_S or await asyncio.to_thread(others_wait)


def run(mailbox: Any, count: int) -> None:
    """Runs `count` trials until all have gone home; one whose process dies is started again."""
    with tempfile.TemporaryDirectory(prefix="rayopt-tune-") as folder, quiet_tune():
        _tuner(mailbox, count, folder).fit()


def _tuner(mailbox: Any, count: int, folder: str) -> Any:
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
    from ray.tune.progress_reporter import TrialProgressCallback
    from ray.tune.search import Searcher

    class Numbers(Searcher):
        """Gives every trial its number; what they find is not Tune's to judge."""

        def __init__(self) -> None:
            super().__init__()
            self._given = 0

        def suggest(self, trial_id: str) -> Any:
            if self._given >= count:
                return Searcher.FINISHED
            self._given += 1
            return {"worker": f"trial {self._given}"}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    class Losses(TrialProgressCallback):
        """Tells the mailbox of trials whose process died, before they are there again; and prints nothing."""

        def __init__(self) -> None: ...

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None: ...

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None: ...

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None: ...

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            mailbox.lost.remote(trial.config["worker"])

    def name(trial: Any) -> str:
        return f"search-{trial.config['worker'].replace(' ', '-')}"

    serve = tune.with_resources(tune.with_parameters(_serve, mailbox=mailbox), {"CPU": 1})
    return Tuner(
        serve,
        tune_config=TuneConfig(
            search_alg=Numbers(),
            num_samples=count,
            max_concurrent_trials=count,
            reuse_actors=True,
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=RunConfig(
            name=f"search-{secrets.token_hex(4)}",  # no run's: it serves one search after another
            storage_path=folder,
            verbose=0,
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[Losses()],
        ),
    )


def _serve(config: dict[str, Any], mailbox: Any) -> None:
    """A trial: cells from the mailbox, results back, until it is told that there are none any more."""
    import sklearn.model_selection  # noqa: F401 - a worker that has joined is ready

    worker = config["worker"]
    batches: dict[int, Any] = {}
    hands = Hands(lambda number: ray.get(batches[number]))
    life = ray.get(mailbox.join.remote(worker))
    told, seen = None, 0
    while True:
        work = ray.get(mailbox.pull.remote(worker, life, told, seen))
        told = None
        if work is None:
            return
        number, reference, deadline_s, content = work
        if number != seen:
            batches, seen = ({number: reference[0]} if reference else {}), number
            hands.prepare(number)
        if not content:
            continue
        meant, cells = pickle.loads(content)  # noqa: S301 - of the driver's own making
        if meant != number:
            continue
        done = 0
        for answers in hands.work(number, cells, deadline_s):
            done += len(answers)
            if done < len(cells):  # the next cell may take long, and what is told is safe
                mailbox.tell.remote(worker, life, (number, answers))
            else:
                told = (number, answers)
