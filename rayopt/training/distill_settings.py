"""What a user may say about a distillation: its loss, what is compared inside the models, and views of the rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayopt.models.settings import ModelSettings
from rayopt.spec import Settings
from rayopt.training.settings import TrainSettings

LossName = Literal["soft", "textbook", "decoupled", "standardized", "logits", "hard", "relational"]
FeatureLossName = Literal["hints", "attention", "relational"]


class FeatureSettings(Settings):
    """A layer of the student that is to be like one of the teacher's; both by their names within the model.

    For an ONNX teacher it is the name of a tensor of the graph.
    """

    use: FeatureLossName
    student: str
    teacher: str
    weight: float = Field(1.0, gt=0)


class LossSettings(Settings):
    """`alpha` of the labels' own loss and `1 - alpha` of following the teacher; without labels alpha is 0.

    args: of `decoupled` target and others, of `relational` distance and angle: the weights of their two parts.
    """

    use: LossName = "soft"
    temperature: float = Field(3.0, gt=0)
    alpha: float | None = Field(None, ge=0, le=1)
    args: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    features: tuple[FeatureSettings, ...] = Field((), max_length=16)


class ViewSettings(Settings):
    """Changed copies of the training rows, which the teacher is asked about as well: `count` with the rows themselves.

    mix: each row is blended with another one (Zhang et al., 2018; Beyer et al., 2022, section 3);
    shift: images are moved by up to so many pixels; noise: of that share of the features' standard deviation.
    teacher: `clean` takes the teacher's answer to the row as it was, which `mix` does not leave right.
    """

    count: int = Field(1, ge=1, le=1000)
    mix: bool = False
    shift: int = Field(0, ge=0, le=64)
    noise: float = Field(0.0, ge=0)
    teacher: Literal["views", "clean"] = "views"


class TeacherSettings(ModelSettings):
    """A model (`factory` with `weights`, or `onnx`), or what a job has made: `run`, its folder, or `job`, its file.

    train: a factory's model is trained on the labels first. weight: of this one among several teachers.
    """

    run: str | None = None
    job: str | None = None
    train: TrainSettings | None = None
    weight: float = Field(1.0, gt=0)
