import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from danq_keras.commands import compare_aucs
from danq_keras.data.deepsea import deepsea_targets, published_aucs
from danq_keras.evaluation import comparison, comparison_text
from danq_keras.evaluation.auc_tables import COLUMNS, write_auc_table
from danq_keras.evaluation.comparison import (
    AucTable,
    compare,
    published_table,
    summarise_comparison,
)
from danq_keras.system.errors import InputError
from danq_keras.system.tables import read_text_table

BIN = Path(__file__).resolve().parents[2] / "bin" / "compare_aucs.py"


def small(label: str, auroc: list[float], **columns: list[object]) -> AucTable:
    """A table of a few targets a, b, c …; PR AUC is half the ROC AUC."""
    n = len(auroc)
    frame = pd.DataFrame(
        {
            "target": range(n),
            "name": list("abcdefghijkl")[:n],
            **dict.fromkeys(("cell_type", "assay", "treatment", "group"), [""] * n),
            "positives": [100] * n,
            "negatives": [900] * n,
            "auroc": auroc,
            "auprc": np.array(auroc) / 2,
            "auprc_interpolated": np.array(auroc) / 2 + 0.01,
            **{name: [0.5] * n for name in COLUMNS[-5:]},
        }
    )
    return AucTable(label, frame.assign(**columns))


def deepsea_like(numbers: range | list[int], shift: float = 0.001) -> AucTable:
    """A table of ours with DeepSEA's targets: DanQ's AUCs and a bit."""
    targets, paper = deepsea_targets().subset(list(numbers)), published_aucs().iloc[list(numbers)]
    n = len(paper)
    frame = pd.DataFrame(
        {
            "target": list(numbers),
            "name": targets.names,
            **{c: targets.column(c) for c in ("cell_type", "assay", "treatment", "group")},
            "positives": [0 if number == 598 else 50 + number for number in numbers],
            "negatives": [1000] * n,
            "auroc": np.minimum(paper["danq_auroc"].to_numpy() + shift, 1),
            "auprc": paper["danq_auprc"].to_numpy(),
            "auprc_interpolated": np.minimum(paper["danq_auprc"].to_numpy() + shift, 1),
            **{name: [0.5] * n for name in COLUMNS[-5:]},
        }
    )
    return AucTable("ours", frame)


# Source: SPEC of the published table: means and medians of 918 targets, and means by group
MEANS = {
    "deepsea": (0.9326, 0.9445, 0.3425, 0.3438),
    "danq": (0.9384, 0.9514, 0.3709, 0.3726),
    "danq-jaspar": (0.9417, 0.9534, 0.3794, 0.3834),
}
GROUP_MEANS = {
    "deepsea": {
        "DNase": (0.9155, 0.4443),
        "TF": (0.9478, 0.3203),
        "histone": (0.8522, 0.3676),
    },
    "danq": {"DNase": (0.9208, 0.4636), "TF": (0.9535, 0.3520), "histone": (0.8596, 0.3850)},
    "danq-jaspar": {
        "DNase": (0.9246, 0.4752),
        "TF": (0.9569, 0.3606),
        "histone": (0.8622, 0.3883),
    },
}


@pytest.mark.parametrize("name", MEANS)
def test_published_means_and_medians(name: str) -> None:
    other = "danq" if name == "deepsea" else "deepsea"
    summary = summarise_comparison(compare(published_table(name), published_table(other)))
    summary = summary.set_index(["group", "figure"])
    roc, pr = summary.loc[("all", "ROC AUC")], summary.loc[("all", "PR AUC")]
    found = (roc["ours_mean"], roc["ours_median"], pr["ours_mean"], pr["ours_median"])
    assert found == pytest.approx(MEANS[name], abs=5.1e-5)
    for group, expected in GROUP_MEANS[name].items():
        means = [summary.loc[(group, figure), "ours_mean"] for figure in ("ROC AUC", "PR AUC")]
        assert means == pytest.approx(expected, abs=5.1e-5)
    counts = {group: summary.loc[(group, "ROC AUC"), "n"] for group in ("DNase", "TF", "histone")}
    assert counts == {"DNase": 125, "TF": 689, "histone": 104}


