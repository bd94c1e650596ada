import json
import re

import pandas as pd
import pytest
import sets

from danq_keras.draw import panels
from danq_keras.evaluation.auc_tables import read_auc_table, summarise
from danq_keras.runs import page as repeats_report
from danq_keras.runs import sets as run_sets

AUCS = [[0.6, 0.9], [0.7, 0.9], [0.8, float("nan")]]


def page(found):
    tables = run_sets.write_tables(found)
    path = repeats_report.write_set_report(found, tables)
    assert path == found.folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_page_of_repeats(tmp_path):
    text = page(sets.make_set(tmp_path / "my-set", AUCS))
    assert "3 repeats on the same data, seeds 0, 1, 2" in text
    assert "a &lt;small&gt; network" in text
    assert "Synthetic data" in text
    assert 'href="seed-1/report.html"' in text
    assert "All folds pooled" not in text
    assert text.count("<svg") == 3 + 2  # val_auprc is NA in every epoch; a plot per area
    assert "test_aucs_repeats.tsv" in text
    assert not re.search(r'(?:src|href)="https?:', text)
    cells = re.findall(r'<th scope="row">test ROC AUC</th>(.*?)</tr>', text, re.DOTALL)[0]
    assert re.findall(r">([^<]+)</td>", cells)[:2] == ["0.7833", "0.0289"]


def test_page_of_folds_has_the_pooled_figures_first(tmp_path):
    found = sets.make_set(tmp_path / "crossed", AUCS, folds=True)
    table = read_auc_table(found.runs["fold-0"] / "test_aucs.tsv")
    (found.folder / "test_summary.json").write_text(json.dumps(summarise(table, loss=0.2)))
    text = page(found)
    assert "Cross-validation over chromosomes: 3 folds, seed 0" in text
    assert text.index("All folds pooled") < text.index("Mean and spread over the folds")
    assert "fold-2</a> (chr2)" in text


def test_page_without_a_test(tmp_path):
    found = sets.make_set(tmp_path / "set", AUCS)
    for run in found.runs.values():
        (run / "test_aucs.tsv").unlink()
        (run / "test_summary.json").unlink()
    text = page(found)
    assert "Every target" not in text
    assert "validation loss" in text


def test_text_for_the_terminal(tmp_path):
    tables = run_sets.write_tables(sets.make_set(tmp_path / "set", AUCS))
    lines = repeats_report.set_text(tables).splitlines()
    assert lines[0].startswith("| figure")
    row = next(line for line in lines if "epochs to the best validation" in line)
    assert [cell.strip() for cell in row.split("|")][2:4] == ["2.0", "0.0"]
    assert "3 of 3" in row
    assert any("test ROC AUC" in line and "0.7833" in line for line in lines)


@pytest.mark.parametrize(
    ("figure", "label"),
    [
        ("epochs_within_1pct", "epochs until within 1 % of the best loss"),
        ("epochs_until_0.21", "epochs until loss 0.21"),
        ("val_loss", "validation loss"),
        ("gradient_norm", "gradient_norm"),
    ],
)
def test_labels(figure, label):
    assert repeats_report.label_of(figure) == label


def test_curves_of_runs_of_different_length():
    histories = [pd.DataFrame({"epoch": range(1, n + 1), "loss": [1.0] * n}) for n in (2, 4)]
    svg = panels.curves_of_runs(histories, "loss", ylabel="loss")
    assert svg.startswith("<svg")
    assert "runs (2)" in svg
    assert "mean" in svg
