"""An estimator as a job file writes it: `package.module:name`, its arguments, or a list of these as a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from rayopt import plugins
from rayopt.errors import Fault, input_error
from rayopt.spec import Document, Settings
from rayopt.yamltext import Location


class Part(Settings):
    """What makes an estimator, a transformer or a splitter: a class or function and its arguments."""

    use: str
    args: dict[str, Any] = Field({})
    name: str | None = None


Recipe = str | Part | list[str | Part]


def parts_of(recipe: Recipe) -> list[Part]:
    given = recipe if isinstance(recipe, list) else [recipe]
    return [Part(use=one) if isinstance(one, str) else one for one in given]


def check(recipe: Recipe, document: Document, at: Location) -> list[Fault]:
    """The faults that show without importing anything."""
    remedy = "write package.module:name, such as sklearn.svm:SVC"
    parts = parts_of(recipe)
    if not parts:
        return [document.fault(at, "names no estimator", remedy)]
    names = [name for part in parts if (name := part.name)]
    faults = [
        document.fault(_at(recipe, at, index), f"{part.use!r} is not of the form package.module:name", remedy)
        for index, part in enumerate(parts)
        if ":" not in part.use
    ]
    return faults + [
        document.fault(at, f"two steps are named {name!r}", "give each a name of its own")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def build(recipe: Recipe, document: Document, at: Location, seed: int) -> Any:
    """The estimator; random states that are left open are the seed. Raises InputError."""
    parts = parts_of(recipe)
    with plugins.importable(document.folder):
        made = [make(part, document.place(_at(recipe, at, index))) for index, part in enumerate(parts)]
    estimator = _pipeline(parts, made) if isinstance(recipe, list) else made[0]
    for lacking in ("fit", "get_params", "set_params"):
        if not hasattr(estimator, lacking):
            problem = f"{parts[-1].use} gives {type(estimator).__name__}, which is no estimator: it lacks {lacking}"
            raise input_error(document.place(at), problem, "give a scikit-learn estimator, or one with its methods")
    open_states = [name for name, value in estimator.get_params().items() if _is_open(name, value)]
    return estimator.set_params(**dict.fromkeys(open_states, seed)) if open_states else estimator


def make(part: Part, place: str) -> Any:
    """What a part gives when it is called with its arguments; raises InputError."""
    found = plugins.locate(part.use, place)
    if not callable(found):
        raise input_error(place, f"{part.use} is not callable", "name a class or a function")
    try:
        return found(**part.args)
    except (Exception, SystemExit) as error:
        problem = f"{part.use} raised {type(error).__name__}: {error}"
        raise input_error(place, problem, "mend its `args:`") from error


def _pipeline(parts: Sequence[Part], made: Sequence[Any]) -> Any:
    from sklearn.pipeline import Pipeline, make_pipeline

    automatic = [name for name, _ in make_pipeline(*made).steps]
    names = [part.name or name for part, name in zip(parts, automatic, strict=True)]
    return Pipeline(list(zip(names, made, strict=True)))


def _is_open(name: str, value: Any) -> bool:
    return value is None and (name == "random_state" or name.endswith("__random_state"))


def _at(recipe: Recipe, at: Location, index: int) -> Location:
    return (*at, index) if isinstance(recipe, list) else at
