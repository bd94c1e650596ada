import json

import numpy as np
import pytest
import sets

from danq_keras.runs import sets as run_sets
from danq_keras.runs.sets import FOLDS, REPEATS
from danq_keras.system.errors import InputError
from danq_keras.system.tables import read_text_table

AUCS = [[0.6, 0.9], [0.7, 0.9], [0.8, float("nan")]]


def test_tables_of_repeats_by_hand(tmp_path):
    found = sets.make_set(tmp_path / "set", AUCS, [[0.4, 0.3], [0.5, 0.2], [0.4, 0.1, 0.2]])
    tables = run_sets.write_tables(found)
    runs = read_text_table(tmp_path / "set" / "repeats.tsv")
    assert list(runs["run"]) == ["seed-0", "seed-1", "seed-2"]
    assert list(runs["val_loss"]) == ["0.3", "0.2", "0.1"]
    assert list(runs["test_auroc_mean"]) == ["0.75", "0.8", "0.8"]
    assert set(runs["val_auprc"]) == {"NA"}
    summary = read_text_table(tmp_path / "set" / "repeats_summary.tsv").set_index("figure")
    assert float(summary.loc["val_loss", "mean"]) == pytest.approx(0.2)
    assert float(summary.loc["val_loss", "sd"]) == pytest.approx(0.1)
    half = 4.302653 * 0.1 / np.sqrt(3)  # t of 2 degrees of freedom
    assert float(summary.loc["val_loss", "high"]) == pytest.approx(0.2 + half, abs=1e-6)
    assert float(summary.loc["val_loss", "low"]) == 0  # 0.2 - half is below what a loss can be
    targets = read_text_table(tmp_path / "set" / "test_aucs_repeats.tsv")
    assert list(targets["auroc_mean"]) == ["0.7", "0.9"]
    assert list(targets["auroc_sd"]) == ["0.1", "0"]
    assert list(targets["n"]) == ["3", "2"]
    assert list(targets["positives"]) == ["20", "20"]  # the same windows in every run
    assert tables.targets is not None


def test_positives_of_folds_add_up(tmp_path):
    tables = run_sets.write_tables(sets.make_set(tmp_path / "set", AUCS, folds=True))
    assert tables.targets is not None
    assert list(tables.targets["positives"]) == [60, 40]
    assert list(tables.runs["seed"]) == [0, 0, 0]
    assert {"folds.tsv", "folds_summary.tsv", "test_aucs_folds.tsv"} <= {
        path.name for path in (tmp_path / "set").iterdir()
    }


@pytest.mark.parametrize("folds", [False, True])
def test_a_record_comes_back(tmp_path, folds):
    found = sets.make_set(tmp_path / "set", AUCS, folds=folds)
    assert run_sets.read_run_set(tmp_path / "set") == found
    assert run_sets.set_kind(tmp_path / "set") is (FOLDS if folds else REPEATS)


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"repeats": [0]}', '{"repeats": 3}'])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / "repeats.json").write_text(content)
    with pytest.raises(InputError, match=r"repeats.json: not the record of a set of runs[^\n]*$"):
        run_sets.read_run_set(tmp_path)


def test_no_set(tmp_path):
    assert run_sets.set_kind(tmp_path) is None
    with pytest.raises(InputError, match="no set of runs"):
        run_sets.read_run_set(tmp_path)


@pytest.mark.parametrize("damage", ["no report", "other epochs", "no config", "damaged config"])
def test_incomplete_runs_are_named(tmp_path, damage):
    found = sets.make_set(tmp_path / "set", AUCS)
    run = found.runs["seed-1"]
    if damage == "no report":
        (run / "report.html").unlink()
    elif damage == "other epochs":
        (run / "config.json").write_text(json.dumps(sets.config(epochs=2)))
    elif damage == "no config":
        (run / "config.json").unlink()
    else:
        (run / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"1 of 3 runs are not complete \(seed-1\). Continue"):
        run_sets.write_tables(found)
    assert not (found.folder / "repeats.tsv").exists()


def test_runs_of_other_targets_are_refused(tmp_path):
    found = sets.make_set(tmp_path / "set", AUCS)
    table = found.runs["seed-2"] / "test_aucs.tsv"
    table.write_text(table.read_text().replace("\ttwo\t", "\tthree\t"))
    with pytest.raises(InputError, match=r"seed-2/test_aucs.tsv: other targets than .*seed-0"):
        run_sets.write_tables(found)


def test_runs_without_a_test_have_no_table_of_targets(tmp_path):
    found = sets.make_set(tmp_path / "set", AUCS)
    for run in found.runs.values():
        (run / "test_aucs.tsv").unlink()
        (run / "test_summary.json").unlink()
    assert run_sets.write_tables(found).targets is None
    assert not (found.folder / "test_aucs_repeats.tsv").exists()
