"""Metrics against scikit-learn, and intervals by what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from rayopt.errors import StepError
from rayopt.measure.metrics import BUILT_IN, Metric, agreement, cosine, kl, score, suited

generator = np.random.default_rng(3)
LOGITS = generator.normal(size=(200, 4))
LABELS = generator.integers(0, 4, 200)
QUANTITIES = generator.normal(size=200).astype(np.float32)
GUESSES = (QUANTITIES + generator.normal(size=200)).astype(np.float32)


def test_classification_agrees_with_scikit_learn() -> None:
    found = score(BUILT_IN["accuracy"], "classification", LABELS, LOGITS)
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert found.value == sk.accuracy_score(LABELS, LOGITS.argmax(axis=1))
    assert found.others["log_loss"] == pytest.approx(sk.log_loss(LABELS, shares))
    assert found.n == 200
    assert found.low < found.value < found.high


@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_regression_agrees_with_scikit_learn(shape: tuple[int, ...]) -> None:
    found = score(BUILT_IN["r2"], "regression", QUANTITIES, GUESSES.reshape(shape))
    assert found.value == pytest.approx(sk.r2_score(QUANTITIES, GUESSES), abs=1e-6)
    assert found.others["rmse"] == pytest.approx(sk.root_mean_squared_error(QUANTITIES, GUESSES), rel=1e-6)
    assert found.low < found.value < found.high


def test_large_logits_do_not_overflow() -> None:
    found = score(BUILT_IN["log_loss"], "classification", np.array([0, 1]), np.array([[1e4, 0.0], [0.0, 1e4]]))
    assert found.value == 0


def test_wilson_intervals_hold_the_share_95_times_in_100() -> None:
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        right = chance.random(60) < 0.9
        outputs = np.stack([right, ~right], axis=1).astype(float)
        found = score(BUILT_IN["accuracy"], "classification", np.zeros(60, np.int64), outputs)
        held += found.low <= 0.9 <= found.high
    assert 0.92 <= held / 600 <= 0.98


def test_outputs_that_are_not_finite_are_refused() -> None:
    broken = LOGITS.copy()
    broken[3, 1] = np.nan
    broken[9, 0] = np.inf
    with pytest.raises(StepError, match="NaN or infinite outputs for 2 of 200 rows"):
        score(BUILT_IN["accuracy"], "classification", LABELS, broken)


def test_a_metric_that_fails_is_named() -> None:
    def never(targets: np.ndarray, outputs: np.ndarray) -> float:
        raise ZeroDivisionError("no rows")

    with pytest.raises(StepError, match="metric mine raised ZeroDivisionError: no rows"):
        score(Metric("mine", never), "classification", LABELS, LOGITS)
    with pytest.raises(StepError, match="metric mine gives nan"):
        score(Metric("mine", lambda targets, outputs: float("nan")), "classification", LABELS, LOGITS)


def test_a_drop_is_what_gets_worse() -> None:
    assert BUILT_IN["accuracy"].drop(0.9, 0.8) == pytest.approx(0.1)
    assert BUILT_IN["rmse"].drop(1.0, 1.5) == pytest.approx(0.5)


def test_a_metric_without_a_value_on_some_resamples_still_has_an_interval() -> None:
    def found(targets: np.ndarray, outputs: np.ndarray) -> float:
        return float(outputs[targets == 1, 1].mean() if outputs[0, 0] > 0 else np.nan)

    targets = np.array([0] * 98 + [1] * 2)
    outputs = np.abs(np.random.default_rng(0).normal(size=(100, 2)))
    outputs[3, 0] = -1  # without a value where this row comes first
    scores = score(Metric("mine", found), "classification", targets, outputs)
    assert scores.low <= scores.value <= scores.high


def test_an_interval_of_few_values_is_all_of_them_and_of_none_is_told() -> None:
    seen: list[float] = []

    def sometimes(targets: np.ndarray, outputs: np.ndarray) -> float:
        value = float(outputs[:, 0].mean())
        usable = not seen or round(value * 1e6) % 5 == 0
        seen.extend([value] if usable else [])
        return value if usable else float("nan")

    scores = score(Metric("mine", sometimes), "regression", QUANTITIES, GUESSES[:, None])
    assert 20 < len(seen) - 1 < 200
    assert (scores.low, scores.high) == (min(seen[1:]), max(seen[1:]))

    def once(targets: np.ndarray, outputs: np.ndarray) -> float:
        return 1.0 if np.array_equal(targets, QUANTITIES) else float("nan")

    with pytest.raises(StepError, match="metric mine has no value on any resample of its 200 rows"):
        score(Metric("mine", once), "regression", QUANTITIES, GUESSES)


def test_a_rare_class_is_in_every_resample() -> None:
    targets = np.array([0] * 98 + [1] * 2)
    outputs = np.random.default_rng(0).normal(size=(100, 2))

    def area(targets: np.ndarray, outputs: np.ndarray) -> float:
        return float(sk.roc_auc_score(targets, outputs[:, 1]))

    scores = score(Metric("area", area), "classification", targets, outputs)
    assert scores.value == sk.roc_auc_score(targets, outputs[:, 1])
    assert 0 <= scores.low <= scores.value <= scores.high <= 1


@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_one_logit_is_enough_for_two_classes(shape: tuple[int, ...]) -> None:
    targets, single = LABELS % 2, LOGITS[:, 0]
    one = score(BUILT_IN["accuracy"], "classification", targets, single.reshape(shape))
    two = score(BUILT_IN["accuracy"], "classification", targets, np.stack([np.zeros(200), single], axis=1))
    assert (one.value, one.others["log_loss"]) == (two.value, pytest.approx(two.others["log_loss"]))


# How close outputs stay to the original's

A, B = generator.normal(size=(2, 20, 5))


def softmax(row: np.ndarray) -> list[float]:
    total = sum(math.exp(one) for one in row)
    return [math.exp(one) / total for one in row]


def test_kl_is_its_definition() -> None:
    each = [
        sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b), strict=True)) for a, b in zip(A, B, strict=True)
    ]
    assert kl(A, B) == pytest.approx(each)
    assert kl(A, A + generator.normal(size=(20, 1))) == pytest.approx(0, abs=1e-12)  # softmax does not see a shift
    assert kl(np.array([[1000.0, 0]]), np.array([[0, 1000.0]])) == pytest.approx(1000)


def test_cosine_is_the_angle_of_each_row() -> None:
    each = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(A, B, strict=True)]
    assert cosine(A, B) == pytest.approx(each)
    assert cosine(A, -A) == pytest.approx(-1)
    assert cosine(A.reshape(20, 5, 1), B.reshape(20, 5, 1)) == pytest.approx(each)
    zero = np.zeros((2, 3))
    assert cosine(zero, zero).tolist() == [1, 1]
    assert cosine(zero, np.ones((2, 3))).tolist() == [0, 0]


def test_agreement_is_the_share_of_equal_answers() -> None:
    reference = np.array([[1, 2], [3, 1], [0, 5], [1, 0]])
    assert agreement(reference, np.array([[0, 9], [1, 3], [0, 1], [4, 2]])).tolist() == [1, 0, 1, 1]
    assert agreement(np.array([[1.0], [-1], [2]]), np.array([[0.5], [1], [3]])).tolist() == [1, 0, 1]
    maps = generator.normal(size=(4, 3, 2, 2))
    assert agreement(maps, -maps).max() < 1


def test_metrics_of_maps_are_means_over_their_places() -> None:
    logits, labels = generator.normal(size=(6, 3, 4, 5)), generator.integers(0, 3, (6, 4, 5))
    flat, flat_labels = np.moveaxis(logits, 1, -1).reshape(-1, 3), labels.reshape(-1)
    maps = score(BUILT_IN["accuracy"], "classification", labels, logits)
    places = score(BUILT_IN["accuracy"], "classification", flat_labels, flat)
    assert (maps.value, maps.others) == (pytest.approx(places.value), pytest.approx(places.others))


@pytest.mark.parametrize(
    ("outputs", "first"),
    [
        (A, "agreement"),
        (A / np.linalg.norm(A, axis=1, keepdims=True), "cosine"),
        (generator.normal(size=(3, 2000)), "cosine"),
        (A[:, :1], "r2"),
        (A[:, 0], "r2"),
        (A.reshape(4, 5, 5), "cosine"),
        (generator.normal(size=(2, 7, 3, 3)), "agreement"),
        (generator.normal(size=(2, 3, 3, 3)), "cosine"),
    ],
)
def test_outputs_are_compared_by_what_they_look_like(outputs: np.ndarray, first: str) -> None:
    assert suited(outputs)[0] == first
    same = score(BUILT_IN[first], "unlabeled", outputs, outputs)
    assert (same.value, same.drop, same.divergence) == (pytest.approx(1), 0, pytest.approx(0, abs=1e-12))
    other = score(BUILT_IN[first], "unlabeled", outputs, -outputs)
    assert other.drop > 0.5
    assert other.drop_low <= other.drop <= other.drop_high
    assert other.divergence > 0.1


# Drops


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_a_drop_is_paired_with_the_baseline_row_by_row(name: str) -> None:
    worse = LOGITS + generator.normal(scale=0.5, size=LOGITS.shape)
    found = score(BUILT_IN[name], "classification", LABELS, worse, LOGITS)
    before = score(BUILT_IN[name], "classification", LABELS, LOGITS)
    assert found.drop == pytest.approx(BUILT_IN[name].drop(before.value, found.value))
    assert found.drop_low <= found.drop <= found.drop_high
    assert found.drop_high - found.drop_low < found.high - found.low  # pairs tell more than two separate figures
    assert (before.drop, before.drop_low <= 0 <= before.drop_high) == (0, True)


def test_the_standard_error_of_a_drop_counts_the_rows_that_changed() -> None:
    labels = np.zeros(100, np.int64)
    right = np.stack([np.ones(100), np.zeros(100)], axis=1)
    changed = right.copy()
    changed[:4] = changed[:4, ::-1]
    found = score(BUILT_IN["accuracy"], "classification", labels, changed, right)
    assert (found.drop, found.drop_error) == (0.04, pytest.approx(np.sqrt(0.04 * 0.96 / 100)))
    assert score(BUILT_IN["accuracy"], "classification", labels, right, right).drop_error == 0


def test_a_drop_of_an_own_metric_is_paired_too() -> None:
    noisy = GUESSES + generator.normal(scale=0.05, size=200)
    found = score(BUILT_IN["r2"], "regression", QUANTITIES, noisy, GUESSES)
    assert found.drop == pytest.approx(score(BUILT_IN["r2"], "regression", QUANTITIES, GUESSES).value - found.value)
    assert found.drop_low <= found.drop <= found.drop_high
    assert found.drop_high - found.drop_low < 0.3 * (found.high - found.low)
    assert found.drop_error == pytest.approx((found.drop_high - found.drop_low) / 3.92, rel=0.2)


def test_the_interval_of_a_drop_holds_it_95_times_in_100() -> None:
    chance, held = np.random.default_rng(0), 0
    for _ in range(600):
        kinds = chance.random(80)
        before, after = kinds < 0.95, (kinds < 0.88) | (kinds > 0.97)  # a true drop of .07 - .03
        pair = [np.stack([right, ~right], axis=1).astype(float) for right in (before, after)]
        found = score(BUILT_IN["accuracy"], "classification", np.zeros(80, np.int64), pair[1], pair[0])
        held += found.drop_low <= 0.04 <= found.drop_high
    assert 0.92 <= held / 600 <= 0.99
