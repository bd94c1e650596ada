"""Recipes side by side: what is trained, what the table says of it, what others published."""

import math

import in_process
import numpy as np
import pandas as pd
import pytest
import tiny

from danq_keras.commands import compare_recipes as command
from danq_keras.runs import recipes, train_set
from danq_keras.runs.recipes import KMER, compare_recipes, read_published, recipe_table, table_text
from danq_keras.system.errors import InputError

SETTINGS = {key: str(value) for key, value in tiny.SETTINGS.items()} | {"epochs": "1"}


def cell(values, targets, parameters=10):
    runs = pd.DataFrame(
        {
            "test_auroc_mean": values,
            "test_auprc_mean": np.array(values) - 0.5,
            "baseline_kmer_auroc_mean": 0.6,
            "epochs_trained": 4.0,
            "best_epoch": 3.0,
            "seconds": 7.0,
        }
    )
    return recipes._Cell(runs, pd.Series(targets, dtype=float), parameters)


def test_means_intervals_and_who_is_best():
    cells = {
        ("a", "danq"): cell([0.7, 0.8], {"x": 0.7, "y": 0.9}),
        ("a", "fitted"): cell([0.8, 0.9, 0.85], {"x": 0.8, "y": 0.8}),
        ("b", "danq"): cell([0.5, 0.6], {"z": 0.6}),
        ("b", "fitted"): cell([0.55, 0.65, 0.45], {"z": math.nan}),
    }
    table = recipe_table(cells).set_index(["data", "recipe"])
    assert table.loc["a", "danq"]["auroc"] == pytest.approx(0.75)
    half = 12.7062 * np.std([0.7, 0.8], ddof=1) / np.sqrt(2)  # t, 1 degree of freedom
    assert table.loc["a", "danq"]["auroc_low"] == pytest.approx(0.75 - half, abs=1e-4)
    assert table.loc["a", "danq"]["auroc_high"] == 1  # 0.75 + half is 1.39
    assert table.loc["a", "danq"]["auprc"] == pytest.approx(0.25)
    assert math.isnan(table.loc["a", "danq"]["mcc"])
    assert [table.loc["a", name]["best_in"] for name in ("danq", "fitted")] == [1, 1]
    assert [table.loc["b", name]["best_in"] for name in ("danq", "fitted")] == [1, 0]
    assert table.loc["a", KMER]["auroc"] == 0.6
    both = table.loc["mean of all 2"]
    assert both.loc["danq"]["auroc"] == pytest.approx(0.65)
    assert both.loc["fitted"]["seeds"] == 3
    assert both.loc["fitted"]["auroc"] == pytest.approx((0.85 + 0.55) / 2)
    assert both.loc["fitted"]["best_in"] == 1
    assert both.loc[KMER]["best_in"] == 1  # b: 0.6 beside 0.55 twice


def test_published_figures_stand_beside(tmp_path):
    path = tmp_path / "published.tsv"
    path.write_text(
        "data\trecipe\tauroc\tsource\tbut_for\na\tDeepBind\t0.91\tAlipanahi 2015\tits search\n"
        "b\tDeepBind\tNA\tAlipanahi 2015\t\nother\tDeepBind\t0.5\tx\ty\n"
    )
    known = read_published(path, ["a", "b"])
    cells = {
        ("a", "danq"): cell([0.7], {"x": 0.7}),
        ("b", "danq"): cell([0.5], {"x": 0.7}),
    }
    table = recipe_table(cells, known)
    row = table[(table["data"] == "a") & (table["recipe"] == "DeepBind")].iloc[0]
    assert (row["auroc"], row["source"], row["but_for"]) == (0.91, "Alipanahi 2015", "its search")
    assert "other" not in set(table["data"])
    last = table[(table["data"] == "mean of all 2") & (table["recipe"] == "DeepBind")]
    assert last["auroc"].isna().all()  # one of them is not known
    text = table_text(table)
    assert "DeepBind               ROC 0.9100  Alipanahi 2015; but for: its search" in text
    path.write_text("data\trecipe\tauroc\tsource\tbut_for\na\tDeepBind\thigh\tx\ty\n")
    with pytest.raises(
        InputError, match=r"row 1: auroc is a number from 0 to 1, or NA\. Received: 'high'"
    ):
        read_published(path, ["a"])
    path.write_text("data\trecipe\tauroc\tsource\tbut_for\na\tDeepBind\t0.9\tx\ty\n")
    with pytest.raises(InputError, match="none of its data is among the datasets"):
        read_published(path, ["b"])


