"""FASTA files in all their forms, regions, packed windows."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

import danq_keras.genome.fasta
from danq_keras.genome.dna import decode, encode, pack_codes, unpack_codes
from danq_keras.genome.fasta import Genome
from danq_keras.genome.packed import PackedSequence, unknown_runs
from danq_keras.genome.regions import Region
from danq_keras.system.errors import InputError, shorten

SEQUENCES = {"chrA": "ACGTNacgtnRYKACGTACCA", "chrB": "TTTTGGGGCC"}
READ = {"chrA": "ACGTNACGTNNNNACGTACCA", "chrB": "TTTTGGGGCC"}


def fasta_text(sequences: dict[str, str], width: int = 8, end: str = "\n") -> str:
    lines = []
    for name, letters in sequences.items():
        lines.append(f">{name} a description")
        lines += [letters[i : i + width] for i in range(0, len(letters), width)]
    return end.join(lines) + end


def read_all(path: Path) -> dict[str, str]:
    with Genome(path) as genome:
        return {name: decode(genome.codes(name)) for name in genome.lengths}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_fasta_is_read_and_indexed_beside(tmp_path: Path, end: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(fasta_text(SEQUENCES, end=end).encode())
    assert read_all(path) == READ
    assert sorted(p.name for p in tmp_path.iterdir()) == ["genome.fa", "genome.fa.fai"]


def test_compressed_fasta_leaves_nothing_beside(tmp_path: Path) -> None:
    text = fasta_text(SEQUENCES).encode()
    whole, blocks = tmp_path / "genome.fa.gz", tmp_path / "odd_name"
    whole.write_bytes(gzip.compress(text, mtime=0))
    # bgzip is gzip of several members; the name says nothing here.
    blocks.write_bytes(
        gzip.compress(text[:20], mtime=0)
        + gzip.compress(text[20:], mtime=0)
        + gzip.compress(b"", mtime=0)
    )
    assert read_all(whole) == READ
    assert read_all(blocks) == READ
    assert sorted(p.name for p in tmp_path.iterdir()) == ["genome.fa.gz", "odd_name"]


def test_index_goes_elsewhere_when_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text(SEQUENCES))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read_all(path) == READ
    assert [p.name for p in tmp_path.iterdir()] == ["genome.fa"]


def test_a_changed_fasta_is_indexed_again(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text(SEQUENCES))
    read_all(path)
    path.write_text(fasta_text({"other": "ACGTACGTAC"}))
    later = path.with_name("genome.fa.fai").stat().st_mtime + 10
    os.utime(path, (later, later))
    assert read_all(path) == {"other": "ACGTACGTAC"}


def test_fetch_takes_an_interval_and_refuses_one_outside(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text(SEQUENCES))
    with Genome(path) as genome:
        assert genome.lengths == {"chrA": 21, "chrB": 10}
        assert decode(genome.fetch("chrA", 6, 19)) == READ["chrA"][6:19]
        for start, end in ((-1, 4), (4, 22), (5, 5)):
            with pytest.raises(ValueError, match="is not inside 0-21"):
                genome.fetch("chrA", start, end)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"chr1\t0\t100\n", "must begin with '>'. Received: 'chr1\\\\t0"),
        (b"", "Received: 'an empty file'"),
        (b"\x89PNG\r\n\x1a\n", "must begin with '>'"),
        (b">a\nACGT\nACGTACGT\nAC\n", "not a usable FASTA"),
        (b">a\nACGT\n>a\nACGT\n", "not a usable FASTA .*Duplicate"),
        (b">a\nACGTRYSWKMBDHVNXU-*.\n>E\nMKlACGT\n", "not DNA: .* Received: L. Give"),
        (gzip.compress(b"@read\nACGT\n", mtime=0), "must begin with '>'"),
        (gzip.compress(b">a\n" + b"ACGTTGCA" * 9, mtime=0)[:-9], "truncated gzip"),
    ],
)
def test_what_is_not_fasta_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        Genome(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_fasta_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Genome(tmp_path / "none.fa")


def test_region_is_one_based_and_inclusive() -> None:
    assert Region.parse("chr7") == Region("chr7", 0, None)
    assert Region.parse("chr7:1-1") == Region("chr7", 0, 1)
    # Source: DeepSEA's validation region.
    assert Region.parse("chr7:30,508,751-35,296,850") == Region("chr7", 30_508_750, 35_296_850)
    assert Region.parse("HLA:01:5-9") == Region("HLA:01", 4, 9)


@pytest.mark.parametrize("text", ["", ":1-2", "chr7:", "chr7:0-5", "chr7:9-5", "chr7:5", "c:a-b"])
def test_what_is_not_a_region_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="CHROM:START-END"):
        Region.parse(text)


@pytest.mark.parametrize("window", [10, 11])
@pytest.mark.parametrize("length", [40, 41])
def test_packed_windows_equal_windows_packed_one_by_one(
    length: int, window: int, rng: np.random.Generator
) -> None:
    codes = rng.integers(0, 5, length).astype(np.uint8)
    starts = rng.permutation(length - window + 1).astype(np.int64)
    packed = PackedSequence(codes, window).windows(starts)
    assert np.array_equal(packed, np.stack([pack_codes(codes[s : s + window]) for s in starts]))
    assert np.array_equal(unpack_codes(packed[0], window), codes[starts[0] : starts[0] + window])


def test_unknown_runs_by_hand() -> None:
    starts, ends = unknown_runs(encode("NNACNGTN"))
    assert (starts.tolist(), ends.tolist()) == ([0, 4, 7], [2, 5, 8])
    assert [len(part) for part in unknown_runs(encode("ACGT"))] == [0, 0]


def test_shorten_says_how_many_it_leaves_out() -> None:
    assert shorten(["a", "b"], 2) == "a, b"
    assert shorten(["a", "b", "c"], 2) == "a, b and 1 more"


def test_small_reads_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    letters = "".join(rng.choice(list("ACGTNacgtn"), 97))
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text({"x": "ACG", "a": letters}, width=7))
    monkeypatch.setattr(danq_keras.genome.fasta, "_READ_BYTES", 5)
    with Genome(path) as opened:
        for start, end in [(0, 97), (96, 97), (6, 7), (7, 8), (6, 15), (14, 21), (90, 97)]:
            assert np.array_equal(opened.fetch("a", start, end), encode(letters[start:end]))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("index", ["", "chrA\t21\t19\t0\t9\n", "other\t8\t3\t4\t5\n"])
def test_an_index_of_another_file_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, index: str, end: str
) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(fasta_text(SEQUENCES, end=end).encode())
    read_all(path)
    made = path.with_name("genome.fa.fai").read_text()
    path.with_name("genome.fa.fai").write_text(index)
    assert read_all(path) == READ
    assert "genome.fa.fai: not the index of this FASTA file" in caplog.text
    assert path.with_name("genome.fa.fai").read_text() == made


def test_a_file_whose_lines_do_not_fit_its_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nAC\nGTAC\nG\n")  # as many bytes as the index says, and fewer bases
    path.with_name("genome.fa.fai").write_text("a\t8\t3\t4\t5\n")
    with (
        Genome(path) as opened,
        pytest.raises(InputError, match=r"a has not the bases that its index says\. Delete genome"),
    ):
        opened.codes("a")
