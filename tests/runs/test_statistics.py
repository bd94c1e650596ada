import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from danq_keras.runs import statistics
from danq_keras.runs.statistics import Until, bounds_of, is_cut
from danq_keras.system.errors import InputError

HISTORY = {
    "epoch": [1, 2, 3, 4],
    "loss": [0.5, 0.4, 0.3, 0.2],
    "val_loss": [0.40, 0.303, 0.30, 0.35],
    "val_auroc": [0.6, 0.7, 0.8, 0.9],
    "seconds": [10.0, 4.0, 5.0, 6.0],
}
SUMMARY = {
    "overall": {
        "targets": 3,
        "not_counted": 1,
        "counted": 2,
        "auroc": {"mean": 0.75, "median": 0.7},
        "accuracy": None,
        "loss": 0.31,
    },
    "groups": {"TF": {"auroc": {"mean": 0.8}}},
    "baselines": {"kmer": {"note": "text", "overall": {"auroc": {"mean": 0.65}}}},
}


@pytest.fixture
def run(tmp_path):
    pd.DataFrame(HISTORY).to_csv(tmp_path / "history.csv", index=False)
    (tmp_path / "test_summary.json").write_text(json.dumps(SUMMARY))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("0%", "epochs_within_0pct", 3),
        ("1%", "epochs_within_1pct", 2),  # 0.303 is 0.30 + 1 %
        ("50%", "epochs_within_50pct", 1),
        ("0.35", "epochs_until_0.35", 2),
        ("0.29", "epochs_until_0.29", math.nan),
    ],
)
def test_epochs_until_a_loss(text, column, expected):
    until = Until.parse(text)
    losses = np.array(HISTORY["val_loss"]) + 1e-9 * (text == "0.35")
    found = until.first_epoch(np.arange(1.0, 5), losses)
    assert until.column == column
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("text", ["x", "", "%", "-1", "0", "nan", "inf", "-2%", "1 % 2"])
def test_a_wrong_loss_is_one_line(text):
    with pytest.raises(InputError, match=r"^`until_loss`: a loss above zero[^\n]*Received: '"):
        Until.parse(text)


def test_figures_of_a_run(run):
    found = statistics.run_figures(run, [Until.parse("1%")])
    assert found["epochs_trained"] == 4
    assert found["best_epoch"] == 3
    assert found["epochs_within_1pct"] == 2
    assert found["seconds"] == 25
    assert found["seconds_to_best"] == 19
    assert (found["loss"], found["val_loss"], found["val_auroc"]) == (0.3, 0.3, 0.8)
    assert found["test_auroc_mean"] == 0.75
    assert found["test_counted"] == 2
    assert found["test_TF_auroc_mean"] == 0.8
    assert found["baseline_kmer_auroc_mean"] == 0.65
    assert math.isnan(found["test_accuracy"])
    assert not {"test_targets", "test_not_counted", "epoch"} & set(found)


def test_a_run_without_a_test_has_its_training(run):
    (run / "test_summary.json").unlink()
    found = statistics.run_figures(run, [])
    assert found["best_epoch"] == 3
    assert not any(name.startswith("test_") for name in found)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("history.csv", None, "no such file: the run did not end"),
        ("history.csv", "epoch,val_loss,seconds\n", "no epoch with a validation loss"),
        ("history.csv", "epoch,val_loss,seconds\n1,NA,3\n", "no epoch with a validation loss"),
        ("history.csv", "epoch,val_loss\n1,2\n", "not the history of a run"),
        ("history.csv", "epoch,val_loss,seconds\n1,high,3\n", "not the history of a run"),
        ("test_summary.json", "{", "not the summary of a test"),
        ("test_summary.json", '{"overall": 3}', "not the summary of a test"),
        ("test_summary.json", '{"overall": {"loss": "low"}}', "not the summary of a test"),
    ],
)
def test_damaged_files_are_one_line(run, file, content, message):
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        statistics.run_figures(run, [])
    assert str(error.value).startswith(str(run / file))
    assert "\n" not in str(error.value)


def test_spread_equals_scipy(rng):
    values = rng.normal(size=(5, 3))
    values[1, 1] = np.nan
    values[:, 2] = np.nan
    found = statistics.spread(values)
    np.testing.assert_array_equal(found.n, [5, 4, 0])
    for column in (0, 1):
        x = values[:, column][~np.isnan(values[:, column])]
        expected = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
        np.testing.assert_allclose([found.low[column], found.high[column]], expected)
        assert found.sd[column] == pytest.approx(x.std(ddof=1))
    assert np.isnan([found.mean[2], found.sd[2], found.low[2]]).all()


def test_spread_of_one_run_and_of_equal_runs():
    one = statistics.spread(np.array([[3.0]]))
    assert one.mean == 3
    assert np.isnan([one.sd, one.low, one.high]).all()
    equal = statistics.spread(np.full((3, 1), 2.0))
    assert (equal.low[0], equal.mean[0], equal.high[0], equal.sd[0]) == (2, 2, 2, 0)