def test_data_without_a_test_split_are_compared_on_validation():
    runs = pd.DataFrame(
        {"val_auroc": [0.7, 0.8], "val_auprc": [0.3, 0.4], "epochs_trained": 5.0, "best_epoch": 4.0}
    ).assign(seconds=9.0)
    kept = recipes._of_validation(runs, {"val_auroc": 0.6})
    nothing = pd.Series(dtype=float)
    cells = {("a", name): recipes._Cell(kept, nothing, 10, "valid") for name in ("danq", "fitted")}
    table = recipe_table(cells)
    assert list(table["split"]) == ["valid"] * 3
    assert list(table["auroc"]) == pytest.approx([0.6, 0.75, 0.75])
    assert np.isnan(table["auprc"][0])  # of the baseline, not known
    assert table["best_in"].isna().all()  # nothing is known of single targets
    text = table_text(table)
    assert text.startswith("a (validation: no test split)\n")
    assert "ROC 0.7500" in text


@pytest.mark.slow
def test_a_comparison_goes_on_and_grows(tmp_path, run_script, capsys, monkeypatch):
    monkeypatch.setattr(train_set, "run_all", in_process.run_all)
    data = [tiny.make_dataset(tmp_path / name, seed=n).folder for n, name in enumerate("ab")]
    out = tmp_path / "out"
    pairs = [f"{key}={value}" for key, value in SETTINGS.items()]
    arguments = [out, "--data", *data, "--preset", "danq-fitted", "--set", *pairs, "--repeats"]
    assert run_script("compare_recipes.py", command.main, *arguments, 1) == 0
    assert "mean of all 2" in capsys.readouterr().out
    first = pd.read_csv(out / "recipes.tsv", sep="\t")
    ours = first[first["recipe"] == "danq-fitted"]
    assert ours["seeds"].tolist() == [1, 1, 1]
    assert ours["auroc_low"].isna().all()
    trained = (out / "a" / "danq-fitted" / "seed-0" / "model.keras").stat().st_mtime_ns
    table = compare_recipes(out, data[:1], ["danq-fitted"], repeats=2, settings=SETTINGS)
    assert (out / "a" / "danq-fitted" / "seed-0" / "model.keras").stat().st_mtime_ns == trained
    row = table[table["recipe"] == "danq-fitted"].iloc[0]
    assert row["seeds"] == 2
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    with pytest.raises(InputError, match="was started without `init`"):
        compare_recipes(out, data[:1], ["danq-fitted"], init=out / "a" / "danq-fitted" / "seed-0")
    fewer = compare_recipes(out, data[:1], ["danq-fitted"], repeats=1, settings=SETTINGS)
    again = fewer[fewer["recipe"] == "danq-fitted"]["auroc"].iloc[0]
    assert again == pytest.approx(ours["auroc"].iloc[0], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presets": ["danqq"]}, "preset: one of .* Received: 'danqq'"),
        ({"repeats": 0}, "`repeats`: at least 1"),
        ({"data": ["x/a", "y/a"]}, "two datasets are called a"),
    ],
)
def test_what_cannot_be_compared(tmp_path, change, message):
    wanted = {"data": ["a"], "presets": ["danq"], **change}
    with pytest.raises(InputError, match=message):
        compare_recipes(tmp_path / "out", **wanted)
    assert not (tmp_path / "out").exists()
