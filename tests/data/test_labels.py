"""Peak files → targets and labels."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danq_keras.data.build_summary import BuildSummary
from danq_keras.data.labels import (
    NOT_CHOSEN,
    NOT_IN_GENOME,
    WEAK,
    label_bins,
    load_ignored,
    load_peaks,
    name_targets,
    target_name,
)
from danq_keras.data.store import SPLITS
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import unpack_labels
from danq_keras.genome.intervals import SpanLists
from danq_keras.system.errors import InputError

LENGTHS = {"chr1": 1000, "chr2": 500}


def bed(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("CTCF.bed", "CTCF"),
        ("CTCF.narrowPeak.gz", "CTCF"),
        ("a.b.bed.gz", "a.b"),
        ("x.bed.broadPeak", "x"),
        ("plain", "plain"),
    ],
)
def test_target_name_is_the_file_name_without_its_endings(file: str, name: str) -> None:
    assert target_name(Path("folder") / file) == name


def test_targets_keep_the_order_of_the_files(tmp_path: Path) -> None:
    paths = [tmp_path / "z.bed", tmp_path / "a.bed"]
    targets, files = name_targets(paths)
    assert files == [(path,) for path in paths]
    assert targets.names == ("z", "a")


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be unique. Received 'a' for .*a\.bed and .*a\.nar"):
        name_targets([tmp_path / "a.bed", tmp_path / "sub" / "a.narrowPeak"])
    with pytest.raises(InputError, match="No peak file was given"):
        name_targets([])


def test_table_names_files_beside_it_and_keeps_na_as_text(tmp_path: Path) -> None:
    table = tmp_path / "targets.tsv"
    table.write_text("file\tname\ttreatment\tgroup\np/x.bed\tX\tNone\tTF\np/y.bed\tY\tNA\t\n")
    targets, files = name_targets([], table)
    assert files == [(tmp_path / "p/x.bed",), (tmp_path / "p/y.bed",)]
    assert targets.names == ("X", "Y")
    assert targets.treatment == ("None", "NA")
    assert targets.group == ("TF", "")
    assert targets.cell_type == ()


def test_table_is_joined_with_the_given_files_by_name(tmp_path: Path) -> None:
    table = tmp_path / "targets.csv"
    table.write_text("file,name,group\nx.bed,X,TF\ny.bed,Y,DNase\nz.bed,Z,TF\n")
    targets, files = name_targets([Path("elsewhere/z.bed"), Path("x.bed")], table)
    assert files == [(Path("elsewhere/z.bed"),), (Path("x.bed"),)]
    assert targets.names == ("Z", "X")
    assert targets.group == ("TF", "TF")
    with pytest.raises(InputError, match=r"no row for 1 of 2 peak files, such as 'w\.bed'"):
        name_targets([Path("x.bed"), Path("w.bed")], table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\tlabel\nx.bed\tX\n", "expected a header with file, name. Missing: name"),
        ("file\tname\nx.bed\tX\ny.bed\tX\n", "must be unique. Received 'X'"),
        ("file\tname\nx.bed\t\n", "must not be empty"),
        ("file\tname\n", "No peak file"),
        ("", "not a table"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "targets.tsv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        name_targets([], table)
    with pytest.raises(InputError, match="no such file"):
        name_targets([], tmp_path / "none.tsv")


def test_a_file_listed_twice_is_refused_when_joined(tmp_path: Path) -> None:
    table = tmp_path / "targets.tsv"
    table.write_text("file\tname\na/x.bed\tX\nb/x.bed\tY\n")
    with pytest.raises(InputError, match="listed twice"):
        name_targets([Path("x.bed")], table)


def loaded(paths: list[Path], **choices: Any) -> tuple[SpanLists, BuildSummary]:
    """Peaks of chromosome 1, and what was counted."""
    targets, files = name_targets(paths)
    summary = BuildSummary.empty(targets, SPLITS)
    return load_peaks(files, LENGTHS, chroms=["chr1"], summary=summary, **choices), summary


def test_peaks_are_sorted_out_by_chromosome_and_counted(tmp_path: Path) -> None:
    paths = [
        bed(tmp_path, "a.bed", "chr1 10 20 x 5", "chr9 10 20 x 9", "chr1 30 40 x 9"),
        bed(tmp_path, "b.bed", "chr2 10 20 x 9", "chr1 1 2 x 9"),
    ]
    peaks, summary = loaded(paths, min_signal=6)
    assert [[part.tolist() for part in target] for target in peaks["chr1"]] == [
        [[30], [40]],
        [[1], [2]],
    ]
    assert summary.peaks_left_out == {WEAK: 1, NOT_IN_GENOME: 1, NOT_CHOSEN: 1}
    assert summary.n_peaks == 5


def test_resizing_is_around_the_centre_and_clipped(tmp_path: Path) -> None:
    path = bed(tmp_path, "a.bed", "chr1 100 101", "chr1 10 21", "chr1 990 1000")
    peaks, _ = loaded([path], resize=50)
    starts, ends = peaks["chr1"][0]
    # Centres 100, 15 and 995; [c - 25, c + 25).
    assert starts.tolist() == [75, 0, 970]
    assert ends.tolist() == [125, 40, 1000]
    odd, _ = loaded([path], resize=5)
    assert odd["chr1"][0][0][0] == 98  # c - 5 // 2
    assert odd["chr1"][0][1][0] == 103


def test_resizing_is_around_the_summit_where_there_is_one(tmp_path: Path) -> None:
    path = bed(
        tmp_path, "a.narrowPeak", "chr1 100 200 . 0 . 1 1 1 10", "chr1 100 200 . 0 . 1 1 1 -1"
    )
    peaks, _ = loaded([path], resize=20)
    assert peaks["chr1"][0][0].tolist() == [100, 140]


def test_peaks_are_cut_at_the_end_of_their_chromosome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = bed(tmp_path, "a.bed", "chr1 900 1008", "chr1 1 5")
    peaks, _ = loaded([path])
    assert [part.tolist() for part in peaks["chr1"][0]] == [[900, 1], [1000, 5]]
    assert "1 of 2 features end beyond their chromosome" in caplog.text
    last = bed(tmp_path, "b.narrowPeak", "chr1 900 1008 . 0 . 1 1 1 105")  # a summit past the end
    peaks, _ = loaded([last], resize=20)
    assert [part.tolist() for part in peaks["chr1"][0]] == [[989], [1000]]


def test_a_pipe_of_a_shell_gets_a_name(caplog: pytest.LogCaptureFixture) -> None:
    assert target_name(Path("-")) == "stdin"
    read, write = os.pipe()
    try:
        assert target_name(Path(f"/dev/fd/{read}")) == f"pipe-{read}"
        with pytest.raises(InputError, match="joined by the names of files, and a pipe has none"):
            name_targets([Path(f"/dev/fd/{read}")], Path("table.tsv"))
    finally:
        os.close(read)
        os.close(write)
    assert "a pipe has no name: its target is called stdin" in caplog.text


def test_a_bin_is_positive_when_more_than_the_share_is_covered() -> None:
    bins = np.array([0, 10, 20, 30])
    peaks = [
        (np.array([0, 12, 14]), np.array([5, 16, 18])),  # 5 of bin 0; 6 of bin 1, by two peaks
        (np.array([14]), np.array([30])),  # 6 of bin 1 and all of bin 2
        (np.array([], int), np.array([], int)),
    ]
    labels = label_bins(peaks, bins, length=10, above=5)
    expected = [[0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert unpack_labels(labels.packed, 3).tolist() == expected
    assert [part.tolist() for part in labels.positive] == [[1], [1, 2], []]


def test_labels_reach_beyond_the_first_byte(rng: np.random.Generator) -> None:
    truth = rng.random((30, 19)) < 0.3
    peaks = [(np.flatnonzero(column) * 10, np.flatnonzero(column) * 10 + 10) for column in truth.T]
    labels = label_bins(peaks, np.arange(0, 300, 10), length=10, above=5)
    assert np.array_equal(unpack_labels(labels.packed, 19), truth)


def brute_force(peaks: list[tuple[int, int]], starts: list[int], above: float) -> list[bool]:
    """Label of each bin, from a count of every base."""
    covered = set()
    for start, end in peaks:
        covered |= set(range(start, end))
    return [sum(base in covered for base in range(b, b + 20)) > above * 20 for b in starts]


PEAKS_BY_CASE = {
    "exactly half": [(0, 10), (25, 35)],
    "one more than half": [(0, 11), (29, 40)],
    "touching": [(0, 6), (6, 11), (40, 45), (45, 50)],
    "nested": [(20, 40), (22, 25), (21, 39), (61, 70), (62, 69)],
    "overlapping, both under half": [(0, 8), (5, 12), (40, 47), (42, 50)],
    "the same twice": [(0, 7), (0, 7), (80, 91), (80, 91)],
    "across two bins": [(10, 30), (49, 71)],
    "a point exactly between two bins": [(20, 21), (39, 40), (59, 61)],
    "both ends of the chromosome": [(0, 11), (190, 200)],
    "everything": [(0, 200)],
    "wider than many bins": [(5, 187)],
    "one base short of a bin": [(1, 20), (40, 59)],
}


@pytest.mark.parametrize("case", PEAKS_BY_CASE)
@pytest.mark.parametrize("above", [0.0, 0.25, 0.5, 0.95])
def test_labels_equal_a_count_of_every_base(case: str, above: float) -> None:
    peaks = PEAKS_BY_CASE[case]
    arrays = [np.array(column) for column in zip(*peaks[::-1], strict=True)]
    grid = list(range(0, 200, 20))
    for starts in (grid, [0, 3, 10, 11, 19, 20, 30, 50, 51, 180]):
        labels = label_bins(
            [(arrays[0], arrays[1])], np.array(starts), length=20, above=int(above * 20)
        )
        expected = brute_force(peaks, starts, above)
        assert unpack_labels(labels.packed, 1)[:, 0].tolist() == expected
        assert labels.positive[0].tolist() == np.flatnonzero(expected).tolist()


def test_labels_of_random_peaks_equal_a_count_of_every_base(rng: np.random.Generator) -> None:
    for _ in range(30):
        starts = rng.integers(0, 180, (4, 9))
        ends = np.minimum(starts + rng.integers(1, 40, starts.shape), 200)
        bins = np.sort(rng.integers(0, 181, 25))
        above = int(rng.integers(0, 20))
        labels = label_bins(list(zip(starts, ends, strict=True)), bins, length=20, above=above)
        for target in range(4):
            peaks = list(zip(starts[target].tolist(), ends[target].tolist(), strict=True))
            expected = brute_force(peaks, bins.tolist(), above / 20)
            assert unpack_labels(labels.packed, 4)[:, target].tolist() == expected


def test_ignored_labels_are_not_positive() -> None:
    bins = np.arange(0, 60, 10)
    peaks = [(np.array([0, 20]), np.array([10, 40])), (np.array([0]), np.array([60]))]
    ignore = [(np.array([29]), np.array([30])), (np.array([], int), np.array([], int))]
    labels = label_bins(peaks, bins, length=10, above=5, ignore=ignore)
    assert [part.tolist() for part in labels.covered] == [[0, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert [part.tolist() for part in labels.positive] == [[0, 3], [0, 1, 2, 3, 4, 5]]
    assert unpack_labels(labels.packed, 2)[:, 0].tolist() == [1, 0, 0, 1, 0, 0]
    assert labels.ignored is not None
    assert unpack_labels(labels.ignored, 2)[:, 0].tolist() == [0, 0, 1, 0, 0, 0]
    assert not unpack_labels(labels.ignored, 2)[:, 1].any()


def test_ignored_regions_are_found_by_name_and_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)
    bed(tmp_path, "sub/r.bed", "1 5 9", "7 1 2")
    bed(tmp_path, "s.bed", "2 0 4")
    table = tmp_path / "ignore.tsv"
    table.write_text("target\tfile\nB\tsub/r.bed\n0\ts.bed\n1\ts.bed\n")
    chroms = ["chr1", "chr2"]
    targets = Targets(("A", "B"))
    found = load_ignored(table, targets, LENGTHS, chroms=chroms, chrom_names="add")
    listed = {c: [[x.tolist() for x in pair] for pair in found[c]] for c in chroms}
    assert listed == {"chr1": [[[], []], [[5], [9]]], "chr2": [[[0], [4]], [[0], [4]]]}
    assert "r.bed: 1 of 2 features lie on chromosomes that the FASTA lacks." in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target\tregions\nA\tr.bed\n", "Missing: file"),
        ("target\tfile\nA\tr.bed\nC\tr.bed\n", "ignore.tsv, line 3: Unknown target 'C'"),
        ("target\tfile\nA\tnone.bed\n", "none.bed: no such file"),
        ("target\tfile\nA\tr.bed\nB\t\n", "ignore.tsv, line 3: 'file' must not be empty"),
    ],
)
def test_bad_tables_of_ignored_regions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    bed(tmp_path, "r.bed", "chr1 5 9")
    table = tmp_path / "ignore.tsv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        load_ignored(table, Targets(("A", "B")), LENGTHS, chroms=["chr1"])


def test_a_point_exactly_between_two_bins_labels_neither(tmp_path: Path) -> None:
    """Resized to a bin's length it covers exactly half of both; a base off, it has its bin."""
    for point, expected in ((400, []), (399, [1]), (401, [2]), (500, [2])):
        path = bed(tmp_path, "points.bed", f"chr1 {point} {point + 1}")
        peaks, _ = loaded([path], resize=200)
        bins = np.arange(0, 1000, 200)
        labels = label_bins(peaks["chr1"], bins, length=200, above=100)
        assert labels.positive[0].tolist() == expected
        assert [(int(a), int(b)) for a, b in zip(*labels.peak_bins[0], strict=True)] == [
            (1, 3) if point != 500 else (2, 3)
        ]
