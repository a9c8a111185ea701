"""The Ray Tune run of a search: long-lived trials, one for each CPU, that pull cells from a mailbox until sent home."""

from __future__ import annotations

import pickle
import secrets
import tempfile
from typing import Any

import ray

from rayopt.onray.quiet import quiet_tune
from rayopt.search.crew import Hands


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

    serve = tune.with_resources(tune.with_parameters(_serve, mailbox=mailbox), {"CPU": 1})
    return Tuner(
        serve,
        tune_config=TuneConfig(search_alg=Numbers(), num_samples=count, max_concurrent_trials=count, reuse_actors=True),
        run_config=RunConfig(
            name=f"search-{secrets.token_hex(4)}",
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
    told = None
    while True:
        work = ray.get(mailbox.pull.remote(worker, life, told))
        told = None
        if work is None:
            return
        number, reference, deadline_s, content = work
        if not content:
            continue
        if number not in batches:
            batches = {number: reference[0]}
        meant, cells = pickle.loads(content)  # noqa: S301 - of the driver's own making
        if meant != number:
            continue
        for answers in hands.work(number, cells, deadline_s):
            if told is not None:
                mailbox.tell.remote(worker, life, told)
            told = (number, answers)
