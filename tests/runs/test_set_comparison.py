import shutil

import numpy as np
import pytest
import sets
from scipy import stats

from danq_keras.commands import compare_aucs
from danq_keras.runs.comparison import FILES, compare_sets, set_markdown
from danq_keras.system.errors import InputError
from danq_keras.system.tables import read_text_table

OURS = [[0.60, 0.90], [0.70, 0.91], [0.80, 0.95]]
THEIRS = [[0.50, 0.90], [0.52, 0.80]]


@pytest.fixture
def folders(tmp_path):
    """Two sets of repeats."""
    losses = [[0.3, 0.2], [0.3, 0.19], [0.3, 0.18]]
    changed = sets.config()
    changed["model"] = {"filters": 8, "dropout_pool": [0.1, 0.3]}
    changed["train"]["seed"] = 7
    ours = sets.make_set(tmp_path / "ours", OURS, losses)
    theirs = sets.make_set(tmp_path / "theirs", THEIRS, description=changed)
    return ours.folder, theirs.folder


def test_difference_of_repeats_is_welchs(folders):
    found = compare_sets(*folders)
    row = found.figures.set_index("figure").loc["test_auroc_mean"]
    means = [np.mean(OURS, axis=1), np.mean(THEIRS, axis=1)]
    expected = stats.ttest_ind(*means, equal_var=False)
    interval = expected.confidence_interval()
    assert row["difference"] == pytest.approx(means[0].mean() - means[1].mean())
    assert row["low"] == pytest.approx(interval.low)
    assert row["high"] == pytest.approx(interval.high)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["ours_n"], row["reference_n"]) == (3, 2)
    target = found.targets.iloc[0]
    one = stats.ttest_ind([0.6, 0.7, 0.8], [0.5, 0.52], equal_var=False)
    assert target["name"] == "one"
    assert target["auroc_low"] == pytest.approx(one.confidence_interval().low)


def test_settings_that_differ_are_told_but_not_the_seed(folders):
    found = compare_sets(*folders)
    assert found.changed == {"filters": (4, 8), "dropout_pool": (None, [0.1, 0.3])}
    assert "filters 4 against 8" in set_markdown(found)


def test_folds_are_paired(tmp_path):
    theirs = [[0.55, 0.9], [0.64, 0.9], [0.77, 0.91]]
    for name, aucs in (("a", OURS), ("b", theirs)):
        sets.make_set(tmp_path / name, aucs, folds=True)
    found = compare_sets(tmp_path / "a", tmp_path / "b")
    row = found.figures.set_index("figure").loc["test_auroc_mean"]
    expected = stats.ttest_rel(np.mean(OURS, axis=1), np.mean(theirs, axis=1))
    assert row["low"] == pytest.approx(expected.confidence_interval().low)
    assert found.targets.loc[0, "auroc_p"] == pytest.approx(
        stats.ttest_rel([0.6, 0.7, 0.8], [0.55, 0.64, 0.77]).pvalue
    )
    assert "paired t-interval over folds" in set_markdown(found)


@pytest.mark.parametrize("folds", [False, True])
def test_epochs_that_a_run_never_reached_are_not_compared(tmp_path, folds):
    quick = [[0.3, 0.1]] * 3
    slow = [[0.3, 0.1], [0.3, 0.1], [0.3, 0.25]]
    for name, losses in (("a", quick), ("b", slow)):
        made = sets.make_set(tmp_path / name, OURS, losses, folds=folds)
        record = made.folder / made.kind.record
        record.write_text(record.read_text().replace('"1%"', '"0.15"'))
    found = compare_sets(tmp_path / "a", tmp_path / "b")
    row = found.figures.set_index("figure").loc["epochs_until_0.15"]
    assert (row["ours_mean"], row["ours_n"], row["reference_n"]) == (2, 3, 2)
    assert np.isnan([row["reference_mean"], row["difference"], row["low"], row["p"]]).all()
    assert "NA (in 2 runs)" in set_markdown(found)


