"""Intervals of means over targets: an oracle that gathers rows, and pairs of networks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from danq_keras.evaluation import comparison, comparison_text, resamples
from danq_keras.evaluation.bootstrap import FIGURES, bootstrap, percentile_interval
from danq_keras.evaluation.comparison import AucTable
from danq_keras.evaluation.resamples import KeptResamples
from danq_keras.system.errors import InputError

N, TARGETS, RESAMPLES = 160, 4, 60
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def simulate(rng, noise=1.0):
    """Labels of which the last target has few positives, scores with ties, blocks of neighbours."""
    labels = (rng.random((N, TARGETS)) < [0.4, 0.3, 0.3, 0.0]).astype(np.uint8)
    labels[[3, 90], 3] = 1
    probs = 1 / (1 + np.exp(-(labels - 0.5 + noise * rng.normal(size=labels.shape))))
    blocks = np.unique(np.sort(rng.integers(0, 14, N)), return_inverse=True)[1]
    return labels, probs.round(2).astype(np.float32), blocks


def gathered(labels, probs, blocks, ignore=None):
    """(3, T, R): the rows of the drawn blocks put together, and scikit-learn asked."""
    draws, n_blocks = np.random.default_rng(5), blocks.max() + 1
    found = np.full((3, TARGETS, RESAMPLES), np.nan)
    for resample in range(RESAMPLES):
        drawn = draws.integers(n_blocks, size=n_blocks)
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in drawn])
        for t in range(TARGETS):
            kept = rows if ignore is None else rows[~ignore[rows, t]]
            y, p = labels[kept, t], probs[kept, t]
            if 0 < y.sum() < len(y):
                found[:, t, resample] = (
                    roc_auc_score(y, p),
                    average_precision_score(y, p),
                    matthews_corrcoef(y, p >= 0.5),
                )
    return found


def drawn_of(labels, probs, blocks, **options):
    found = bootstrap(labels, probs, blocks=blocks, n=RESAMPLES, seed=5, **options).resamples
    assert found is not None
    return found


def table_of(probs, groups=("", "", "", "")):
    frame = pd.DataFrame({"name": NAMES, "group": groups, "positives": [9, 9, 9, 2]})
    return frame.assign(auroc=probs.mean(axis=0))


@pytest.mark.parametrize("with_ignore", [False, True])
def test_intervals_of_means_equal_gathering_the_rows(rng, with_ignore):
    labels, probs, blocks = simulate(rng)
    ignore = (rng.random(labels.shape) < 0.2) if with_ignore else None
    found = drawn_of(labels, probs, blocks, ignore=ignore)
    oracle = gathered(labels, probs, blocks, ignore)
    assert np.isnan(oracle[0, 3]).any()  # the rare target is missing now and then
    for figure, expected in zip(FIGURES, oracle, strict=True):
        np.testing.assert_allclose(found.figures[figure], expected, atol=1e-6)

    table = table_of(probs, ("x", "x", "", ""))
    summary = resamples.bootstrap_summary(found, table, min_positives=1)
    assert summary["resamples"] == RESAMPLES
    assert summary["unit"] == "14 blocks of 100 kb: too few for intervals to be trusted"
    for figure, values in zip(FIGURES, oracle, strict=True):
        for part, rows in (
            (summary["overall"], slice(None)),
            (summary["groups"]["x"], slice(0, 2)),
            (resamples.bootstrap_summary(found, table, min_positives=5)["overall"], slice(0, 3)),
        ):
            ends = np.nanpercentile(np.nanmean(values[rows], axis=0), (2.5, 97.5))
            np.testing.assert_allclose([part[figure]["low"], part[figure]["high"]], ends, atol=1e-6)


def test_equal_targets_are_no_more_certain_than_one(rng):
    """Independent draws for each target would narrow the interval of the mean by half."""
    labels, probs, blocks = simulate(rng)
    copies = np.repeat(labels[:, :1], 4, axis=1), np.repeat(probs[:, :1], 4, axis=1)
    found = bootstrap(*copies, blocks=blocks, n=200, seed=1)
    assert found.resamples is not None
    interval = percentile_interval(found.resamples.means("auroc", np.ones(4, bool)))
    assert interval == pytest.approx((found.auroc_low[0], found.auroc_high[0]), abs=1e-12)


def side_of(labels, probs, blocks, **options):
    observed = {
        "auroc": [roc_auc_score(y, p) for y, p in zip(labels.T, probs.T, strict=True)],
        "auprc": [average_precision_score(y, p) for y, p in zip(labels.T, probs.T, strict=True)],
        "mcc": [matthews_corrcoef(y, p >= 0.5) for y, p in zip(labels.T, probs.T, strict=True)],
    }
    drawn = drawn_of(labels, probs, blocks, **options)
    return KeptResamples(NAMES, {k: np.array(v) for k, v in observed.items()}, drawn)


def test_paired_differences_equal_gathering_the_rows(rng):
    labels, probs, blocks = simulate(rng)
    worse = (probs + rng.random(probs.shape) * 0.5).astype(np.float32) / 1.5
    sides = [side_of(labels, each, blocks) for each in (probs, worse)]
    oracle = [gathered(labels, each, blocks) for each in (probs, worse)]
    found = resamples.paired_differences(*sides)
    assert [each.figure for each in found] == list(FIGURES)
    for i, each in enumerate(found):
        means = [np.nanmean(side[i], axis=0) for side in oracle]
        ends = np.nanpercentile(means[0] - means[1], (2.5, 97.5))
        np.testing.assert_allclose([each.low, each.high], ends, atol=1e-6)
        observed = [side.observed[each.figure].mean() for side in sides]
        assert each.difference == pytest.approx(observed[0] - observed[1])
    # In pairs: much narrower than the interval of one mean.
    alone = percentile_interval(np.nanmean(oracle[0][0], axis=0))
    assert alone is not None
    assert found[0].high - found[0].low < 0.8 * (alone[1] - alone[0])


def test_only_the_same_resamples_make_pairs(rng):
    labels, probs, blocks = simulate(rng)
    ours = side_of(labels, probs, blocks, windows="a")
    assert resamples.paired_differences(ours, side_of(labels, probs, blocks, windows="a"))
    assert resamples.paired_differences(ours, side_of(labels, probs, blocks, windows="b")) == ()
    other = (blocks + 1) % (blocks.max() + 1)
    assert resamples.paired_differences(ours, side_of(labels, probs, other, windows="a")) == ()


def auc_table(label, side):
    n = len(NAMES)
    frame = pd.DataFrame(
        {
            "target": range(n),
            "name": NAMES,
            **dict.fromkeys(("cell_type", "assay", "treatment", "group"), [""] * n),
            "positives": [9] * n,
            **dict.fromkeys(("auroc", "auprc", "auprc_interpolated"), side.observed["auroc"]),
        }
    )
    return AucTable(label, frame, resamples=side)


def test_a_comparison_tells_the_differences_of_means(rng):
    labels, probs, blocks = simulate(rng)
    worse = (probs + rng.random(probs.shape)).astype(np.float32) / 2
    ours, theirs = (
        auc_table(label, side_of(labels, each, blocks))
        for label, each in (("ours", probs), ("theirs", worse))
    )
    found = comparison.compare(ours, theirs)
    assert found.means is not None
    text = comparison_text.markdown([found])
    assert f"{found.means[0].low:+.4f} to {found.means[0].high:+.4f}" in text
    assert "(60 resamples of 14 blocks of 100 kb: too few" in text

    # Over the targets that both have, in the order of ours.
    assert theirs.resamples is not None
    fewer = dataclasses.replace(
        theirs,
        frame=theirs.frame.iloc[[2, 0]],
        resamples=theirs.resamples.subset(["c", "a"]),
    )
    part = comparison.compare(ours, fewer, common=True).means
    assert part is not None
    rows = [0, 2]
    expected = resamples.paired_differences(
        *(side.resamples.subset([NAMES[i] for i in rows]) for side in (ours, theirs))
    )
    assert part == expected

    none = comparison.compare(ours, dataclasses.replace(theirs, resamples=None))
    assert none.means is None
    assert "interval" not in comparison_text.markdown([none])
    apart = dataclasses.replace(theirs, resamples=side_of(labels, worse, blocks, windows="b"))
    text = comparison_text.markdown([comparison.compare(ours, apart)])
    assert "not tested on the same resamples" in text


def test_resamples_come_back_from_their_file(rng, tmp_path):
    labels, probs, blocks = simulate(rng)
    side = side_of(labels, probs, blocks)
    path = tmp_path / resamples.FILE
    resamples.write_resamples(path, side)
    again = resamples.read_resamples(path)
    assert again.names == NAMES
    assert (again.resamples.drawn, again.resamples.unit) == (
        side.resamples.drawn,
        side.resamples.unit,
    )
    for figure in FIGURES:
        np.testing.assert_array_equal(again.observed[figure], side.observed[figure])
        np.testing.assert_allclose(
            again.resamples.figures[figure], side.resamples.figures[figure], atol=1e-7
        )


def test_a_damaged_file_of_resamples_is_one_line(rng, tmp_path):
    labels, probs, blocks = simulate(rng)
    path = tmp_path / resamples.FILE
    side = side_of(labels, probs, blocks)
    resamples.write_resamples(path, dataclasses.replace(side, names=NAMES[:3]))
    with pytest.raises(InputError, match="of other sizes than its 3 targets"):
        resamples.read_resamples(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="not a readable file of resamples") as caught:
        resamples.read_resamples(path)
    assert "\n" not in str(caught.value)
