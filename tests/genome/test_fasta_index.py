"""The quick index of a FASTA file against the one that pyfaidx makes line by line."""

from pathlib import Path

import numpy as np
import pyfaidx
import pytest

from danq_keras.genome import fasta_index
from danq_keras.genome.fasta_index import (
    Lines,
    Pieces,
    begins_as_fasta,
    find_records,
    index_text,
    read_index,
)
from danq_keras.system.errors import InputError


def index_of(path: Path) -> str:
    text = index_text(find_records(path, path))
    assert text is not None
    return text


def fits(path: Path, index: Path) -> bool:
    content = path.read_bytes()
    return read_index(index, lambda at, n: content[at : at + n], len(content)) is not None


def bases_of(path: Path) -> dict[str, bytes]:
    """Every record as its ranges of bytes give it."""
    content, found = path.read_bytes(), {}
    for name, layout in find_records(path, path).items():
        ranges, skipped = layout.ranges(0, layout.n_bases) if layout.n_bases else ([], 0)
        assert skipped == 0
        found[name] = b"".join(b"".join(content[a:b].split()) for a, b in ranges)
        assert len(found[name]) == layout.n_bases
    return found


REGULAR = [
    ">a\nACGT\n",
    ">a desc > more\nACGT\nACGT\nAC\n>b\tx\nAC\n>c\nNNNNN\nNNNNN\n",
    ">a\nACGT\nACGT\n>b\nACGTACGT\nA\n>c\nA\n",
    ">one_line\n" + "ACGT" * 50 + "\n>two\n" + "a" * 7 + "\n",
    ">last_line_open\nACGT\nACG",
]


@pytest.mark.parametrize("text", REGULAR)
@pytest.mark.parametrize("block", [3, 1 << 24])
def test_index_equals_that_of_pyfaidx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int
) -> None:
    monkeypatch.setattr(fasta_index, "_BLOCK", block)
    path = tmp_path / "genome.fa"
    path.write_text(text)
    pyfaidx.Faidx(str(path))
    assert index_of(path) == path.with_name("genome.fa.fai").read_text()


def test_index_of_random_files_equals_that_of_pyfaidx(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    for number in range(20):
        path = tmp_path / f"genome{number}.fa"
        width = int(rng.integers(1, 9))
        with path.open("w") as file:
            for record in range(int(rng.integers(1, 5))):
                letters = "".join(rng.choice(list("ACGTNacgtn"), rng.integers(1, 40)))
                lines = [letters[i : i + width] for i in range(0, len(letters), width)]
                file.write(f">r{record} x\n" + "\n".join(lines) + "\n")
        pyfaidx.Faidx(str(path))
        assert index_of(path) == path.with_name(path.name + ".fai").read_text()


IRREGULAR_BUT_USABLE = [">a\r\nACGT\r\nAC\r\n", ">a\nACGT\n\n", ">a\nACGT", ">a\n>b\nACGT\n"]


@pytest.mark.parametrize("text", REGULAR + IRREGULAR_BUT_USABLE)
def test_an_index_fits_its_own_file_and_no_other(tmp_path: Path, text: str) -> None:
    path, index = tmp_path / "genome.fa", tmp_path / "genome.fa.fai"
    path.write_bytes(text.encode())
    pyfaidx.Faidx(str(path))
    assert fits(path, index)
    for changed in (f">{text}", text.replace(">a", ">z"), text.replace("AC", "AAC"), text + "A"):
        if changed != text:
            path.write_bytes(changed.encode())
            assert not fits(path, index), changed


@pytest.mark.parametrize(
    "index",
    [
        "",
        "garbage\n",
        "a\t8\t3\t4\n",
        "a\t8\t3\t4\tx\n",
        "a\t8\t3\t0\t5\n",
        "a\t8\t3\t5\t4\n",
        "a\t-8\t3\t4\t5\n",
        "a\t7\t3\t4\t5\n",
        "a\t9\t3\t4\t5\n",
        "a\t8\t3\t4\t9999999999999999999999999\n",
        "a\t800\t3\t4\t5\n",
        "a\t8\t4\t4\t5\n",
        "a\t8\t-3\t4\t5\n",
        "b\t8\t3\t4\t5\n",
        "a\t8\t3\t4\t5\na\t8\t3\t4\t5\n",
        "a\t8\t3\t4\t5\nb\t8\t3\t4\t5\n",
    ],
)
def test_a_wrong_index_does_not_fit(tmp_path: Path, index: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGT\nACGT\n")
    (tmp_path / "index").write_text("a\t8\t3\t4\t5\n")
    assert fits(path, tmp_path / "index")
    (tmp_path / "index").write_text(index)
    assert not fits(path, tmp_path / "index")


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        (">a\r\nACGT\r\nAC\r\n", {"a": "ACGTAC"}),
        (">a\rACGT\rAC\r>b\rG\r", {"a": "ACGTAC", "b": "G"}),
        (">a\nACGT \nACGT \nAC \n>b\nAC\n", {"a": "ACGTACGTAC", "b": "AC"}),
        (">a x\nACGT \t\nACGT \t\nAC", {"a": "ACGTACGTAC"}),
        (">a\nACGT\n\n", {"a": "ACGT"}),
        (">a\nACGT\n \n\n>b\nAC\n", {"a": "ACGT", "b": "AC"}),
        (">a\n>b\nACGT\n>c\n", {"a": "", "b": "ACGT", "c": ""}),
        (">a\nACGT", {"a": "ACGT"}),
        (">a\nACGT\n>b", {"a": "ACGT", "b": ""}),
        ("\ufeff>a\nACGT\n", {"a": "ACGT"}),
        ("\n;old form\n>a\nACGT\n", {"a": "ACGT"}),
    ],
)
def test_what_an_index_can_say_it_says(tmp_path: Path, text: str, bases: dict[str, str]) -> None:
    path, index = tmp_path / "genome.fa", tmp_path / "genome.fa.fai"
    path.write_bytes(text.encode())
    assert all(isinstance(layout, Lines) for layout in find_records(path, path).values())
    assert {name: found.decode() for name, found in bases_of(path).items()} == bases
    index.write_text(index_of(path))
    assert fits(path, index)


