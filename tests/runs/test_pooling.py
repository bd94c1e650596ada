import json

import h5py
import numpy as np
import pytest
import tiny
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from danq_keras.data import folds
from danq_keras.data.store import open_store
from danq_keras.evaluation import auc_tables, metrics
from danq_keras.genome.dna import unpack_labels
from danq_keras.runs import pooling
from danq_keras.runs.pooling import PREDICTIONS, Pooling
from danq_keras.system.errors import InputError

N_FOLDS = 3


def fold_runs(folder, rng, *, numbers=(0, 1, 2), ignore=False):
    """(run, data) of each fold: random predictions, thresholds and losses."""
    source = tiny.make_dataset(folder / "source", n_chroms=5, ignore=ignore)
    dealt = folds.deal_dataset(source, N_FOLDS)
    pairs = []
    for number in range(N_FOLDS):
        run, data = folder / f"fold-{number}", folder / f"data-{number}"
        folds.write_fold(source, dealt, number, data)
        run.mkdir()
        split = open_store(data).test
        labels = unpack_labels(split.labels, 3)[:, list(numbers)]
        probs = rng.random(labels.shape, np.float32)
        with h5py.File(run / PREDICTIONS, "w") as file:
            file["pred"] = probs
            file["targets"] = [f"target{number}" for number in numbers]
            file.create_dataset("chrom", data=split.chrom.tolist(), dtype=h5py.string_dtype())
            file["start"], file["end"] = split.start, split.start + split.header.window
            file.attrs.update({"strands": "both", "package_version": "x"})
        table = auc_tables.auc_table(
            split.header.targets.subset(numbers),
            numbers,
            metrics=metrics.evaluate(labels, probs),
            thresholds=rng.random(len(numbers)),
        )
        auc_tables.write_auc_table(run / "test_aucs.tsv", table)
        summary = {"overall": {"loss": 0.5 + number}}
        (run / "test_summary.json").write_text(json.dumps(summary))
        pairs.append((run, data))
    return pairs


def read(pairs, numbers=(0, 1, 2)):
    return [pooling.read_fold_test(run, data, numbers) for run, data in pairs]


def test_pooled_figures_equal_scikit_learn(tmp_path, rng):
    numbers = (2, 0)
    tests = read(fold_runs(tmp_path, rng, numbers=numbers), numbers)
    table, summary = pooling.pool(tests, Pooling(numbers))
    labels = np.concatenate([test.labels for test in tests])
    probs = np.concatenate([test.probs for test in tests])
    called = np.concatenate(
        [
            test.probs >= auc_tables.read_auc_table(run)["threshold"].to_numpy()
            for test, run in zip(tests, sorted(tmp_path.glob("fold-*/test_aucs.tsv")), strict=True)
        ]
    )
    assert len(labels) == 83  # every window once
    assert list(table["target"]) == [2, 0]
    for column in range(2):
        y, p = labels[:, column], probs[:, column]
        row = table.iloc[column]
        assert row["auroc"] == pytest.approx(roc_auc_score(y, p))
        assert row["auprc"] == pytest.approx(average_precision_score(y, p))
        assert row["f1_at_threshold"] == pytest.approx(f1_score(y, called[:, column]))
    assert table["threshold"].isna().all()
    weights = [len(test.labels) for test in tests]
    assert summary["overall"]["loss"] == pytest.approx(np.average([0.5, 1.5, 2.5], weights=weights))
    assert summary["overall"]["f1_pooled"] == pytest.approx(
        f1_score(labels.ravel(), probs.ravel() >= 0.5)
    )


def test_ignored_labels_do_not_count(tmp_path, rng):
    tests = read(fold_runs(tmp_path, rng, ignore=True))
    table, _ = pooling.pool(tests, Pooling((0, 1, 2)))
    keep = np.concatenate([test.ignore for test in tests]) == 0
    labels = np.concatenate([test.labels for test in tests])
    probs = np.concatenate([test.probs for test in tests])
    assert not keep.all()
    for column, row in enumerate(table.to_dict("records")):
        k = keep[:, column]
        assert row["auroc"] == pytest.approx(roc_auc_score(labels[k, column], probs[k, column]))
        assert row["positives"] == labels[k, column].sum()


def test_bootstrap_gives_intervals(tmp_path, rng):
    tests = read(fold_runs(tmp_path, rng))
    table, _ = pooling.pool(tests, Pooling((0, 1, 2), bootstrap=30))
    assert (table["auroc_low"] <= table["auroc"]).all()
    assert (table["auroc"] <= table["auroc_high"]).all()


def test_predictions_are_joined_in_order(tmp_path, rng):
    pairs = fold_runs(tmp_path, rng)
    out = tmp_path / "joined.h5"
    pooling.join_predictions([run / PREDICTIONS for run, _ in pairs], out)
    tests = read(pairs)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["pred"][:], np.concatenate([t.probs for t in tests]))
        expected = np.concatenate([t.split.chrom for t in tests])
        assert list(file["chrom"].asstr()[:]) == list(expected)
        np.testing.assert_array_equal(file["end"][:] - file["start"][:], tiny.WINDOW)
        assert list(file["targets"].asstr()[:]) == ["target0", "target1", "target2"]
        assert file.attrs["strands"] == "both"


def test_missing_or_other_predictions_are_one_line(tmp_path, rng):
    (run, data), *_ = fold_runs(tmp_path, rng)
    with pytest.raises(InputError, match=r"predictions \(\d+, 3\) for \d+ windows and 2 targets"):
        pooling.read_fold_test(run, data, (0, 1))
    (run / PREDICTIONS).write_text("damaged")
    with pytest.raises(InputError, match="not a readable file of predictions"):
        pooling.read_fold_test(run, data, (0, 1, 2))
    (run / PREDICTIONS).unlink()
    with pytest.raises(InputError, match="no such file"):
        pooling.read_fold_test(run, data, (0, 1, 2))
