"""Predicted effects beside measured ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from danq_keras.system.errors import InputError
from danq_keras.variants.measured import _correlation, check_measured, compare_measured


@pytest.fixture
def alleles():
    rows = [("E1", p, "A", a) for p in range(1, 21) for a in "CG"]
    rows += [("E2", p, "C", "T") for p in range(1, 6)]
    return pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"])


@pytest.fixture
def log_odds(alleles, rng):
    return rng.standard_normal((len(alleles), 3))


def table(alleles, effects, **columns):
    names = {"chrom": "contig", "pos": "position"}
    return alleles.rename(columns=names).assign(log2_effect=effects, **columns)


def test_correlations_are_scipys_and_the_strongest_comes_first(alleles, log_odds, tmp_path):
    effects = -3 * log_odds[:, 1] + 0.3 * log_odds[:, 0]
    found = compare_measured(alleles, log_odds, ["a", "b", "c"], table(alleles, effects))
    first = found.table[found.table["element"] == "E1"]
    assert first["target"].iloc[0] == "b"
    assert first["spearman"].abs().is_monotonic_decreasing
    for row in found.table.to_dict("records"):
        here = (alleles["chrom"] == row["element"]).to_numpy()
        column = log_odds[here, "abc".index(row["target"])]
        expected = stats.spearmanr(column, effects[here]).statistic
        assert row["spearman"] == pytest.approx(expected)
        assert row["variants"] == here.sum()
        assert row["low"] < row["spearman"] < row["high"]
    found.save(tmp_path / "m.tsv")
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "m.tsv", sep="\t"), found.table)


def test_the_interval_covers_as_often_as_it_says(rng):
    """Of correlated normal pairs 96 of 100 (of 4,000 draws 0.960), as far as 2,000 draws tell."""
    n, rho, draws = 60, 0.6, 2000
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a normal pair
    inside = 0
    for _ in range(draws):
        x, z = rng.standard_normal((2, n))
        _, low, high = _correlation(x, rho * x + np.sqrt(1 - rho**2) * z)
        inside += low <= true <= high
    assert 0.945 <= inside / draws <= 0.975


def test_experiments_barcodes_and_rows_that_were_not_scored(alleles, log_odds, caplog):
    measured = table(alleles, log_odds[:, 0], experiment="x", barcodes=50)
    measured.loc[:9, "barcodes"] = 9
    more = measured.iloc[-5:].assign(alt="-")
    measured = pd.concat([measured, measured.iloc[20:].assign(experiment="y"), more])
    with caplog.at_level("INFO", "danq_keras"):
        found = compare_measured(alleles, log_odds, ["a", "b", "c"], measured)
    assert "10 of 75 rows with fewer than 10 barcodes are left out." in caplog.text
    assert "5 of 65 measured rows are not among the scored alleles and are left out." in caplog.text
    counts = found.table.groupby("element", sort=False)["variants"].first().to_dict()
    assert counts == {"x": 35, "y": 25}
    assert (found.table.groupby("element", sort=False)["spearman"].first() == 1).all()


def test_the_column_with_the_scored_chromosomes_is_taken(alleles, log_odds):
    measured = table(alleles, log_odds[:, 0]).rename(columns={"contig": "chrom"})
    measured["contig"] = "X"  # where it lies in the genome
    found = compare_measured(alleles, log_odds, ["a", "b", "c"], measured)
    assert found.table["element"].unique().tolist() == ["E1", "E2"]


def test_letters_of_either_case_are_the_same(alleles, log_odds):
    measured = table(alleles, log_odds[:, 0])
    expected = compare_measured(alleles, log_odds, ["a", "b", "c"], measured).table
    measured["ref"] = measured["ref"].str.lower()
    alleles["alt"] = alleles["alt"].str.lower()
    found = compare_measured(alleles, log_odds, ["a", "b", "c"], measured).table
    pd.testing.assert_frame_equal(found, expected)


def test_a_row_without_its_element_is_refused(alleles, log_odds):
    measured = table(alleles, log_odds[:, 0], experiment="x")
    measured.loc[3, "experiment"] = None
    with pytest.raises(InputError, match="'experiment' is missing in a row"):
        compare_measured(alleles, log_odds, ["a", "b", "c"], measured)


def test_equal_values_have_no_correlation(alleles, log_odds):
    found = compare_measured(alleles, 0 * log_odds, ["a", "b", "c"], table(alleles, 1.0))
    assert found.table[["spearman", "low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="log2_effect"), "needs a column effect or log2_effect or"),
        (lambda t: t.drop(columns="contig"), "needs a column contig or chrom or"),
        (lambda t: t.drop(columns="alt"), "needs a column alt. Received: contig, position"),
        (lambda t: t.assign(position="p"), "'position' must be whole numbers. Received: 'p'"),
        (lambda t: t.assign(position="51.4"), "'position' must be whole numbers. Received: '51.4'"),
        (lambda t: t.assign(position="inf"), "'position' must be whole numbers. Received: 'inf'"),
        (lambda t: t.assign(log2_effect="NA"), "'log2_effect' must be finite numbers. Received:"),
        (lambda t: t.assign(log2_effect="inf"), "'log2_effect' must be finite numbers. Received:"),
        (lambda t: t.assign(position=9999), "none of its 45 rows is among the scored alleles"),
    ],
)
def test_mistakes(alleles, log_odds, tmp_path, change, message):
    path = tmp_path / "measured.tsv"
    change(table(alleles, log_odds[:, 0])).to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match=message) as caught:
        compare_measured(alleles, log_odds, ["a", "b", "c"], path)
    assert str(path) in str(caught.value)
    if "needs a column" in message or "must be" in message:
        with pytest.raises(InputError, match=message):
            check_measured(path)
