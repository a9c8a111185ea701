"""Teachers asked once: what they said is on disk, whole, for whoever asks the same again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayopt import asking
from rayopt.asking import Questions, ask
from rayopt.backend import InProcess
from rayopt.engine import Desk
from rayopt.errors import StepError, WorkError
from rayopt.graph.export import export
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, to_artifact
from rayopt.runs.cache import Cache
from rayopt.runs.folder import RunFolder
from rayopt.training.distill_settings import ViewSettings
from rayopt.training.teacher import OUTPUTS, Answers, Stored, Teacher
from rayopt.watch import Silent

X = np.random.default_rng(0).normal(size=(1300, 4)).astype(np.float32)  # three blocks
SOURCE = ModelSource(
    ModelSettings(factory="rayopt.models.zoo:mlp", args={"features": 4, "outputs": 3, "hidden": 6}), "."
)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(InProcess, "local", Cache(tmp_path / "cache"), Silent(), RunFolder(tmp_path / "out"))


def teacher(seed: int = 0, **more: Any) -> Teacher:
    return Teacher(to_artifact(build(SOURCE, seed)), SOURCE, **more)


def expected(seed: int, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return build(SOURCE, seed)(torch.tensor(x)).numpy()


def test_answers_are_the_teachers_and_are_asked_once(desk: Desk) -> None:
    questions = Questions((teacher(), teacher(1, weight=2.0)), X)
    first, again = ask(questions, desk), ask(questions, desk)
    assert (first.blocks_asked, again.blocks_asked) == (6, 0)
    rows = torch.tensor([1299, 0, 511, 512, 7])
    for found in (first, again):
        for seed, answers in enumerate(found.answers):
            np.testing.assert_allclose(answers.at(rows).numpy(), expected(seed, X[rows.numpy()]), atol=1e-6)
            path = answers.stored[OUTPUTS].path
            assert path.suffix == ".npy"
            assert path.is_relative_to(desk.cache.folder)
    assert [answers.weight for answers in first.answers] == [1.0, 2.0]
    assert first.x is questions.x


def test_another_teacher_or_other_rows_are_asked_anew_and_labels_do_not_matter(desk: Desk) -> None:
    assert ask(Questions((teacher(),), X), desk).blocks_asked == 3
    assert ask(Questions((teacher(2),), X), desk).blocks_asked == 3
    assert ask(Questions((teacher(),), X + 1), desk).blocks_asked == 3
    assert ask(Questions((teacher(),), X, seed=9), desk).blocks_asked == 0  # the seed draws no view 0


def test_a_run_that_was_killed_goes_on_after_the_blocks_that_it_had(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Teacher.ask
    calls = []

    def killed(self: Teacher, x: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, x)

    monkeypatch.setattr(Teacher, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(Questions((teacher(),), X), desk)
    found = ask(Questions((teacher(),), X), desk)
    assert found.blocks_asked == 1
    np.testing.assert_allclose(found.answers[0].at(torch.arange(1300)).numpy(), expected(0, X), atol=1e-6)


def test_a_flipped_byte_is_noticed_and_the_file_made_again_from_the_blocks(desk: Desk) -> None:
    questions = Questions((teacher(),), X)
    path = ask(questions, desk).answers[0].stored[OUTPUTS].path
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    found = ask(questions, desk)
    assert found.blocks_asked == 0
    np.testing.assert_allclose(found.answers[0].at(torch.arange(1300)).numpy(), expected(0, X), atol=1e-6)
    for entry in desk.cache.folder.glob("??/*/files/*.npy"):  # the blocks as well
        entry.write_bytes(entry.read_bytes()[:-1])
    assert ask(questions, desk).blocks_asked == 3


def test_views_are_stored_beside_what_the_teacher_says_of_them(desk: Desk) -> None:
    settings = ViewSettings(count=3, mix=True, noise=0.1)
    found = ask(Questions((teacher(),), X, settings, seed=4), desk)
    assert found.blocks_asked == 9
    assert isinstance(found.x, Stored)
    x = found.x.array
    assert x.shape == (3900, 4)
    np.testing.assert_array_equal(x[:1300], X)
    assert not np.allclose(x[1300:2600], x[2600:])
    np.testing.assert_allclose(found.answers[0].at(torch.arange(3900)).numpy(), expected(0, x), atol=1e-5)
    more = ask(Questions((teacher(),), X, settings.model_copy(update={"count": 4}), seed=4), desk)
    assert more.blocks_asked == 3  # only those of the view that is new
    np.testing.assert_array_equal(more.x.array[:3900], x)


def test_clean_answers_stand_for_all_views(desk: Desk) -> None:
    settings = ViewSettings(count=3, noise=0.1, teacher="clean")
    found = ask(Questions((teacher(),), X, settings), desk)
    assert found.blocks_asked == 3
    assert len(found.x) == 3900
    rows = torch.tensor([0, 1300, 2600, 2601])
    np.testing.assert_allclose(found.answers[0].at(rows).numpy(), expected(0, X[[0, 0, 0, 1]]), atol=1e-6)


def test_an_onnx_teacher_and_layers_of_both_kinds(desk: Desk) -> None:
    module = build(SOURCE, 0)
    exported = export(module, X[:4], ["torchscript"], 17, 0)
    import onnx

    inner = onnx.load_from_string(exported.files["model.onnx"]).graph.node[1].output[0]  # after the first ReLU
    both = ask(Questions((teacher(layers=("1",)), Teacher(exported, layers=(inner,))), X), desk)
    rows = torch.arange(1300)
    for answers, name in zip(both.answers, ("1", inner), strict=True):
        np.testing.assert_allclose(answers.at(rows).numpy(), expected(0, X), atol=1e-5)
        with torch.no_grad():
            np.testing.assert_allclose(answers.at(rows, name).numpy(), module[:2](torch.tensor(X)).numpy(), atol=1e-5)
    with pytest.raises(WorkError, match="a teacher cannot be asked: the model has no layer 'head'"):
        ask(Questions((teacher(layers=("head",)),), X), desk)


def test_a_teacher_that_gives_nan_is_none(desk: Desk) -> None:
    broken = build(SOURCE, 0)
    torch.nn.init.constant_(broken[0].weight, torch.nan)
    with pytest.raises(WorkError, match="NaN or infinite"):
        ask(Questions((Teacher(to_artifact(broken), SOURCE),), X), desk)


def test_answers_travel_with_what_they_hold_or_by_their_path(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ask(Questions((teacher(),), X), desk).answers[0]
    sent = pickle.dumps(answers)
    rows = torch.tensor([5, 1299])
    wanted = answers.at(rows)
    elsewhere = desk.cache.folder.rename(tmp_path / "elsewhere")  # as on a machine that has another cache
    assert torch.equal(pickle.loads(sent).at(rows), wanted)  # noqa: S301
    elsewhere.rename(desk.cache.folder)
    monkeypatch.setattr("rayopt.training.teacher.INLINE_BYTES", 0)
    large: Answers = pickle.loads(pickle.dumps(answers))  # noqa: S301
    assert torch.equal(large.at(rows), wanted)
    assert len(pickle.dumps(answers)) < 1000
    desk.cache.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StepError, match="RAYOPT_CACHE"):
        pickle.loads(pickle.dumps(large)).at(rows)  # noqa: S301


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    desk = Desk(InProcess, "local", Cache(tmp_path / "file"), Silent(), RunFolder(tmp_path / "out"))
    found = ask(Questions((teacher(),), X, ViewSettings(count=2, noise=0.1)), desk)
    np.testing.assert_allclose(found.answers[0].at(torch.arange(1300)).numpy(), expected(0, X), atol=1e-6)
    assert len(found.x) == 2600


def test_blocks_do_not_depend_on_where_they_are_made() -> None:
    questions = Questions((teacher(),), X, ViewSettings(count=2, mix=True))
    np.testing.assert_allclose(
        asking.answer(questions, 0, 1, 2)[OUTPUTS],
        expected(0, asking.views.block(questions.settings, X, 0, 1, slice(1024, 1300))),
        atol=1e-6,
    )


@pytest.mark.ray
def test_blocks_are_asked_on_ray_and_give_the_same_bytes(desk: Desk, tmp_path: Path, ray_session: str) -> None:
    from rayopt.api import opener

    questions = Questions((teacher(),), X, ViewSettings(count=2, mix=True))
    on_ray = replace(desk, open_backend=opener(ray_session), cache=Cache(tmp_path / "other"))
    here, there = ask(questions, desk), ask(questions, on_ray)
    assert there.blocks_asked == 6
    assert there.answers[0].stored[OUTPUTS].path.read_bytes() == here.answers[0].stored[OUTPUTS].path.read_bytes()