@pytest.mark.parametrize(
    ("ours", "reference", "expected"),
    [
        ("danq", "deepsea", ["ROC AUC 864 of 918 (94.1 %)", "PR AUC 897 of 918 (97.7 %)"]),
        ("danq-jaspar", "danq", ["ROC AUC 767 of 918 (83.6 %)", "PR AUC 731 of 918 (79.6 %)"]),
    ],
)
def test_published_wins_are_printed(
    ours: str, reference: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"published:{ours}", "--reference", f"published:{reference}"]
    assert compare_aucs.main(arguments) == 0
    printed = capsys.readouterr().out
    for text in expected:
        assert text in printed
    assert "918 targets are compared. Left out: 1 without an AUC in one of the two." in printed


def test_published_relative_gains() -> None:
    found = compare(published_table("danq"), published_table("deepsea"))
    assert comparison.relative_gains(found) == 44


def test_units_of_the_paired_test() -> None:
    """119 DNase cell types, 170 TF assays and 28 histone marks, as counted in the table."""
    paper = published_aucs()
    summary = summarise_comparison(compare(published_table("danq"), published_table("deepsea")))
    units = summary[summary["figure"] == "ROC AUC"].set_index("group")["units"]
    by_group = paper.groupby("group")
    assert units["DNase"] == by_group["cell_type"].nunique()["DNase"] == 119
    assert units["TF"] == by_group["assay"].nunique()["TF"] == 170
    assert units["histone"] == by_group["assay"].nunique()["histone"] == 28
    assert units["all"] == 119 + 170 + 28


def test_paired_test_is_scipys_on_factor_means() -> None:
    difference = [0.05, 0.07, 0.03, -0.01, 0.02, 0.08, -0.04]
    reference = small("reference", [0.5] * 7)
    assay = ["CTCF", "CTCF", "CTCF", "A", "B", "C", "D"]
    ours = small("ours", [0.5 + d for d in difference], assay=assay, group=["TF"] * 7)
    summary = summarise_comparison(compare(ours, reference))
    means = [0.05, -0.01, 0.02, 0.08, -0.04]  # CTCF once
    row = summary[(summary["group"] == "TF") & (summary["figure"] == "ROC AUC")].iloc[0]
    assert row["units"] == 5
    assert row["median_difference"] == pytest.approx(0.02)
    assert row["p"] == pytest.approx(stats.wilcoxon(means).pvalue)
    assert row["p"] > stats.wilcoxon(difference).pvalue  # seven witnesses would say more


def test_units_fall_back_to_cell_type_and_name() -> None:
    rows = small(
        "x",
        [0.1, 0.3, 0.5, 0.7, 0.9],
        group=["DNase", "DNase", "TF", "", ""],
        assay=["DNase", "DNase", "DNase", "", ""],
        cell_type=["K562", "K562", "K562", "", ""],
    ).frame
    assert sorted(comparison.unit_means(rows, "auroc")) == pytest.approx([0.2, 0.5, 0.7, 0.9])


def test_joined_by_number_not_by_row() -> None:
    """A table in reverse order, or of some targets, gives the same differences per target."""
    paper = published_table("danq")
    everything = compare(deepsea_like(range(919)), paper).rows.set_index("target")
    backwards = compare(deepsea_like(range(918, -1, -1)), paper).rows
    assert list(backwards["target"]) == list(range(918, -1, -1))
    pd.testing.assert_frame_equal(backwards.set_index("target").sort_index(), everything)
    some = compare(deepsea_like([0, 597, 598, 599, 918]), paper)
    assert some.left_out == {
        "only in DanQ (paper)": 914,
        "without an AUC in one of the two": 1,
    }
    assert list(some.counted_rows["target"]) == [0, 597, 599, 918]
    assert some.counted_rows["auroc_difference"].to_numpy() == pytest.approx(0.001)


def test_paper_is_compared_by_the_interpolated_area() -> None:
    found = compare(deepsea_like(range(919)), published_table("danq"))
    assert found.pr_column == "auprc_interpolated"
    summary = summarise_comparison(found)
    wins = summary[(summary["group"] == "all") & (summary["figure"] == "PR AUC")].iloc[0]
    assert wins["higher"] == 918  # average precision would be equal everywhere
    text = comparison_text.markdown([found])
    assert "linearly interpolated" in text
    assert "Average precision of ours: mean 0.3709, median 0.3726 over 918 targets." in text


