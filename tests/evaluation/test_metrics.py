"""Oracles: scikit-learn, target by target, and cases counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    auc,
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from danq_keras.commands import benchmark as benchmark_command
from danq_keras.evaluation import bootstrap, metrics
from danq_keras.system.errors import InputError

EXACT = 1e-12


def simulate(rng, n_windows=700, n_targets=37, digits=None, dtype=np.float32):
    """37 targets are two blocks of 16 columns and a rest."""
    prevalence = np.linspace(0.01, 0.9, n_targets)
    labels = (rng.random((n_windows, n_targets)) < prevalence).astype(np.uint8)
    labels[0], labels[1] = 1, 0
    probs = np.clip(rng.random(labels.shape) * 0.8 + 0.2 * labels, 0, 1).astype(dtype)
    return labels, probs if digits is None else np.round(probs, digits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", [None, 2, 1, 0])
def test_equal_to_scikit_learn(rng, digits, dtype):
    labels, probs = simulate(rng, digits=digits, dtype=dtype)
    found = metrics.evaluate(labels, probs)
    assert found.positives.tolist() == labels.sum(axis=0).tolist()
    assert found.negatives.tolist() == (labels == 0).sum(axis=0).tolist()
    for t, (y, p) in enumerate(zip(labels.T, probs.T, strict=True)):
        precision, recall, _ = precision_recall_curve(y, p)
        sums = precision + recall
        f1 = np.divide(2 * precision * recall, sums, out=np.zeros(len(sums)), where=sums > 0)
        called = p >= 0.5
        expected = {
            "auroc": roc_auc_score(y, p),
            "auprc": average_precision_score(y, p),
            "auprc_interpolated": auc(recall, precision),
            "accuracy": accuracy_score(y, called),
            "f1": f1_score(y, called),
            "best_f1": max(f1),
        }
        for name, value in expected.items():
            assert getattr(found, name)[t] == pytest.approx(value, abs=EXACT), name
        reached = f1_score(y, p >= found.best_threshold[t])
        assert reached == pytest.approx(max(f1), abs=EXACT)


def test_hand_worked():
    labels = np.array([[1, 0, 1, 0, 0]], np.uint8).T
    probs = np.array([[0.9, 0.9, 0.5, 0.25, 0.75]], np.float32).T
    found = metrics.evaluate(labels, probs)
    # Pairs: 0.9 beats 0.25 and 0.75 and ties with 0.9; 0.5 beats 0.25.  3.5 of 6.
    assert found.auroc[0] == pytest.approx(3.5 / 6, abs=EXACT)
    # Precision 1/2 at 0.9 and 2/4 at 0.5, half the recall each.
    assert found.auprc[0] == pytest.approx(0.5, abs=EXACT)
    # From (0, 1) to (1/2, 1/2); down to 1/3 through the negative at 0.75; to (1, 1/2).
    expected = 0.5 * (1 + 1 / 2) / 2 + 0.5 * (1 / 3 + 1 / 2) / 2
    assert found.auprc_interpolated[0] == pytest.approx(expected, abs=EXACT)
    assert found.accuracy[0] == pytest.approx(3 / 5)
    assert found.f1[0] == found.best_f1[0] == pytest.approx(4 / 6)
    assert found.best_threshold[0] == 0.5


def test_first_call_is_wrong():
    """The curve leaves its start point at precision 0, not 1, when a negative scores highest."""
    labels = np.array([[0, 1]], np.uint8).T
    found = metrics.evaluate(labels, np.array([[0.9, 0.1]]).T)
    assert found.auprc_interpolated[0] == pytest.approx(0.25)
    assert found.auprc[0] == pytest.approx(0.5)


def test_perfect_reversed_and_flat():
    labels = np.array([[0, 0, 1, 1]] * 3, bool).T
    probs = np.array([[0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.3] * 4]).T
    found = metrics.evaluate(labels, probs)
    assert found.auroc.tolist() == [1.0, 0.0, 0.5]
    assert found.auprc.tolist()[::2] == [1.0, 0.5]
    assert found.best_f1[0] == 1.0
    assert found.best_threshold[0] == 0.8


def test_one_label_only_is_nan_and_stays():
    labels = np.array([[0, 1, 0], [0, 1, 1]], np.uint8)
    probs = np.array([[0.1, 0.6, 0.2], [0.3, 0.7, 0.9]], np.float32)
    found = metrics.evaluate(labels, probs)
    assert found.positives.tolist() == [0, 2, 1]
    assert found.negatives.tolist() == [2, 0, 1]
    for name in ("auroc", "auprc", "auprc_interpolated", "accuracy", "f1", "best_f1"):
        assert np.isnan(getattr(found, name)).tolist() == [True, True, False], name
    assert np.isnan(found.best_threshold).tolist() == [True, True, False]


def test_no_rows():
    found = metrics.evaluate(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.float32))
    assert found.positives.tolist() == [0, 0, 0]
    assert np.isnan(found.auroc).all()


def test_ignored_entries_do_not_count(rng):
    labels, probs = simulate(rng, n_targets=20, digits=2)
    ignore = (rng.random(labels.shape) < 0.3).astype(np.uint8)
    ignore[:2] = 0
    found = metrics.evaluate(labels, probs, ignore=ignore)
    changed = np.where(ignore == 1, 1 - labels, labels).astype(np.uint8)
    again = metrics.evaluate(changed, np.where(ignore == 1, np.float32(0.99), probs), ignore=ignore)
    for t in range(labels.shape[1]):
        keep = ignore[:, t] == 0
        alone = metrics.evaluate(labels[keep, t : t + 1], probs[keep, t : t + 1])
        for name in ("positives", "negatives", "auroc", "auprc", "accuracy", "f1", "best_f1"):
            assert getattr(found, name)[t] == getattr(alone, name)[0]
            assert getattr(found, name)[t] == getattr(again, name)[t]


def test_threshold_is_compared_exactly():
    """0.7 lies between float32(0.7) and the next float32: the former is below it."""
    labels = np.array([[1], [0]], np.uint8)
    probs = np.array([[0.7], [0.1]], np.float32)
    assert float(probs[0, 0]) < 0.7
    assert metrics.evaluate(labels, probs, threshold=0.7).f1[0] == 0
    assert metrics.evaluate(labels, probs, threshold=float(probs[0, 0])).f1[0] == 1
    assert metrics.f1_at(labels, probs, np.array([0.7]))[0] == 0
    half = np.array([[0.5], [0.1]], np.float32)
    assert metrics.evaluate(labels, half).f1[0] == 1


def test_f1_at_own_thresholds(rng):
    labels, probs = simulate(rng, n_windows=5000, n_targets=7)
    labels[:, 6] = 0
    thresholds = np.array([0.1, 0.2, 0.3, 0.4, 0.5, np.nan, 0.5])
    found = metrics.f1_at(labels, probs, thresholds)
    for t in range(5):
        assert found[t] == pytest.approx(
            f1_score(labels[:, t], probs[:, t] >= thresholds[t]), abs=EXACT
        )
    assert np.isnan(found[5:]).all()
    complete = metrics.evaluate(labels, probs)
    again = metrics.f1_at(labels, probs, complete.best_threshold)
    np.testing.assert_allclose(again, complete.best_f1, atol=EXACT)
    ignore = rng.random(labels.shape) < 0.5
    kept = ~ignore[:, 3]
    expected = f1_score(labels[kept, 3], probs[kept, 3] >= 0.4)
    assert metrics.f1_at(labels, probs, thresholds, ignore=ignore)[3] == pytest.approx(expected)


def test_macro_counts_and_averages():
    labels = np.zeros((6, 4), np.uint8)
    labels[0, :3], labels[1, 1:3], labels[2, 2] = 1, 1, 1
    probs = np.array([[0.9, 0.8, 0.1, 0.5], *[[0.5, 0.5, 0.5, 0.5]] * 5])
    found = metrics.evaluate(labels, probs)
    every = metrics.macro(found)
    assert (every.n_counted, every.n_total, every.min_positives) == (3, 4, 1)
    assert every.auroc_mean == pytest.approx(np.mean(found.auroc[:3]))
    assert every.auroc_median == np.median(found.auroc[:3])
    assert every.auprc_mean == pytest.approx(np.mean(found.auprc[:3]))
    two = metrics.macro(found, 2)
    assert (two.n_counted, two.n_total) == (2, 4)
    assert two.auprc_median == pytest.approx(np.mean(found.auprc[1:3]))
    group = metrics.macro(found, where=np.array([True, False, False, True]))
    assert (group.n_counted, group.n_total) == (1, 2)
    assert group.auroc_mean == found.auroc[0]
    nothing = metrics.macro(found, 7)
    assert nothing.n_counted == 0
    assert np.isnan(nothing.auroc_mean)
    with pytest.raises(ValueError, match="at least 1"):
        metrics.macro(found, 0)


def test_subset_keeps_the_asked_order(rng):
    found = metrics.evaluate(*simulate(rng, n_targets=5))
    part = found.subset([3, 1])
    assert len(part) == 2
    assert part.auroc.tolist() == found.auroc[[3, 1]].tolist()
    assert part.positives.tolist() == found.positives[[3, 1]].tolist()


def test_genome_blocks():
    chrom = np.array(["chr8", "chr8", "chr9", "chr8", "chr9"])
    start = np.array([0, 99_999, 99_000, 100_000, 50], np.int64)
    blocks = bootstrap.genome_blocks(chrom, start)
    assert blocks.tolist() == [0, 0, 2, 1, 2]
    assert bootstrap.genome_blocks(chrom, start, block=50_000).tolist() == [0, 1, 4, 2, 3]
    assert bootstrap.genome_blocks(None, start) is None
    assert bootstrap.genome_blocks(chrom, None) is None


@pytest.mark.parametrize("with_ignore", [False, True])
def test_bootstrap_equals_gathering_the_rows(rng, monkeypatch, with_ignore):
    """The oracle draws the same blocks, gathers their rows and asks scikit-learn."""
    monkeypatch.setattr(bootstrap, "_BOOTSTRAP_VALUES", 1000)  # several blocks of resamples
    labels, probs = simulate(rng, n_windows=150, n_targets=3, digits=1)
    ignore = (rng.random(labels.shape) < 0.2) if with_ignore else None
    blocks = np.sort(rng.integers(0, 12, 150))
    blocks = np.unique(blocks, return_inverse=True)[1]
    n_blocks = blocks.max() + 1
    found = bootstrap.bootstrap(labels, probs, blocks=blocks, n=50, seed=5, ignore=ignore)
    draws = np.random.default_rng(5)
    areas = []
    for _ in range(50):
        drawn = draws.integers(n_blocks, size=n_blocks)
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in drawn])
        for t in range(3):
            kept = rows if ignore is None else rows[~ignore[rows, t]]
            y, p = labels[kept, t], probs[kept, t]
            valid = 0 < y.sum() < len(y)
            areas.append(
                (roc_auc_score(y, p), average_precision_score(y, p)) if valid else (np.nan,) * 2
            )
    expected = np.nanpercentile(np.array(areas).reshape(50, 3, 2), (2.5, 97.5), axis=0)
    np.testing.assert_allclose([found.auroc_low, found.auroc_high], expected[..., 0], atol=EXACT)
    np.testing.assert_allclose([found.auprc_low, found.auprc_high], expected[..., 1], atol=EXACT)
    n_valid = np.isfinite(np.array(areas).reshape(50, 3, 2)[..., 0]).sum(axis=0)
    assert found.n_valid.tolist() == n_valid.tolist()


def test_bootstrap_without_coordinates_and_without_positives(rng):
    labels, probs = simulate(rng, n_windows=400, n_targets=3)
    labels[:, 1] = 0
    found = bootstrap.bootstrap(labels, probs, blocks=None, n=100, seed=0)
    rows = bootstrap.bootstrap(labels, probs, blocks=np.arange(400), n=100, seed=0)
    assert found.auroc_low[2] == rows.auroc_low[2]
    assert found.auroc_low[2] < metrics.evaluate(labels, probs).auroc[2] < found.auroc_high[2]
    assert np.isnan(found.auprc_low[1])
    assert found.n_valid.tolist()[1] == 0
    other = bootstrap.bootstrap(labels, probs, blocks=None, n=100, seed=1)
    assert other.auroc_low[2] != found.auroc_low[2]


def test_correlated_rows_widen_the_interval(rng):
    """Each window ten times over: blocks must see as much doubt as the windows once."""
    labels, probs = simulate(rng, n_windows=300, n_targets=1)
    labels = (rng.random((300, 1)) < 0.3).astype(np.uint8)
    copies, again = np.repeat(labels, 10, axis=0), np.repeat(probs, 10, axis=0)

    def width(y, p, blocks):
        found = bootstrap.bootstrap(y, p, blocks=blocks, n=300, seed=3)
        return float(found.auroc_high[0] - found.auroc_low[0])

    blocked = width(copies, again, np.repeat(np.arange(300), 10))
    assert blocked == pytest.approx(width(labels, probs, None), rel=1e-9)
    assert width(copies, again, None) < blocked / 2


def test_wrong_input_is_refused():
    labels, probs = np.zeros((4, 2), np.uint8), np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"one shape \(N, T\)"):
        metrics.evaluate(labels[:3], probs)
    with pytest.raises(ValueError, match="ignore has the shape"):
        metrics.evaluate(labels, probs, ignore=labels[:, :1])
    with pytest.raises(ValueError, match="float32 or float64"):
        metrics.evaluate(labels, probs.astype(np.float16))
    with pytest.raises(ValueError, match="One threshold a target"):
        metrics.f1_at(labels, probs, np.array([0.5]))
    with pytest.raises(ValueError, match="at least 1 resample"):
        bootstrap.bootstrap(labels, probs, blocks=None, n=0, seed=0)
    with pytest.raises(ValueError, match="One block a row"):
        bootstrap.bootstrap(labels, probs, blocks=np.arange(3), n=1, seed=0)
    probs[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        metrics.evaluate(labels, probs)


def benchmark(*options):
    return benchmark_command.main(["metrics", *options])


def test_benchmark_prints_a_ratio(capsys):
    assert benchmark("--windows", "2000", "--targets", "4", "--yardstick-targets", "2") == 0
    shown = capsys.readouterr().out
    assert "x faster" in shown
    assert "scaled from 2 targets" in shown
    benchmark("--windows", "500", "--targets", "2")
    assert "scaled" not in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--yardstick-targets: must be at least 1\. Received: 0"):
        benchmark("--yardstick-targets", "0")


@pytest.mark.parametrize("hide", [False, True])
def test_matthews_is_that_of_scikit_learn(rng, hide):
    from sklearn.metrics import matthews_corrcoef

    labels = rng.integers(0, 2, (80, 4), dtype=np.uint8)
    probs = (0.3 * labels + 0.7 * rng.random((80, 4))).astype(np.float32)
    labels[:, 2], probs[:, 3] = 0, 0.2
    ignore = (rng.random((80, 4)) < 0.3).astype(np.uint8) if hide else None
    found = metrics.matthews(labels, probs, ignore=ignore)
    for target in (0, 1):
        keep = slice(None) if ignore is None else ignore[:, target] == 0
        expected = matthews_corrcoef(labels[keep, target], probs[keep, target] >= 0.5)
        assert found[target] == pytest.approx(expected)
    assert np.isnan(found[2])  # no positive
    assert found[3] == 0  # nothing is called
