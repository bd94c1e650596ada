import json
import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from danq_keras.evaluation import calibration
from danq_keras.evaluation.calibration import EDGES, calibrate, calibration_summary

EXACT = 1e-12


def random_case(rng, n=500, n_targets=7):
    probs = (rng.random((n, n_targets)) ** 3).astype(np.float32)
    labels = (rng.random(probs.shape) < 0.8 * probs).astype(np.uint8)
    return labels, probs


def expected(labels, probs, edges):
    """Bins by scikit-learn: share of positives and mean probability of those that hold labels."""
    width = len(edges) - 1
    assert np.allclose(edges, np.linspace(0, 1, width + 1))
    return calibration_curve(labels.ravel(), probs.ravel().astype(float), n_bins=width)


@pytest.mark.parametrize("n_bins", [1, 5, 20])
def test_bins_are_scikit_learns(rng, n_bins):
    labels, probs = random_case(rng)
    edges = np.linspace(0, 1, n_bins + 1)
    found = calibrate(labels, probs, edges=edges)
    share, mean = expected(labels, probs, edges)
    filled = found.counts > 0
    np.testing.assert_allclose(found.positive_share[filled], share, atol=EXACT)
    np.testing.assert_allclose(found.mean_probability[filled], mean, atol=EXACT)
    assert found.brier == pytest.approx(brier_score_loss(labels.ravel(), probs.ravel()), abs=1e-7)
    assert found.counts.sum() == labels.size
    assert found.positives.sum() == labels.sum()


def test_quantile_bins_are_scikit_learns(rng):
    labels, probs = random_case(rng)
    edges = np.quantile(probs.astype(float), np.linspace(0, 1, 11))
    found = calibrate(labels, probs, edges=edges)
    share, mean = calibration_curve(
        labels.ravel(), probs.ravel().astype(float), n_bins=10, strategy="quantile"
    )
    np.testing.assert_allclose(found.positive_share, share, atol=EXACT)
    np.testing.assert_allclose(found.mean_probability, mean, atol=EXACT)


def test_by_hand():
    """Four labels in two bins: (0.2 + 0.4) / 2 with one of two, 0.9 and 0.7 with both positive."""
    labels, probs = np.array([[0, 1], [1, 1]]), np.array([[0.2, 0.4], [0.9, 0.7]])
    found = calibrate(labels.astype(bool), probs, edges=(0, 0.5, 1))
    assert found.counts.tolist() == [2, 2]
    assert found.positive_share.tolist() == [0.5, 1.0]
    np.testing.assert_allclose(found.mean_probability, [0.3, 0.8])
    assert found.expected_error == pytest.approx((2 * 0.2 + 2 * 0.2) / 4)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.01 + 0.09) / 4)


def test_an_edge_belongs_to_the_bin_below_and_both_ends_count():
    probs = np.array([[0.0, 0.1, 0.5, 1.0]])
    found = calibrate(np.zeros((1, 4), np.uint8), probs, edges=(0, 0.1, 0.5, 1))
    assert found.counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize("block", [1, 10, 1 << 22])
def test_ignored_labels_do_not_count_in_blocks_of_any_size(rng, monkeypatch, block):
    monkeypatch.setattr(calibration, "_BLOCK", block)
    labels, probs = random_case(rng, n=60)
    ignore = (rng.random(probs.shape) < 0.3).astype(np.uint8)
    found = calibrate(labels, probs, ignore=ignore)
    keep = ignore == 0
    alone = calibrate(labels[keep][:, None], probs[keep][:, None])
    assert found.counts.tolist() == alone.counts.tolist()
    assert found.positives.tolist() == alone.positives.tolist()
    np.testing.assert_allclose(found.mean_probability, alone.mean_probability, atol=EXACT)
    assert found.brier == pytest.approx(alone.brier)
    assert found.expected_error == pytest.approx(alone.expected_error)


def test_true_probabilities_are_calibrated(rng):
    probs = rng.random((20_000, 10))
    labels = rng.random(probs.shape) < probs
    right, half = calibrate(labels, probs), calibrate(labels, probs / 2)
    assert right.expected_error < 0.005
    assert half.expected_error == pytest.approx(0.25, abs=0.01)
    assert half.brier > right.brier


def test_without_labels_there_are_no_figures():
    labels, probs = np.zeros((3, 2), np.uint8), np.full((3, 2), 0.5, np.float32)
    for found in (
        calibrate(labels[:0], probs[:0]),
        calibrate(labels, probs, ignore=np.ones((3, 2), np.uint8)),
    ):
        assert found.counts.sum() == 0
        assert math.isnan(found.brier)
        assert math.isnan(found.expected_error)
        summary = calibration_summary(found, unlabelled_share=0.0)
        assert summary["labels"] == 0
        assert summary["brier"] is summary["expected_calibration_error"] is None
        assert summary["brier_of_base_rate"] is None


def test_summary_is_json_and_names_its_condition(rng):
    labels, probs = random_case(rng)
    summary = calibration_summary(calibrate(labels, probs), unlabelled_share=0.0)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert len(summary["bins"]) == len(EDGES) - 1
    assert sum(each["labels"] for each in summary["bins"]) == summary["labels"] == labels.size
    rate = labels.mean()
    assert summary["brier_of_base_rate"] == pytest.approx(rate * (1 - rate))
    assert "P(target | some peak)" in summary["note"]
    some = calibration_summary(calibrate(labels, probs), unlabelled_share=0.25)["note"]
    assert "25 % of the windows" in some
    assert "P(target | some peak)" not in some


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_values_that_are_no_probabilities_are_refused(wrong):
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibrate(np.zeros((1, 2), np.uint8), np.array([[0.5, wrong]]))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"one shape. Received: \[\(2, 3\), \(2, 2\), None\]"):
        calibrate(np.zeros((2, 3), np.uint8), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one shape"):
        calibrate(np.zeros((2, 2), np.uint8), np.zeros((2, 2)), ignore=np.zeros((2, 1), np.uint8))