def test_other_data_and_few_runs_are_noted(tmp_path):
    other = sets.config()
    other["dataset"]["fingerprints"] = {"train": "a", "valid": "b", "test": "z"}
    sets.make_set(tmp_path / "a", OURS * 2)
    sets.make_set(tmp_path / "b", OURS * 2, description=other)
    text = set_markdown(compare_sets(tmp_path / "a", tmp_path / "b"))
    assert "The data differ (test)" in text
    assert "fewer than five runs" not in text
    sets.make_set(tmp_path / "c", OURS)
    assert "fewer than five runs" in set_markdown(compare_sets(tmp_path / "a", tmp_path / "c"))


def test_other_targets_need_common(tmp_path, folders):
    fewer = sets.config()
    fewer["targets"] = ["two", "three"]
    sets.make_set(tmp_path / "b", THEIRS, description=fewer)
    with pytest.raises(InputError, match="2 targets are in one of the two only"):
        compare_sets(folders[0], tmp_path / "b")
    found = compare_sets(folders[0], tmp_path / "b", common=True)
    assert list(found.targets["name"]) == ["two"]
    assert found.targets.loc[0, "auroc_difference"] == pytest.approx(0.92 - 0.51)


def test_sets_that_cannot_be_compared(tmp_path, folders):
    sets.make_set(tmp_path / "folds", OURS, folds=True)
    sets.make_set(tmp_path / "others", OURS[:2], folds=True)
    with pytest.raises(InputError, match=r"holds repeats, .* folds"):
        compare_sets(folders[0], tmp_path / "folds")
    with pytest.raises(InputError, match="folds are compared one by one"):
        compare_sets(tmp_path / "folds", tmp_path / "others")
    (folders[1] / "seed-1" / "report.html").unlink()
    with pytest.raises(InputError, match=r"1 of 2 runs are not complete \(seed-1\)"):
        compare_sets(*folders)


def test_the_command_prints_and_writes(tmp_path, folders, capsys):
    ours, theirs = map(str, folders)
    out = tmp_path / "out"
    assert compare_aucs.main([ours, "--reference", theirs, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "## ours against theirs" in text
    assert "| test ROC AUC " in text
    assert "baseline" not in text
    assert {path.name for path in out.iterdir()} == set(FILES)
    figures = read_text_table(out / "comparison.tsv").set_index("figure")
    assert float(figures.loc["test_auroc_mean", "difference"]) == pytest.approx(0.81 - 0.68)
    assert set(figures["table"]) == {"ours"}
    with pytest.raises(InputError, match="already exists"):
        compare_aucs.main([ours, "--reference", theirs, "--out", str(out)])
    assert compare_aucs.main([theirs, ours, "--out", str(out), "--overwrite"]) == 0
    figures = read_text_table(out / "comparison.tsv")
    assert set(figures["reference"]) == {"theirs"}  # without --reference the first is it


def test_sets_and_single_runs_do_not_mix(folders):
    ours, theirs = map(str, folders)
    run = f"{theirs}/seed-0"
    for arguments in ([ours], [run, "--reference", ours], [ours, "published:danq"]):
        with pytest.raises(InputError, match=f"^{ours}: holds repeats, which are compared with"):
            compare_aucs.main(arguments)
    with pytest.raises(InputError, match="--min-positives: not for sets of runs"):
        compare_aucs.main([ours, "--reference", theirs, "--min-positives", "5"])


def test_pooled_folds_are_an_ordinary_table(tmp_path, capsys):
    made = sets.make_set(tmp_path / "folds", OURS, folds=True)
    single = made.runs["fold-0"]
    shutil.copy(single / "test_aucs.tsv", made.folder)
    assert compare_aucs.main([str(made.folder), "--reference", str(single)]) == 0
    assert "## folds against fold-0" in capsys.readouterr().out
