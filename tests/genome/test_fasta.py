"""FASTA files in all their forms, regions, packed windows."""

import contextlib
import errno
import gzip
import os
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import danq_keras.genome.fasta
import danq_keras.genome.fasta_index
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
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_plain_fasta_is_read_and_indexed_beside(tmp_path: Path, end: str, mark: bytes) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(mark + fasta_text(SEQUENCES, end=end).encode())
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


def test_index_stays_in_memory_when_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text(SEQUENCES))

    @contextlib.contextmanager
    def read_only(*_: object, **__: object) -> Iterator[Path]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        yield tmp_path

    monkeypatch.setattr(danq_keras.genome.fasta, "atomic_output", read_only)
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
        (b"\xff\xfe>\0a\0", "text in UTF-16"),
        (b">a\n>b\n\n", "no record has a base. Received: 2 headers alone"),
        (b">a\nACGT\n>a\nACGT\n", "names of records must be unique. Received twice: 'a'"),
        (b">a\x1b[31mred\nACGT\n", r"control characters. Received: 'a\\x1b\[31mred'"),
        (b">\xe9\nACGT\n", "the name of record 1 is not UTF-8"),
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


def test_a_file_whose_lines_do_not_fit_its_index_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nAC\nGTAC\nG\n")  # as many bytes as the index says, and fewer bases
    path.with_name("genome.fa.fai").write_text("a\t8\t3\t4\t5\n")
    assert read_all(path) == {"a": "ACGTACG"}  # the index is not believed
    path.with_name("genome.fa.fai").write_text("a\t8\t3\t4\t5\n")
    monkeypatch.setattr(danq_keras.genome.fasta_index, "_stands", lambda *_: True)
    with (
        Genome(path) as opened,
        pytest.raises(InputError, match=r"a has not the bases that its index says\. Delete genome"),
    ):
        opened.codes("a")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (">a\nACGTACGT \nACGTACGT \nACG \n", ""),
        (">a\nACGTACGT\n\nACGTACGT\nACG\n", "1 records have lines of unequal length"),
        ("\ufeff;x\n>a\n;y\nACGTACGTACG\nTACGT ACG\n", "1 records have lines of unequal length"),
        (">a\rACGTACGT\rACGTACGT\rACG\r", ""),
        (">b\n>a\nacgtACGTACGTacgtACG", "1 records have no bases: b."),
    ],
)
def test_only_letters_are_positions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, note: str
) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    with Genome(path) as genome:
        assert decode(genome.codes("a")) == "ACGTACGTACGTACGTACG"
        for start in range(18):
            assert decode(genome.fetch("a", start, start + 2)) == "ACGTACGTACGTACGTACG"[start:][:2]
    assert note in caplog.text
    assert bool(caplog.text) == bool(note)


@pytest.mark.parametrize(
    ("letters", "read", "note"),
    [
        ("ACGTRYSWKMBDHVNn", "ACGTNNNNNNNNNNNN", ""),
        ("ACGUACGu", "ACGTACGT", "RNA: 2 U are read as T"),
        ("ACGUACGT", "ACGTACGT", "has both T and U: 1 U are read as T"),
        ("AC-GX.*?T", "ACNGNNNNT", "5 of - . * ? X are read as unknown bases"),
    ],
)
def test_doubtful_letters_are_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, letters: str, read: str, note: str
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "genome.fa"
    path.write_text(f">a\n{letters}\n")
    with Genome(path) as genome:
        assert decode(genome.codes("a")) == read
        assert decode(genome.fetch("a", 2, 5)) == read[2:5]
    assert note in caplog.text
    assert bool(caplog.text) == bool(note)


@pytest.mark.parametrize("letters", ["ACGT1ACGT", "ACGT\x00ACGT", "ACGTE", "ACGT~A", "ACéT"])
def test_letters_that_are_no_bases_are_refused_where_they_are_read(
    tmp_path: Path, letters: str
) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(f">b\n{'AC' * 40000}\n>a\n{letters}\n")  # beyond what is looked at first
    with Genome(path) as genome:
        assert len(genome.codes("b")) == 80000
        assert decode(genome.fetch("a", 0, 2)) == "AC"
        with pytest.raises(
            InputError, match=r"genome\.fa: a has '.*' at base \d, which is no IUPAC"
        ):
            genome.codes("a")


def bgzip(data: bytes, block: int) -> bytes:
    """Packed as bgzip does."""
    packed = b""
    for at in [*range(0, len(data), block), len(data)]:  # the last block is empty
        deflate = zlib.compressobj(wbits=-15)
        part = data[at : at + block]
        body = deflate.compress(part) + deflate.flush()
        head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00"
        sizes = zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little")
        packed += head + (len(body) + 25).to_bytes(2, "little") + body + sizes
    return packed


def test_bgzip_with_an_index_is_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, packed = tmp_path / "genome.fa", tmp_path / "genome.fa.gz"
    plain.write_text(fasta_text(SEQUENCES))
    packed.write_bytes(bgzip(plain.read_bytes(), 11))
    assert read_all(plain) == READ
    index = plain.with_name("genome.fa.fai").read_bytes()
    assert read_all(packed) == READ  # without an index, by unpacking it
    packed.with_name("genome.fa.gz.fai").write_bytes(index)
    monkeypatch.setattr(Genome, "_unpacked", None)
    assert read_all(packed) == READ
    with Genome(packed) as genome:
        for start in range(20):
            assert decode(genome.fetch("chrA", start, 21)) == READ["chrA"][start:]


@pytest.mark.parametrize(("at", "value"), [(-40, None), (25, 255), (16, 4)])
def test_damaged_bgzip_is_refused(tmp_path: Path, at: int, value: int | None) -> None:
    plain, packed = tmp_path / "genome.fa", tmp_path / "genome.fa.gz"
    plain.write_text(fasta_text({"a": "ACGTACCGT" * 5}))
    read_all(plain)
    content = bytearray(bgzip(plain.read_bytes(), 30))
    if value is None:
        del content[at:]
    else:
        content[at] ^= value
    packed.write_bytes(content)
    packed.with_name("genome.fa.gz.fai").write_bytes(plain.with_name("genome.fa.fai").read_bytes())
    with pytest.raises(InputError, match=r"truncated|not a FASTA"):
        read_all(packed)


def test_a_full_folder_of_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    packed = tmp_path / "genome.fa.gz"
    packed.write_bytes(gzip.compress(fasta_text(SEQUENCES).encode()))
    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(
        InputError, match=rf"{tempfile.gettempdir()}: no room here for .*Set TMPDIR"
    ):
        Genome(packed)


@pytest.mark.parametrize("packed", [False, True])
def test_a_fasta_comes_through_a_pipe(tmp_path: Path, *, packed: bool) -> None:
    pipe, data = tmp_path / "pipe", fasta_text(SEQUENCES).encode()
    os.mkfifo(pipe)
    writer = threading.Thread(
        target=pipe.write_bytes, args=[gzip.compress(data) if packed else data]
    )
    writer.start()
    assert read_all(pipe) == READ
    assert read_all(pipe) == READ  # once more, from the copy
    writer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
