"""Views are pure functions of seed, number and row; pixels and shares are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rayopt.training.distill_settings import ViewSettings
from rayopt.training.views import ViewedRows, block, faults, keeps_labels

IMAGES = np.random.default_rng(0).uniform(size=(6, 2, 5, 7)).astype(np.float32)


def whole(settings: ViewSettings, number: int, x: np.ndarray = IMAGES, seed: int = 3) -> np.ndarray:
    return block(settings, x, seed, number, slice(0, len(x)))


def test_view_0_is_the_rows_themselves() -> None:
    np.testing.assert_array_equal(whole(ViewSettings(count=2, mix=True, shift=1, noise=0.5), 0), IMAGES)


def test_blocks_are_parts_of_the_whole() -> None:
    settings = ViewSettings(count=3, mix=True, shift=2)
    parts = [block(settings, IMAGES, 3, 2, slice(start, start + 2)) for start in (0, 2, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole(settings, 2))
    assert not np.array_equal(whole(settings, 1), whole(settings, 2))
    assert not np.array_equal(whole(settings, 1), whole(settings, 1, seed=4))


def test_a_shift_moves_an_image_as_a_whole() -> None:
    moved = whole(ViewSettings(count=2, shift=2), 1)
    seen = set()
    for image, found in zip(IMAGES, moved, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        places = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(padded[:, down : down + 5, right : right + 7], found)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 1


def test_a_mix_is_of_two_rows_by_shares_of_which_the_first_is_larger() -> None:
    mixed = whole(ViewSettings(count=2, mix=True), 1)
    flat, found = IMAGES.reshape(6, -1).astype(np.float64), mixed.reshape(6, -1)
    partners = set()
    for row in range(6):
        fits = []
        for other in range(6):
            direction = flat[row] - flat[other]
            share = (found[row] - flat[other]) @ direction / max(direction @ direction, 1e-9) if other != row else 1.0
            if np.allclose(share * flat[row] + (1 - share) * flat[other], found[row], atol=1e-5):
                fits.append((other, share))
        assert fits
        assert all(0.5 <= share <= 1 + 1e-6 for _, share in fits)
        partners.add(fits[0][0])
    assert len(partners) > 1


def test_noise_has_the_size_that_it_is_given() -> None:
    x = np.random.default_rng(1).normal(scale=4, size=(4000, 5)).astype(np.float32)
    added = block(ViewSettings(count=2, noise=0.25), x, 0, 1, slice(0, 4000)) - x
    assert added.std() == pytest.approx(0.25 * x.std(), rel=0.02)
    assert added.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "x", "problem"),
    [
        (ViewSettings(count=2, shift=1), np.zeros((3, 4), np.float32), "is for images"),
        (ViewSettings(count=2, shift=5), IMAGES, "out of sight"),
        (ViewSettings(count=2, mix=True), np.zeros((3, 4), np.int64), "cannot be blended"),
        (ViewSettings(count=2, mix=True, teacher="clean"), IMAGES, "none to its blend"),
        (ViewSettings(count=2), IMAGES, "all the same"),
    ],
)
def test_views_that_cannot_be_made_are_faults(settings: ViewSettings, x: np.ndarray, problem: str) -> None:
    (fault,) = faults(settings, x, "job.yaml:9: views")
    assert problem in fault.problem
    assert fault.remedy


def test_only_blends_lose_their_labels() -> None:
    assert keeps_labels(ViewSettings(count=2, shift=1))
    assert not keeps_labels(ViewSettings(count=2, mix=True))


def test_epochs_go_through_the_views_in_turn() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(6, 1), np.array([4, 5, 6])
    rows = ViewedRows(x, y, views=2, missing=-1)
    assert rows.count == 3
    for epoch, wanted in enumerate(([2.0, 0.0], [5.0, 3.0], [2.0, 0.0])):
        found, targets, numbers = rows.batch(epoch, torch.tensor([2, 0]))
        assert found[:, 0].tolist() == wanted
        assert numbers.tolist() == wanted
        assert targets.tolist() == ([-1, -1] if epoch == 1 else [6, 4])
    assert ViewedRows(x, y, views=2).batch(1, torch.tensor([1]))[1].tolist() == [5]
