"""Motif files as lines, and what all readers of them share: numbers, frequencies, doubts.

Lines are stripped and have no control characters; blank lines and # comments are left out.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np

from danq_keras.genome.dna import ALPHABET
from danq_keras.motifs.motif import Matrix
from danq_keras.system.errors import InputError
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.system.names import printable
from danq_keras.system.terminal import log

Line: TypeAlias = tuple[int, str]
"""Number, from 1 on, and text."""

FILE_ALPHABET = "ACGT"
_COUNTS = re.compile(r"[0-9.]{0,300}")  # too short to be infinite
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n\r"
SUM_TOLERANCE = 0.02  # files print rounded frequencies
_ABOVE_ROUNDING = 1.5  # a sum from here on is of counts
_FROM_FILE = [FILE_ALPHABET.index(base) for base in ALPHABET]
_DOUBTS = {
    "matrix": "have no matrix and are left out",
    "sum": "have frequencies that do not sum to 1 at every position; they are scaled",
    "counts": "have counts where frequencies are expected; they are scaled",
    "way": "have 4 rows of 4 numbers; which of them are the positions was told from the sums",
}


def motif_lines(path: Path) -> list[Line]:
    """The lines of a motif file, plain or gzip.

    Raises:
        InputError: no such file, or not text.
    """
    with open_bytes(path) as file:
        content = file.read().removeprefix(BYTE_ORDER_MARK)
    if b"\0" in content:
        raise InputError(
            f"{path}: a motif file is text, received other bytes. Give a motif file as text "
            "(UTF-8) or gzip."
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("utf-8", "backslashreplace")
        log.warning("%s: has bytes that are no UTF-8 text; they are written as \\x..", path)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = (printable(text) if content.translate(None, _PLAIN) else text).split("\n")
    return [
        (number, stripped)
        for number, line in enumerate(lines, 1)
        if (stripped := line.strip()) and stripped[0] != "#"
    ]


def refuse(path: Path, number: int, problem: str) -> NoReturn:
    """Raise the error of a line."""
    raise InputError(f"{path}, line {number}: {problem} Correct the file.")


def numbers(path: Path, number: int, words: Sequence[str]) -> list[float]:
    """Finite numbers from 0 up.

    Raises:
        InputError: a word is something else.
    """
    try:
        values = list(map(float, words))
    except ValueError:
        values = []
    together = "".join(words)
    if len(values) == len(words) and _COUNTS.fullmatch(together):
        return values  # the usual case, in half the time
    if len(values) < len(words) or "_" in together:  # which Python takes in numbers
        wrong = next(word for word in words if "_" in word or not is_number(word))
        refuse(path, number, f"expected numbers, received {wrong[:20]!r}.")
    if values and not (min(values) >= 0 and sum(values) < math.inf):  # false of a NaN too
        wrong = next(word for word in words if not 0 <= float(word) < math.inf)
        refuse(path, number, f"counts and frequencies are finite and from 0 up: {wrong[:20]}.")
    return values


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def base_of(letter: str) -> str:
    """A base's letter in upper case; U, of RNA, is T."""
    upper = letter.upper()
    return "T" if upper == "U" else upper


class Doubts:
    """What was accepted with a doubt, motif by motif, to be told once for a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, identifier: str) -> None:
        """Note a motif; `kind` is a key of `_DOUBTS`."""
        self._found.setdefault(kind, []).append(identifier)

    def tell(self) -> None:
        """Warn of each kind, with the number of motifs."""
        for kind, ids in self._found.items():
            line = f"{len(ids):,} motifs {_DOUBTS[kind]}, first {ids[0]}"
            log.warning("%s: %s", self._path, line)


def to_frequencies(
    path: Path, number: int, identifier: str, counts: Matrix, doubts: Doubts
) -> Matrix:
    """Frequencies (w, 4), columns A,G,C,T, of counts or frequencies (w, 4), columns A,C,G,T.

    Frequencies that do not sum to 1, as far as they are printed, are a doubt.

    Raises:
        InputError: a position has none.
    """
    totals: Matrix = counts.sum(axis=1)
    listed = totals.tolist()  # which is faster for the few positions of a motif
    if min(listed) == 0:
        refuse(
            path,
            number,
            f"position {int(totals.argmin()) + 1} of motif {identifier} has no counts.",
        )
    if max(listed) < _ABOVE_ROUNDING and not _are_ones(totals):
        doubts.add("sum", identifier)
    matrix: Matrix = counts.take(_FROM_FILE, axis=1) / totals[:, None]
    return matrix


def _are_ones(totals: Matrix) -> bool:
    return bool((np.abs(totals - 1) <= SUM_TOLERANCE).all())


def sums_to_one(counts: Matrix) -> bool:
    """Whether every row of (w, 4) is frequencies, as far as they are printed."""
    return _are_ones(counts.sum(axis=1))


def are_counts(counts: Matrix) -> bool:
    """Whether all of (w, 4) are whole numbers, more than one at every position."""
    return bool((counts == np.rint(counts)).all() and (counts.sum(axis=1) > 1).all())