def test_welch_equals_scipy(rng):
    ours, reference = rng.normal(1, 1, (6, 4)), rng.normal(0, 3, (4, 4))
    ours[2, 1] = np.nan
    found = statistics.welch(statistics.spread(ours), statistics.spread(reference))
    for column in range(4):
        a, b = (x[~np.isnan(x)] for x in (ours[:, column], reference[:, column]))
        expected = stats.ttest_ind(a, b, equal_var=False)
        interval = expected.confidence_interval()
        assert found.difference[column] == pytest.approx(a.mean() - b.mean())
        assert found.low[column] == pytest.approx(interval.low)
        assert found.high[column] == pytest.approx(interval.high)
        assert found.p[column] == pytest.approx(expected.pvalue)


def test_intervals_stay_within_what_is_possible():
    """Two runs of accuracy 0.63 and 0.78: the plain t-interval is -0.25 to 1.66."""
    values = np.array([[0.63, 0.99, 0.1, 3.0, 0.91], [0.78, 0.98, 0.2, 40.0, 0.92]])
    names = ["test_accuracy", "test_auroc_mean", "test_mcc_mean", "best_epoch", "val_auprc"]
    plain, found = statistics.spread(values), statistics.spread(values, bounds_of(names))
    assert plain.low[0] < -0.2
    assert plain.high[0] > 1.6
    assert found.low.tolist()[:1] + found.high.tolist()[:1] == [0, 1]
    assert found.high[1] == 1
    assert found.low[1] == plain.low[1]
    assert (found.low[2], found.high[2]) == (plain.low[2], plain.high[2])  # within -1 to 1
    assert (found.low[3], found.high[3]) == (0, plain.high[3])
    assert (found.low[4], found.high[4]) == (plain.low[4], plain.high[4])  # none of it moves
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert is_cut(found.low, found.high, bounds_of(names))
    assert not is_cut(found.low[4:], found.high[4:], bounds_of(names[4:]))
    same = statistics.spread(np.ones((3, 1)), bounds_of(["f1"]))
    assert (same.low[0], same.high[0]) == (1, 1)
    assert not is_cut(same.low, same.high, bounds_of(["f1"]))  # nothing varied


def test_differences_stay_within_what_is_possible():
    ours, theirs = np.array([[0.1, 0.5], [0.9, 9.0]]), np.array([[0.9, 0.1], [0.1, 0.2]])
    names = ["val_auroc", "val_loss"]
    spreads = [statistics.spread(each, bounds_of(names)) for each in (ours, theirs)]
    for found in (
        statistics.welch(spreads[0], spreads[1], bounds_of(names)),
        statistics.paired(ours, theirs, bounds_of(names)),
    ):
        assert (found.low[0], found.high[0]) == (-1, 1)
        assert found.low[1] < -1  # a loss has no upper end


def test_welch_without_spread_has_no_interval():
    constant, one = statistics.spread(np.full((3, 1), 2.0)), statistics.spread(np.array([[5.0]]))
    for reference, difference in ((constant, 0), (one, -3)):
        found = statistics.welch(constant, reference)
        assert found.difference == difference
        assert np.isnan([found.low, found.high, found.p]).all()


def test_paired_equals_scipy(rng):
    ours, reference = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    ours[0, 1] = np.nan
    reference[:, 2] = ours[:, 2]
    found = statistics.paired(ours, reference)
    for column, rows in ((0, slice(None)), (1, slice(1, None))):
        expected = stats.ttest_rel(ours[rows, column], reference[rows, column])
        interval = expected.confidence_interval()
        assert found.low[column] == pytest.approx(interval.low)
        assert found.high[column] == pytest.approx(interval.high)
        assert found.p[column] == pytest.approx(expected.pvalue)
    assert found.difference[2] == 0
    assert np.isnan([found.low[2], found.high[2], found.p[2]]).all()


def test_summary_has_no_mean_wait_unless_every_run_came_there():
    table = pd.DataFrame(
        {
            "run": ["seed-0", "seed-1"],
            "seed": [0, 1],
            "epochs_until_0.2": [4.0, np.nan],
            "epochs_within_1pct": [4.0, 6.0],
            "test_auroc_mean": [0.7, np.nan],
        }
    )
    rows = statistics.summarise_runs(table).set_index("figure")
    assert "seed" not in rows.index
    waited = rows.loc["epochs_until_0.2"]
    assert (waited["n"], waited["runs"], waited["minimum"]) == (1, 2, 4)
    assert math.isnan(waited["mean"])
    assert rows.loc["epochs_within_1pct", "mean"] == 5
    assert rows.loc["test_auroc_mean", "mean"] == 0.7
