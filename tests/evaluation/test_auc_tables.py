import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from danq_keras.data.targets import Targets
from danq_keras.evaluation import auc_tables
from danq_keras.evaluation.bootstrap import BootstrapIntervals
from danq_keras.evaluation.metrics import TargetMetrics
from danq_keras.system.errors import InputError

TARGETS = Targets(
    ("K562|CTCF|NA", 'odd "name", with comma', "K562|BRF1|None", "plain"),
    cell_type=("K562", "HeLa", "K562", ""),
    assay=("CTCF", "H3K4me3", "BRF1", ""),
    treatment=("NA", "None", "None", ""),
    group=("TF", "histone", "TF", ""),
)


def metrics(shift: float = 0.0) -> TargetMetrics:
    """Four targets; the third has no positive."""
    nan = math.nan
    return TargetMetrics(
        positives=np.array([10, 3, 0, 1]),
        negatives=np.array([90, 97, 100, 99]),
        auroc=np.array([0.9, 0.8, nan, 0.4]) + shift,
        auprc=np.array([0.5, 0.3, nan, 0.1]) + shift,
        auprc_interpolated=np.array([0.6, 0.4, nan, 0.2]) + shift,
        accuracy=np.array([0.95, 0.9, 1.0, 0.99]),
        f1=np.array([0.5, 0.25, nan, 0.0]),
        best_f1=np.array([0.6, 0.5, nan, 0.1]),
        best_threshold=np.array([0.2, 0.3, nan, 0.4]),
    )


def table() -> pd.DataFrame:
    return auc_tables.auc_table(
        TARGETS,
        (5, 6, 7, 9),
        metrics=metrics(),
        thresholds=np.array([np.float32(0.1), np.float32(2e-7), math.nan, 0.5]),
        f1_at_threshold=np.array([0.55, 0.45, math.nan, 0.05]),
    )


def test_columns_are_the_contract() -> None:
    expected = (
        "target name cell_type assay treatment group positives negatives auroc auprc "
        "auprc_interpolated accuracy f1 threshold f1_at_threshold f1_maximum"
    )
    assert list(table().columns) == expected.split()


def test_written_table_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "test_aucs.tsv"
    auc_tables.write_auc_table(path, table())
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[1] == (
        "5\tK562|CTCF|NA\tK562\tCTCF\tNA\tTF\t10\t90\t0.9\t0.5\t0.6\t0.95\t0.5\t0.100000001\t0.55\t0.6"
    )
    assert (
        lines[3] == "7\tK562|BRF1|None\tK562\tBRF1\tNone\tTF\t0\t100\tNA\tNA\tNA\t1\tNA\tNA\tNA\tNA"
    )
    assert "nan" not in path.read_text(encoding="utf-8").lower()


def test_write_read_is_identity(tmp_path: Path) -> None:
    path = tmp_path / "test_aucs.tsv"
    ends = np.array([0.1, 0.2, math.nan, 0.3])
    written = auc_tables.auc_table(
        TARGETS,
        range(4),
        metrics=metrics(),
        bootstrap=BootstrapIntervals(ends, ends + 0.1, ends, ends + 0.2, np.full(4, 9)),
    )
    written = auc_tables.add_baselines(written, {"kmer": metrics(-0.05)})
    auc_tables.write_auc_table(path, written)
    read = auc_tables.read_auc_table(path)
    pd.testing.assert_frame_equal(read, written, check_dtype=False, rtol=1e-8)
    assert list(read["treatment"]) == ["NA", "None", "None", ""]
    assert list(read["name"]) == list(TARGETS.names)
    assert read["positives"].dtype == np.int64
    assert read["auroc_low"].dtype == read["baseline_kmer_auprc"].dtype == np.float64


