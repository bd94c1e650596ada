"""Whole trainings on real data against those of the original stack, four seeds of it.

`tests/data/keras02_training.npz` holds what Keras 0.2.0 on Theano came to on yeast: losses of eight
epochs, and the test's AUCs of 150 targets. The rule by which ours are judged was stated before it
was applied; what it sees, and what not, stands in docs/fidelity.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from danq_keras.commands import make_dataset, train

OLD = Path(__file__).resolve().parents[1] / "data" / "keras02_training.npz"
N_CHECKS = 18  # eight epochs of two losses, and two mean AUCs
ERROR = 0.01  # how often all of them together may fail by chance


@pytest.fixture(scope="module")
def old():
    with np.load(OLD) as file:
        return {name: file[name] for name in file.files}


def curve_interval(losses, n_new):
    """Where the mean loss of `n_new` more seeds lies in each epoch, from seeds (S, E).

    The standard deviation is pooled over the epochs from the second on: four seeds give that of a
    single epoch only to a factor of two or three. The first epoch, which varies far more, has its
    own. Student's t is taken at the error of all checks together (Bonferroni).
    """
    n, n_epochs = losses.shape
    variance = losses.var(axis=0, ddof=1)
    sd = np.sqrt(np.r_[variance[0], np.full(n_epochs - 1, variance[1:].mean())])
    freedom = (n - 1) * np.r_[1, np.full(n_epochs - 1, n_epochs - 1)]
    half = stats.t.ppf(1 - ERROR / N_CHECKS / 2, freedom) * sd * np.sqrt(1 / n + 1 / n_new)
    return losses.mean(axis=0) - half, losses.mean(axis=0) + half


def outside(losses, new):
    """Epochs, from 1, in which the mean of new seeds (s, E) is not where it should be."""
    low, high = curve_interval(losses, len(new))
    mean = new.mean(axis=0)
    return [int(epoch) + 1 for epoch in np.flatnonzero((mean < low) | (mean > high))]


def mean_interval(areas, n_new):
    """Where the mean of `n_new` more seeds lies, from the means over targets of seeds (S,)."""
    n = len(areas)
    half = stats.t.ppf(0.995, n - 1) * areas.std(ddof=1) * np.sqrt(1 / n + 1 / n_new)
    return areas.mean() - half, areas.mean() + half


@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_the_old_stacks_own_seeds_lie_within_each_others(old, name):
    """Two seeds against the rule made from all four: nothing is seen where nothing is wrong."""
    losses = old[name]
    assert losses.shape == (4, 8)
    for pair in ([0, 1], [2, 3], [0, 3]):
        assert outside(losses, losses[pair]) == []


def test_a_faster_descent_is_seen(old):
    """Losses as of Keras' own epsilon: lower by 0.005 in the second half."""
    shifted = old["loss"][:2] - 0.005 * (np.arange(8) >= 4)
    assert set(outside(old["loss"], shifted)) >= {5, 6, 7, 8}


def test_means_by_hand():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    # t(.995, 3) = 5.841, sd = 1.291, sqrt(1/4 + 1/2) = 0.866
    np.testing.assert_allclose([low, high], [2.5 - 6.530, 2.5 + 6.530], atol=2e-3)


@pytest.mark.slow
@pytest.mark.data
def test_two_seeds_train_as_the_old_stack_does(old, data_dir, tmp_path):
    yeast = data_dir / "yeast"
    nuclear = ",".join(f"chr{number}" for number in range(1, 17))
    words = [
        *("genome", tmp_path / "data", "--genome", yeast / "sacCer3.fa.gz", "--peaks"),
        *sorted((yeast / "peaks").glob("*.bed")),
        *("--window", 400, "--resize-peaks", 200, "--chroms", nuclear),
        *("--test-chroms", "chr8,chr9", "--valid-region", "chr7"),
    ]
    assert make_dataset.main([str(word) for word in words]) == 0
    words = [
        *("--data", tmp_path / "data", "--out", tmp_path / "ours", "--preset", "danq"),
        *("--repeats", 2, "--epochs", 8, "--patience", "none", "--learning-rate", 0.004),
        *("--train-limit", 8000, "--data-seed", 0, "--set", "gates=hard"),
        *("filters=32", "lstm_units=16", "dense_units=64"),
    ]
    assert train.main([str(word) for word in words]) == 0
    runs = [tmp_path / "ours" / f"seed-{seed}" for seed in (0, 1)]
    history = [pd.read_csv(run / "history.csv") for run in runs]
    for name in ("loss", "val_loss"):
        assert outside(old[name], np.array([each[name] for each in history])) == []
    tables = [pd.read_csv(run / "test_aucs.tsv", sep="\t") for run in runs]
    for ours, theirs in (("auroc", "test_auroc"), ("auprc", "test_auprc")):
        low, high = mean_interval(np.nanmean(old[theirs], axis=1), len(runs))
        assert low <= np.mean([table[ours].mean() for table in tables]) <= high
