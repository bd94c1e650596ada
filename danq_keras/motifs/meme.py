"""MEME text: motif databases, and what the program MEME itself writes (`meme.txt`).

Of all versions: matrices of letter probabilities, each after its MOTIF line; everything else is
prose. The alphabet is DNA, or RNA, whose U is T.
"""

import re
from pathlib import Path

import numpy as np

from danq_keras.motifs.lines import (
    FILE_ALPHABET,
    SUM_TOLERANCE,
    Doubts,
    Line,
    are_counts,
    base_of,
    numbers,
    refuse,
    sums_to_one,
    to_frequencies,
)
from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.system.errors import InputError

_ROW = re.compile(r"[+-]?\.?\d")
_FACTS = re.compile(r"\s+width\s*=")  # behind a motif's name, in MEME's own output
_MATRIX = "letter-probability matrix"
_CORE = re.compile(r'(\S)(\s+"[^"]*")?(\s+[0-9A-Fa-f]{6})?(\s*~\s*(\S).*)?')


def is_meme(lines: list[Line]) -> bool:
    """Whether these are MEME text: some lines may stand before the one that says so."""
    return any(line.startswith("MEME version") for _, line in lines)


def parse_meme(path: Path, lines: list[Line]) -> list[Motif]:
    """The motifs of MEME text; those without a matrix are left out with a warning.

    Raises:
        InputError: another alphabet, or not valid; the line is named.
    """
    motifs: list[Motif] = []
    title: tuple[str, str] | None = None
    doubts = Doubts(path)
    for index, (number, line) in enumerate(lines):
        word = line.split(maxsplit=1)[0]
        if word.startswith("ALPHABET"):
            _check_alphabet(path, lines[index:])
        elif word == "MOTIF":
            if title is not None:
                doubts.add("matrix", title[0])
            title = _title(path, number, line)
        elif line.startswith(_MATRIX):
            if title is None:
                refuse(path, number, "a letter-probability matrix follows a MOTIF line.")
            motifs.append(Motif(*title, _matrix(path, lines[index:], title[0], doubts)))
            title = None
    if title is not None:
        doubts.add("matrix", title[0])
    if not motifs:
        missing = f"motif {title[0]} has no matrix" if title else "holds no motif"
        raise InputError(f"{path}: {missing}. Give a file with letter-probability matrices.")
    doubts.tell()
    return motifs


def _title(path: Path, number: int, line: str) -> tuple[str, str]:
    """Id and name of a MOTIF line."""
    words = _FACTS.split(line, maxsplit=1)[0].split(maxsplit=2)[1:]
    if not words:
        refuse(path, number, "MOTIF needs a name.")
    return words[0], " ".join(words[-1].split())


def _check_alphabet(path: Path, lines: list[Line]) -> None:
    """Refuse other letters than A, C, G and T or U, in one line or up to END ALPHABET."""
    number, line = lines[0]
    if "=" in line:
        letters = line.partition("=")[2].strip()
    else:
        letters = ""
        for _, text in lines[1:]:
            if text.startswith("END ALPHABET"):
                break
            core = _CORE.fullmatch(text)
            if core is not None and "=" not in text:
                letters += core[1] + (core[5] or "")
    known = sorted(map(base_of, letters)) == sorted(FILE_ALPHABET)
    ordered = "=" not in line or [*map(base_of, letters)] == [*FILE_ALPHABET]
    if not (known and ordered):
        refuse(path, number, f"the alphabet must be {FILE_ALPHABET}, received {line[:40]!r}.")


def _matrix(path: Path, lines: list[Line], identifier: str, doubts: Doubts) -> Matrix:
    """(w, 4) frequencies, columns A,G,C,T, of the matrix whose title is the first of `lines`."""
    number, title = lines[0]
    words = title.partition(":")[2].replace("=", " ").split()
    stated = dict(zip(words[::2], words[1::2], strict=False))
    if stated.get("alength", "4") != "4":
        refuse(path, number, f"a DNA matrix has alength= 4, received {stated['alength'][:20]}.")
    rows: list[list[float]] = []
    for row_number, line in lines[1:]:
        if not _ROW.match(line):
            break
        rows.append(numbers(path, row_number, line.split()))
        if len(rows[-1]) != 4:
            refuse(path, row_number, f"expected 4 frequencies of sum 1, received {line[:60]!r}.")
    if not rows or stated.get("w", str(len(rows))) != str(len(rows)):
        refuse(path, number, f"w= {stated.get('w', '?')[:20]} rows stated, {len(rows)} found.")
    counts = np.array(rows)
    if not sums_to_one(counts):
        if not are_counts(counts):
            wrong = int((np.abs(counts.sum(axis=1) - 1) > SUM_TOLERANCE).argmax())
            row_number, line = lines[1 + wrong]
            refuse(path, row_number, f"expected 4 frequencies of sum 1, received {line[:60]!r}.")
        doubts.add("counts", identifier)
    return to_frequencies(path, number, identifier, counts, doubts)