def test_float32_threshold_survives(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    auc_tables.write_auc_table(path, table())
    read = auc_tables.read_auc_table(path)["threshold"].to_numpy()
    assert np.float32(read[0]) == np.float32(0.1)
    assert np.float32(read[1]) == np.float32(2e-7)


def test_table_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        auc_tables.write_auc_table(path, table())
    assert path.read_text() == "mine"
    auc_tables.write_auc_table(path, table(), overwrite=True)
    assert len(auc_tables.read_auc_table(path)) == 4


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("auroc\t", "roc\t", "Missing: auroc"),
        ("\t0.9\t", "\tgood\t", "column auroc holds a number from 0 to 1, or NA. Received 'good'"),
        ("\t0.9\t", "\t1.5\t", "Received '1.5' in row 2"),
        ("\t0.9\t", "\t\t", "Received ''"),
        ("\t10\t", "\tNA\t", "column positives holds a whole number from 0. Received 'NA'"),
        ("\t10\t", "\t1.5\t", "column positives"),
        ("\n6\t", "\n5\t", "Received target 5 twice"),
        ("plain", "K562|CTCF|NA", "Received name K562|CTCF|NA twice"),
        ("\t0.9\t", "\t0.9\t\t", "Row 2 has 17"),
        ("negatives", "positives", "column names must be unique"),
        ("auroc", "deepsea_auroc", "published:danq"),
    ],
)
def test_bad_tables(tmp_path: Path, find: str, put: str, message: str) -> None:
    path = tmp_path / "bad.tsv"
    auc_tables.write_auc_table(path, table())
    text = path.read_text()
    assert find in text
    path.write_text(text.replace(find, put, 1))
    with pytest.raises(InputError) as error:
        auc_tables.read_auc_table(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "an empty file"), (b"\xff\xfe\x00", "not a table"), (b"a\n", "Missing: target")],
)
def test_not_a_table(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        auc_tables.read_auc_table(path)


def test_summary_by_hand() -> None:
    summary = auc_tables.summarise(table(), loss=0.25)
    overall = summary["overall"]
    assert summary["rule"] == "targets with at least 1 positive and 1 negative"
    assert (overall["targets"], overall["counted"], overall["not_counted"]) == (4, 3, 1)
    assert overall["auroc"] == pytest.approx({"mean": 2.1 / 3, "median": 0.8})
    assert overall["auprc"] == pytest.approx({"mean": 0.3, "median": 0.3})
    assert overall["auprc_interpolated"] == pytest.approx({"mean": 0.4, "median": 0.4})
    assert overall["accuracy"] == pytest.approx((0.95 + 0.9 + 0.99) / 3)
    assert overall["f1"] == pytest.approx(0.25)
    assert overall["f1_at_threshold"] == pytest.approx(0.35)
    assert overall["loss"] == 0.25
    assert list(summary["groups"]) == ["TF", "histone"]  # a target without a group is in neither
    assert summary["groups"]["TF"]["targets"] == 2
    assert summary["groups"]["TF"]["counted"] == 1
    assert summary["groups"]["TF"]["auroc"]["mean"] == pytest.approx(0.9)
    assert summary["baselines"] == {}


def test_summary_with_more_positives() -> None:
    summary = auc_tables.summarise(table(), min_positives=3)
    assert summary["rule"] == "targets with at least 3 positives and 1 negative"
    assert summary["overall"]["counted"] == 2
    assert summary["overall"]["auroc"]["mean"] == pytest.approx(0.85)
    nothing = auc_tables.summarise(table(), min_positives=11)
    assert nothing["overall"]["counted"] == 0
    assert nothing["overall"]["auroc"] == {"mean": None, "median": None}
    json.dumps(nothing, allow_nan=False)


def test_summary_of_baselines_counts_the_same_targets() -> None:
    with_baselines = auc_tables.add_baselines(table(), {"kmer": metrics(-0.1), "gc": metrics(-0.2)})
    assert auc_tables.baseline_names(with_baselines) == ["kmer", "gc"]
    summary = auc_tables.summarise(with_baselines, min_positives=2, notes={"kmer": "1- to 5-mers"})
    kmer = summary["baselines"]["kmer"]
    assert kmer["note"] == "1- to 5-mers"
    assert kmer["overall"]["counted"] == 2
    assert kmer["overall"]["auroc"]["mean"] == pytest.approx(0.75)
    assert kmer["overall"]["auprc_interpolated"]["median"] == pytest.approx(0.4)
    assert kmer["groups"]["histone"]["auprc"]["mean"] == pytest.approx(0.2)
    assert summary["baselines"]["gc"]["overall"]["auroc"]["mean"] == pytest.approx(0.65)
    json.dumps(summary, allow_nan=False)


def test_baseline_of_other_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="4 targets for a table of 2"):
        auc_tables.add_baselines(table().head(2), {"kmer": metrics()})


def test_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test_aucs.tsv"
    path.write_text("\t".join(auc_tables.COLUMNS) + "\n")
    with pytest.raises(InputError, match="a row a target"):
        auc_tables.read_auc_table(path)
