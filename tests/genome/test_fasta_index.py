"""The quick index of a FASTA file against the one that pyfaidx makes line by line."""

from pathlib import Path

import numpy as np
import pyfaidx
import pytest

from danq_keras.genome import fasta_index
from danq_keras.genome.fasta_index import fits, write_index


def index_of(path: Path) -> str:
    assert write_index(path, path.with_suffix(".quick"))
    return path.with_suffix(".quick").read_text()


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
    "text",
    [
        ">a\r\nACGT\r\nAC\r\n",
        ">a\nACGT\n\nACGT\n",
        ">a\nACGT\n\n",
        ">a\nACGT\nACGTA\n",
        ">a\nACGT\nAC\nACGT\n",
        ">a\nAC T\nACGT\n",
        ">a\nACGT\n>a\nACGT\n",
        ">\nACGT\n",
        ">a\n>b\nACGT\n",
        ">a\n",
        ">a",
        ">a\nACGT",
        ">a\n\nACGT\n",
    ],
)
def test_what_is_irregular_is_left_to_pyfaidx(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    assert not write_index(path, tmp_path / "index")
    assert [p.name for p in tmp_path.iterdir()] == ["genome.fa"]


def test_an_old_index_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGT\n")
    path.with_suffix(".quick").write_text("old")
    assert index_of(path) == "a\t4\t3\t4\t5\n"