def test_min_positives_are_counted_by_reason() -> None:
    found = compare(deepsea_like(range(919)), published_table("danq"), min_positives=100)
    assert found.left_out["with fewer than 100 positives"] == 50  # targets 0-49 have 50-99
    assert len(found.counted_rows) == 919 - 50 - 1
    assert len(found.rows) == 919


def test_other_targets_are_refused_against_the_paper() -> None:
    with pytest.raises(InputError, match=r"ours: the paper is joined by target number.*3 other"):
        compare(small("ours", [0.5, 0.6, 0.7]), published_table("danq"))


def test_deepsea_targets_are_recognised() -> None:
    table = deepsea_like(range(919)).frame
    assert comparison.has_deepsea_targets(table)
    assert comparison.has_deepsea_targets(table.iloc[[5, 3]])
    assert not comparison.has_deepsea_targets(table.assign(target=table["target"].to_numpy()[::-1]))
    numbered = table.assign(name=[str(number) for number in range(919)])
    assert comparison.has_deepsea_targets(numbered)
    assert not comparison.has_deepsea_targets(numbered.head(150))
    assert not comparison.has_deepsea_targets(table.head(0))


def test_two_tables_are_joined_by_name() -> None:
    ours = small("ours", [0.9, 0.8, 0.7])
    reference = small("reference", [0.6, 0.8, 0.75])
    reference = AucTable("reference", reference.frame.iloc[::-1].assign(target=[0, 1, 2]))
    found = compare(ours, reference)
    assert found.rows["auroc_difference"].to_numpy() == pytest.approx([0.3, 0, -0.05])
    assert found.pr_column == "auprc"
    row = summarise_comparison(found).iloc[0]
    assert (row["n"], row["higher"], row["equal"]) == (3, 1, 1)
    assert row["ours_mean"] == pytest.approx(0.8)
    assert row["reference_median"] == pytest.approx(0.75)


def test_different_sets_need_common() -> None:
    ours = small("ours", [0.9, 0.8, 0.7, 0.6])
    reference = small("reference", [0.9, 0.8, 0.7], name=["a", "b", "z"])
    with pytest.raises(InputError) as error:
        compare(ours, reference)
    assert "2 only in ours (c, d) and 1 only in reference (z)" in str(error.value)
    assert "`common=True` to compare the 2" in str(error.value)
    found = compare(ours, reference, common=True)
    assert list(found.rows["name"]) == ["a", "b"]
    assert found.left_out == {"only in ours": 2, "only in reference": 1}
    elsewhere = small("elsewhere", [0.9], name=["q"])
    with pytest.raises(InputError, match="no target in common"):
        compare(ours, elsewhere, common=True)


def test_other_test_windows_are_noted() -> None:
    ours, reference = small("ours", [0.9, 0.8]), small("ref", [0.9, 0.8], positives=[100, 7])
    assert compare(ours, ours).notes == ()
    text = comparison_text.markdown([compare(ours, reference)])
    assert "1 of 2 targets have other numbers of positives" in text


def test_equal_tables_have_no_p() -> None:
    ours = small("ours", [0.9, 0.8])
    summary = summarise_comparison(compare(ours, ours))
    assert summary["p"].isna().all()
    assert (summary["equal"] == 2).all()
    text = comparison_text.markdown([compare(ours, ours)])
    assert "no difference" in text
    assert "None: the two tables agree everywhere." in text


def test_nothing_to_count() -> None:
    nothing = small("ours", [np.nan, np.nan])
    found = compare(nothing, nothing)
    assert "0 targets are compared. Left out: 2 without an AUC" in comparison_text.markdown([found])


def test_most_changed_by_hand() -> None:
    ours = small("ours", [0.9, 0.5, 0.5, 0.4, 0.1])
    reference = small("reference", [0.5, 0.5, 0.4, 0.5, 0.9])
    found = compare(ours, reference)
    assert list(comparison.most_changed(found, "auroc", n=1)["name"]) == ["a", "e"]
    assert list(comparison.most_changed(found, "auroc")["name"]) == ["a", "c", "d", "e"]


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(864, 918, "864 of 918 (94.1 %)"), (0, 0, "0 of 0")]
)
def test_share(part: int, whole: int, text: str) -> None:
    assert comparison_text.share(part, whole) == text


