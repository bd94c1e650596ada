"""Which split a bin belongs to."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from danq_keras.data.splits import (
    ACROSS_BORDER,
    IN_NO_SPLIT,
    SplitMap,
    split_by_options,
    split_by_table,
)
from danq_keras.genome.fasta import Genome
from danq_keras.system.errors import InputError

BINS = np.arange(0, 100, 10)
TRAIN, VALID, TEST = 0, 1, 2


@pytest.fixture
def genome(tmp_path: Path) -> Iterator[Genome]:
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{'ACGTA' * 20}\n" for name in ("a", "b", "c")))
    with Genome(path) as opened:
        yield opened


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "splits.tsv"
    path.write_text(text)
    return path


def of_bins(splits: SplitMap, chrom: str) -> list[int]:
    return splits.of_bins(chrom, BINS, length=10).tolist()


def test_test_chromosomes_and_rest(genome: Genome) -> None:
    splits = split_by_options(genome, test_chroms=("c", "c"), valid_region="b")
    assert of_bins(splits, "a") == [TRAIN] * 10
    assert of_bins(splits, "b") == [VALID] * 10
    assert of_bins(splits, "c") == [TEST] * 10


def test_bins_at_the_border_of_a_region_are_in_no_split(genome: Genome) -> None:
    # 0-based [14, 40): the bin at 10 lies across, those at 20 and 30 inside, the one at 40 not.
    splits = split_by_options(genome, test_chroms=(), valid_region="a:15-40")
    assert of_bins(splits, "a") == [TRAIN, ACROSS_BORDER, VALID, VALID] + [TRAIN] * 6
    exact = split_by_options(genome, test_chroms=(), valid_region="a:11-40")
    assert of_bins(exact, "a") == [TRAIN, VALID, VALID, VALID] + [TRAIN] * 6


def test_table_says_everything(genome: Genome, tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "chrom\tsplit\tstart\tend\na\ttrain\t0\t25\na\ttrain\t25\t40\na\ttest\t45\t60\nb\tvalid\t\t\n",
    )
    splits = split_by_table(genome, path)
    expected = [TRAIN] * 4 + [ACROSS_BORDER, TEST] + [IN_NO_SPLIT] * 4
    assert of_bins(splits, "a") == expected
    assert of_bins(splits, "b") == [VALID] * 10
    assert of_bins(splits, "c") == [IN_NO_SPLIT] * 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a\tholdout\t\t\n", "line 2: 'split' is one of train, valid, test. Received: 'holdout'"),
        ("a\ttrain\t0\t\n", "line 2: 'start' and 'end' are whole numbers"),
        ("a\ttrain\t9\t3\n", "Received: '9', '3'"),
        ("a\ttrain\t0\t10\nz\ttest\t\t\n", "line 3: genome.fa has no z. It has a, b, c"),
        ("a\ttrain\t0\t101\n", "ends at 101, a has 100 bases"),
        ("a\ttrain\t0\t90\na\ttrain\t5\t9\na\ttest\t50\t60\n", "train and test, .* a:51-60"),
    ],
)
def test_bad_tables_are_refused(genome: Genome, tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_by_table(genome, table(tmp_path, "chrom\tsplit\tstart\tend\n" + rows))


def test_bad_options_are_refused(genome: Genome, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`test_chroms`: genome\.fa has no chr1"):
        split_by_options(genome, test_chroms=("chr1",), valid_region=None)
    with pytest.raises(InputError, match="`valid_region`: the region ends at 200"):
        split_by_options(genome, test_chroms=(), valid_region="a:1-200")
    with pytest.raises(InputError, match=r"valid and test, which share a:1-10|test and valid"):
        split_by_options(genome, test_chroms=("a",), valid_region="a:1-10")
    with pytest.raises(InputError, match=r"expected a header with chrom, split. Missing: split"):
        split_by_table(genome, table(tmp_path, "chrom\tset\na\ttrain\n"))


@pytest.mark.parametrize(
    "header", ["chrom\tchromStart\tchromEnd\tsplit", "chrom\tStart\tEnd\tsplit"]
)
def test_bounds_of_other_spellings_are_bounds(tmp_path: Path, genome: Genome, header: str) -> None:
    splits = split_by_table(genome, table(tmp_path, f"{header}\na\t0\t20\ttest\n"))
    assert of_bins(splits, "a") == [TEST, TEST] + [IN_NO_SPLIT] * 8


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("chrom\tstart\tlast\tsplit", "two columns, or none"),
        ("chrom\tfrom\tto\tsplit", "columns of numbers .* from, to"),
    ],
)
def test_columns_that_may_be_bounds_are_refused(
    tmp_path: Path, genome: Genome, header: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split_by_table(genome, table(tmp_path, f"{header}\na\t0\t20\ttest\n"))


def test_other_columns_are_named(
    tmp_path: Path, genome: Genome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        split_by_table(genome, table(tmp_path, "chrom\tsplit\tnote\na\ttest\tx\n"))
    assert "not used: column note" in caplog.text


def test_an_empty_region_is_refused(genome: Genome) -> None:
    with pytest.raises(InputError, match="A region is"):
        split_by_options(genome, test_chroms=["a"], valid_region="")