@pytest.mark.parametrize(
    "text",
    [
        ">a\nACGT\n\nACGT\n",
        ">a\n\nACGTACGT\n",
        ">a\nACGT\nACG\nT\n",
        ">a\nAC\nGTACG\nT\n",
        ">a\nACGT \nAC\nGT\n",
        ">a\nAC GT\nACGT\n",
        ">a\n;comment > of old\nACGT\n;another\nACGT\n",
        ">a\r\nACG\nTACGT\r\n",
    ],
)
@pytest.mark.parametrize("piece", [3, 1 << 16])
def test_a_record_of_any_lines_is_read_by_its_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, piece: int
) -> None:
    monkeypatch.setattr(fasta_index, "_PIECE", piece)
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    assert isinstance(find_records(path, path)["a"], Pieces)
    assert index_text(find_records(path, path)) is None
    assert bases_of(path)["a"] == b"ACGTACGT"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a\nACGT\n>a\nACGT\n", "must be unique. Received twice: 'a'"),
        (">\nACGT\n", "record 1 has no name"),
        (">a\nACGT>b\nACGT\n", r"a '>' stands inside a line of 'a' \(byte 8 "),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    with pytest.raises(InputError, match=message):
        find_records(path, path)


def test_every_line_of_an_index_is_needed(tmp_path: Path) -> None:
    path, index = tmp_path / "genome.fa", tmp_path / "genome.fa.fai"
    path.write_text(">a x\nACGT\nAC\n>b\nACGT\nA\n\n>c\n>d\nAC\n")
    rows = index_of(path).splitlines(keepends=True)
    index.write_text("".join(reversed(rows)))  # any order will do
    assert fits(path, index)
    for missing in range(4):
        index.write_text("".join(row for i, row in enumerate(rows) if i != missing))
        assert not fits(path, index), rows[missing]


def test_lines_between_which_change_in_length_do_not_fit(tmp_path: Path) -> None:
    path, index = tmp_path / "genome.fa", tmp_path / "genome.fa.fai"
    path.write_text(">a\n" + "ACGT\n" * 20)
    index.write_text(index_of(path))
    assert fits(path, index)
    path.write_text(">a\n" + "ACGT\n" * 5 + "ACG\n" + "ACGT\n" * 11 + "ACGTA\n" + "ACGT\n" * 2)
    assert not fits(path, index)


@pytest.mark.parametrize(
    ("first", "is_fasta"),
    [
        (b">a", True),
        (b"\n\r\n>a", True),
        (b"\xef\xbb\xbf>a", True),
        (b"; old\n>a", True),
        (b"", False),
        (b"\n;", False),
        (b"@a", False),
        (b"ACGT\n>a", False),
    ],
)
def test_how_a_fasta_file_begins(first: bytes, *, is_fasta: bool) -> None:
    assert begins_as_fasta(first) is is_fasta
