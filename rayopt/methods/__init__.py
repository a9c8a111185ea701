"""Ways to change a model, one file each: model in, model out. To add one, add a file; nothing else names it.

A method is a module with

    accepts, gives    "torch" or "onnx": the form of the model that goes in and comes out
    version           raise it when the same parameters would give another model
    Params            a `Settings` class: the parameters, with defaults and limits
    apply(model, params, context) -> Artifact     raises StepError when there is no usable result
    need(params) -> Need                          optional: what it asks of the node; one CPU otherwise
    preserves                                     optional: True where the outputs are proven to stay equal

Its docstring's first line is what `rayopt methods` shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from rayopt import plugins
from rayopt.models.settings import ModelSource
from rayopt.records import Artifact, Format, Need
from rayopt.spec import Settings

if TYPE_CHECKING:
    from rayopt.data.dataset import Dataset


@dataclass(frozen=True)
class Context:
    """What a method may look at besides the model: the job's data, how to build its model, the original, a seed.

    `original` is the trained model that the chain began with (the teacher of recovery), None until there is one.
    """

    data: Dataset
    source: ModelSource
    original: Artifact | None
    seed: int


class Method(Protocol):
    """The face of a method's module."""

    __doc__: str | None
    accepts: Format
    gives: Format
    version: int
    Params: type[Settings]

    def apply(self, model: Artifact, params: Any, context: Context) -> Artifact: ...


PARTS = ("accepts", "gives", "version", "Params", "apply")


def find(name: str, place: str) -> Method:
    """The method of that name in this room, or at that dotted path; raises InputError at `place`."""
    return cast(Method, plugins.load("rayopt.methods", name, place, PARTS))


def need_of(method: Method, params: Settings) -> Need:
    """What a method asks of the node that runs it."""
    asks = getattr(method, "need", None)
    return cast(Need, asks(params)) if asks else Need()


def summary_of(method: Method) -> str:
    """The first line of a method's docstring."""
    return (method.__doc__ or "").strip().partition("\n")[0]


__all__ = ["Context", "Method", "find", "need_of", "summary_of"]
