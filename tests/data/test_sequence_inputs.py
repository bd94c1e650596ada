"""Windows cut from FASTA and BED, against slices of the letters."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toys

from danq_keras.data import sequence_inputs
from danq_keras.data.inputs import Tiling
from danq_keras.data.sequence_inputs import (
    Intervals,
    Skipped,
    is_fasta,
    record_windows,
    tiled_windows,
    write_skipped,
)
from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.system.errors import InputError


def letters_of(windows, first=0):
    blocks = (dna.unpack_codes(block, windows.window) for block in windows.blocks(first))
    return [dna.decode(row) for codes in blocks for row in codes]


@pytest.fixture
def records(rng):
    lengths = {"chr2": 47, "tiny": 5, "chr10": 20, "chr1": 33}
    return {name: "".join(rng.choice(list("ACGTN"), length)) for name, length in lengths.items()}


@pytest.fixture
def genome(tmp_path, records):
    with Genome(toys.write_fasta(tmp_path / "g.fa", records)) as genome:
        yield genome


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sequence_inputs, "_BLOCK_ROWS", 2)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("step", [1, 3, 7, 20, 50])
def test_tiles_are_slices(genome, records, step):
    windows, skipped = tiled_windows(genome, 10, step=step)
    expected = [
        (name, at, text[at : at + 10])
        for name, text in records.items()
        for at in range(0, len(text) - 9, step)
    ]
    assert windows.n_windows == len(expected)
    assert letters_of(windows) == [text for _, _, text in expected]
    columns = windows.columns(0, windows.n_windows)
    assert columns["chrom"].tolist() == [name for name, _, _ in expected]
    assert columns["start"].tolist() == [at for _, at, _ in expected]
    assert columns["end"].tolist() == [at + 10 for _, at, _ in expected]
    assert skipped == [Skipped("tiny", 0, 5, "shorter than the window of 10 bases")]
    for first in range(windows.n_windows):  # from any row on
        assert letters_of(windows, first) == [text for _, _, text in expected[first:]]
        part = windows.columns(first, windows.n_windows)
        assert part["start"].tolist() == columns["start"][first:].tolist()


def test_a_value_covers_the_bases_around_its_window_s_centre():
    """Window 10, step 4: window 2 is [8, 18), its centre 13, its 4 bases [11, 15)."""
    tiling = Tiling.of({"a": 30}, window=10, step=4)
    assert tiling.n_windows == 6
    assert [tiling.covered_from(number) for number in range(3)] == [3, 7, 11]


def test_chosen_chromosomes_keep_the_file_s_order(genome):
    windows, skipped = tiled_windows(genome, 20, step=20, chroms=["chr1", "chr2"])
    assert windows.columns(0, 3)["chrom"].tolist() == ["chr2", "chr2", "chr1"]
    assert skipped == []
    with pytest.raises(InputError, match=r"`chroms`: chr3 not in .*g.fa, which has chr2, tiny"):
        tiled_windows(genome, 20, step=20, chroms=["chr3"])
    with pytest.raises(InputError, match=r"no record has the 50 .*; 4 shorter than the window"):
        tiled_windows(genome, 50, step=20)


@pytest.mark.usefixtures("small_blocks")
def test_records_of_the_window_s_length(tmp_path, rng):
    records = {f"r{i}": "".join(rng.choice(list("ACGT"), 12)) for i in range(5)}
    path = toys.write_fasta(tmp_path / "r.fa", {**records, "long": "A" * 13, "short": "A" * 11})
    with Genome(path) as genome:
        windows, skipped = record_windows(genome, 12)
        assert letters_of(windows) == list(records.values())
        assert letters_of(windows, 3) == list(records.values())[3:]
        assert windows.columns(1, 3)["name"].tolist() == ["r1", "r2"]
        assert [(each.name, each.reason) for each in skipped] == [
            ("long", "longer than the window of 12 bases, `tile=STEP` cuts it into windows"),
            ("short", "shorter than the window of 12 bases"),
        ]
        with pytest.raises(InputError, match=r"no record has the 14 bases of a window; 7 shorter"):
            record_windows(genome, 14)


def bed(tmp_path, text):
    path = tmp_path / "i.bed"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("small_blocks")
def test_intervals_are_centred_and_the_rest_is_listed(tmp_path, genome, records):
    path = bed(
        tmp_path,
        "chr2\t20\t21\nchr9\t1\t2\nchr2\t0\t3\nchr1\t10\t21\nchr1\t30\t33\nchr2\t42\t43\nchr1\t4\t7\n",
    )
    windows, skipped = Intervals.read(path, genome).windows(10)
    # (start + end) // 2 is the sixth base of a window of ten
    expected = [("chr2", 15), ("chr1", 10), ("chr2", 37), ("chr1", 0)]
    columns = windows.columns(0, 4)
    assert list(zip(columns["chrom"].tolist(), columns["start"].tolist(), strict=True)) == expected
    assert letters_of(windows) == [records[name][at : at + 10] for name, at in expected]
    assert [(each.name, each.start, each.reason) for each in skipped] == [
        ("chr9", 1, "its chromosome is not in the FASTA"),
        ("chr2", 0, "its window begins before the chromosome"),
        ("chr1", 30, "its window ends beyond the chromosome"),
    ]


def test_intervals_without_a_window(tmp_path, genome):
    path = bed(tmp_path, "tiny\t1\t2\ntiny\t3\t4\n")
    with pytest.raises(InputError, match=r"no feature has a window; 2 its window begins before"):
        Intervals.read(path, genome).windows(10)
    with pytest.raises(InputError, match=r"none of its chromosomes is in the FASTA"):
        Intervals.read(bed(tmp_path, "chrX\t1\t2\n"), genome)
    with pytest.raises(InputError, match=r"1 of 1 features end beyond their chromosome"):
        Intervals.read(bed(tmp_path, "chr1\t1\t99\n"), genome)
    stripped = Intervals.read(bed(tmp_path, "10\t9\t11\n"), genome, chrom_names="add")
    assert stripped.windows(10)[0].columns(0, 1)["chrom"].tolist() == ["chr10"]


PEAKS = "chr2\t5\t45\tp\t9\t.\t1\t1\t1\t12\nchr2\t5\t45\tq\t9\t.\t1\t1\t1\t26\n"
NO_SUMMIT = "chr1\t12\t20\tr\t9\t.\t1\t1\t1\t-1\n"


def test_windows_of_a_narrow_peak_are_centred_on_its_summits(tmp_path, genome, caplog):
    caplog.set_level("INFO")
    intervals = Intervals.read(bed(tmp_path, PEAKS + NO_SUMMIT), genome)
    assert "windows are centred on summits, which 2 of 3 peaks have" in caplog.text
    columns = intervals.windows(10)[0].columns(0, 3)
    assert columns["start"].tolist() == [12, 26, 11]
    assert columns["name"].tolist() == ["p", "q", "r"]
    frame = pd.DataFrame(
        {"chrom": ["chr2"], "start": [5], "end": [45], "summit": [12], "name": ["p"]}
    )
    columns = Intervals.read(frame, genome).windows(10)[0].columns(0, 1)
    assert (columns["start"].tolist(), columns["name"].tolist()) == ([12], ["p"])


def test_an_interval_may_end_past_its_chromosome(tmp_path, genome, caplog):
    windows, skipped = Intervals.read(bed(tmp_path, "chr1\t20\t36\nchr2\t9\t12\n"), genome).windows(
        8
    )
    assert windows.columns(0, 2)["start"].tolist() == [24, 6]
    assert not skipped
    assert "1 of 2 features end beyond their chromosome" in caplog.text


def test_skipped_are_written_and_an_old_list_goes(tmp_path):
    out = tmp_path / "out.h5"
    listed = [Skipped("a", 1, 5, "why"), Skipped("b", 0, 2, "why"), Skipped("c", 0, 2, "else")]
    line = write_skipped(out, listed, "records")
    assert line == f"{out}.skipped.tsv: 3 records without a prediction: 2 why; 1 else"
    text = Path(f"{out}.skipped.tsv").read_text()
    assert text == "name\tstart\tend\treason\na\t1\t5\twhy\nb\t0\t2\twhy\nc\t0\t2\telse\n"
    assert write_skipped(out, [], "records") is None
    assert list(tmp_path.iterdir()) == []


def test_fasta_is_known_by_its_first_byte(tmp_path):
    (tmp_path / "a").write_text("\n>x\nAC\n")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b">x\nAC\n"))
    (tmp_path / "c.fa").write_text("chr1\t1\t2\n")
    assert [is_fasta(tmp_path / name) for name in ("a", "b.gz", "c.fa")] == [True, True, False]
    with pytest.raises(InputError, match="no such file"):
        is_fasta(tmp_path / "d")


def test_tiles_of_long_sequences_need_no_memory_for_them():
    """A billion windows are known by their counts."""
    tiling = Tiling.of({"a": 10**11, "b": 10**11}, window=1000, step=200)
    assert tiling.n_windows == 2 * ((10**11 - 1000) // 200 + 1)
    end = tiling.columns(tiling.n_windows - 1, tiling.n_windows)["end"]
    assert end.tolist() == [10**11]
    np.testing.assert_array_equal(tiling.columns(5, 7)["start"], [1000, 1200])