@pytest.mark.parametrize("name", ["K562|CTCF|None", "<b>x</b>", "*a* `b`", "[x](y)", "a\nb", "\\|"])
def test_names_survive_markdown(name: str) -> None:
    text = comparison_text.markdown_table(["target", "name"], [["1", name]])
    cells = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    shown = [token.content for token in cells if token.type == "inline"]
    assert len(shown) == 4
    rendered = [
        "".join(child.content for child in token.children or [])
        for token in cells
        if token.type == "inline"
    ]
    assert rendered[3] == " ".join(name.split())


def write(path: Path, table: AucTable) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_auc_table(path, table.frame[list(COLUMNS)])
    return path


def test_command_writes_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my-run"
    write(run / "test_aucs.tsv", deepsea_like(range(919)))
    assert compare_aucs.main([str(run), "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    text = (run / "comparison.md").read_text(encoding="utf-8")
    assert text in printed
    for model in ("DeepSEA", "DanQ", "DanQ-JASPAR"):
        assert f"## my-run against {model} (paper)" in text
    rows = read_text_table(run / "comparison.tsv")
    assert len(rows) == 3 * 919
    brf1 = rows[rows["target"] == "598"]
    assert set(brf1["auroc"]) == {"NA"}
    assert set(brf1["counted"]) == {"no"}
    assert set(rows["reference"]) == {"DeepSEA (paper)", "DanQ (paper)", "DanQ-JASPAR (paper)"}
    first = rows.iloc[0]
    paper = published_aucs().iloc[0]
    assert float(first["reference_auroc"]) == paper["deepsea_auroc"]
    assert float(first["auroc_difference"]) == pytest.approx(
        paper["danq_auroc"] + 0.001 - paper["deepsea_auroc"]
    )
    assert (run / "comparison.png").read_bytes().startswith(b"\x89PNG")
    before = (run / "comparison.tsv").stat().st_mtime_ns
    with pytest.raises(InputError, match="already exists"):
        compare_aucs.main([str(run), "--out", str(run)])
    assert (run / "comparison.tsv").stat().st_mtime_ns == before
    assert compare_aucs.main([str(run), "--out", str(run), "--overwrite"]) == 0
    assert sorted(path.name for path in run.iterdir()) == [
        "comparison.md",
        "comparison.png",
        "comparison.tsv",
        "test_aucs.tsv",
    ]


def test_several_tables_are_compared_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        str(write(tmp_path / name / "test_aucs.tsv", small(name, aucs)))
        for name, aucs in (("one", [0.5, 0.6]), ("two", [0.6, 0.7]), ("three", [0.4, 0.5]))
    ]
    compare_aucs.main(paths)
    printed = capsys.readouterr().out
    assert "## two against one" in printed
    assert "## three against one" in printed
    assert printed.count("## ") == 2
    compare_aucs.main([*paths[1:], "--reference", paths[0]])
    assert capsys.readouterr().out == printed


def test_labels_that_clash_are_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        str(write(tmp_path / folder / "run" / "test_aucs.tsv", small("run", [0.5, 0.6])))
        for folder in ("a", "b")
    ]
    compare_aucs.main(paths)
    assert f"## {paths[1]} against {paths[0]}" in capsys.readouterr().out


def test_published_model_is_not_compared_with_itself() -> None:
    found = comparison.compare_with_paper(published_table("danq"))
    assert [each.reference for each in found] == ["DeepSEA (paper)", "DanQ-JASPAR (paper)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["published:dank"], "Received: 'dank'. Nearest: danq."),
        (["published:danq", "--min-positives", "0"], "--min-positives: at least 1"),
        (["published:danq", "--min-positives", "5"], "no numbers of positives"),
    ],
)
def test_command_mistakes(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        compare_aucs.main(arguments)
    assert message in str(error.value)


def test_script_ends_with_2_and_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "none.tsv"
    ended = subprocess.run(
        [sys.executable, BIN, str(missing)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BIN.parents[1])},
    )
    assert ended.returncode == 2
    assert ended.stderr == f"Error: {missing}: no such file. Check the path.\n"
    assert ended.stdout == ""


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, text in (("--help", "example:"), ("--version", "compare_aucs.py ")):
        with pytest.raises(SystemExit) as ended:
            compare_aucs.main([flag])
        assert ended.value.code == 0
        assert text in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from danq_keras.commands.compare_aucs import parser; parser().format_help();"
        "heavy = {'pandas', 'scipy', 'matplotlib', 'keras', 'tensorflow'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
