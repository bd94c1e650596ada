"""Motifs as plain matrices: JASPAR, PFM and PCM, HOMER, Cluster-Buster, cisBP, and TRANSFAC.

A record is a header `>ID NAME` and rows. The rows are bases (JASPAR: `A [ 1 2 3 ]`, `A 1 2 3` or
bare numbers for A, C, G, T) or positions (HOMER, .cb, PCM: four columns A, C, G, T; cisBP names
them). Which of the two is told by letters, by HOMER's header, or by the shape: four rows of another
number of columns than four are bases, another number of rows of four columns are positions. Four
bare rows of four are what the file's other records are; where there is none, what sums to the same
at every position; and where that tells nothing either, the file is refused. Positions may begin
with their number, or with the letter that stands for them (the ENCODE motifs of Kheradpour and
Kellis): five columns, of which four are numbers.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danq_keras.genome.dna import BASES_OF_LETTER
from danq_keras.motifs.lines import (
    FILE_ALPHABET,
    SUM_TOLERANCE,
    Doubts,
    Line,
    base_of,
    is_number,
    numbers,
    refuse,
    to_frequencies,
)
from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.system.errors import InputError

_POSITION_WORDS = ("POS", "POSITION", "PO", "P0")
_TAG = re.compile("[A-Z]{2}")  # of a line of TRANSFAC
BASES, POSITIONS, UNKNOWN = "bases", "positions", "unknown"
LABELLED, UNTOLD = "positions behind a label", "bases or labelled positions"


@dataclass(slots=True)
class _Record:
    """A motif as it stands: where it begins, what it is called, and its rows' words."""

    number: int
    id: str
    name: str
    is_homer: bool
    rows: list[tuple[int, list[str]]]

    def rows_are(self) -> str:
        """What letters, header and shape say that the rows are."""
        first = self.rows[0][1]
        if first and first[0].upper() in _POSITION_WORDS:
            return POSITIONS
        if all(len(words) == 5 for _, words in self.rows):
            labels = [words[0] for _, words in self.rows]
            if len(labels) != 4 and (_count_up(labels) or _are_letters(labels)):
                return LABELLED
            if _count_up(labels) or (_are_bases(labels) and self._rows_alone_sum()):
                return UNTOLD
        if any(words and words[0][0].isalpha() for _, words in self.rows):
            return BASES
        all_four = all(len(words) == 4 for _, words in self.rows)
        if self.is_homer or (all_four and len(self.rows) != 4):
            return POSITIONS
        return UNKNOWN if all_four else BASES

    def _rows_alone_sum(self) -> bool:
        """Whether the numbers of every row have one sum, and those of every column do not."""
        texts = [words[1:] for _, words in self.rows]
        if not all(is_number(text) for row in texts for text in row):
            return False
        values = np.array(texts, float)
        return _all_equal(values.sum(axis=1)) and not _all_equal(values.sum(axis=0))


def _count_up(labels: Sequence[str]) -> bool:
    """Whether labels are the numbers of positions, from 0 or 1 on."""
    if not all(label.isdecimal() for label in labels):
        return False
    found = [int(label) for label in labels]
    return found == list(range(found[0], found[0] + len(found))) and found[0] in (0, 1)


def _are_letters(labels: Sequence[str]) -> bool:
    return all(base_of(letter) in BASES_OF_LETTER for letter in "".join(labels))


def _are_bases(labels: Sequence[str]) -> bool:
    return sorted(map(base_of, labels)) == sorted(FILE_ALPHABET)


def parse_records(path: Path, lines: list[Line], *, rows_are: str | None = None) -> list[Motif]:
    """The motifs of records with `>` headers; those without rows are left out with a warning.

    Args:
        path: the file, for messages.
        lines: of the file.
        rows_are: `BASES` where the rows are known to be bases, as in JASPAR files.

    Raises:
        InputError: a record is not valid, or can be read in two ways; the line is named.
    """
    doubts = Doubts(path)
    motifs: list[Motif | None] = []
    untold: list[tuple[int, _Record]] = []  # where in `motifs`, and what
    told = set()
    for record in _records(path, lines):
        if not record.rows:
            doubts.add("matrix", record.id)
            continue
        way = rows_are or record.rows_are()
        if way == UNTOLD:
            refuse(
                path,
                record.number,
                f"motif {record.id} has 4 rows of a label and 4 numbers, and nothing tells whether "
                "a row is a base or a position. Write the rows as 'A [ 1 2 3 4 ]'.",
            )
        if way == LABELLED:
            record.rows = [(number, words[1:]) for number, words in record.rows]
            way = POSITIONS
        if way == UNKNOWN:
            untold.append((len(motifs), record))
            motifs.append(None)
        else:
            told.add(way)
            motifs.append(_motif(path, record, way, doubts))
    usual = told.pop() if len(told) == 1 else UNKNOWN
    for index, record in untold:
        motifs[index] = _motif(path, record, usual, doubts)
    found = [motif for motif in motifs if motif is not None]
    if not found:
        raise InputError(f"{path}: holds no motif. Give a file with at least one.")
    doubts.tell()
    return found


def parse_bare(path: Path, lines: list[Line]) -> list[Motif] | None:
    """The one motif of a file that has no header, called as the file; None where it is none.

    Raises:
        InputError: see `parse_records`; or a comment or blank line stands between the rows, as
            between two motifs.
    """
    rows = [_words(line) for _, line in lines]
    numeric = (
        all(word[0].isdigit() or word[0] in ".+" for word in row[1:])
        for row in rows[rows[0][0].upper() in _POSITION_WORDS :]
    )
    letters = all(len(row[0]) == 1 or row[0][0].isdigit() or row[0][0] == "." for row in rows[1:])
    if not (all(len(row) > 1 for row in rows) and all(numeric) and letters):
        return None
    together = lines if rows[0][0].upper() not in _POSITION_WORDS else []
    for (before, _), (number, line) in itertools.pairwise(together):
        if number != before + 1:
            refuse(
                path,
                number,
                "rows of numbers go on behind a blank line or comment. Begin each motif with "
                f"'>NAME'. Received: {line[:40]!r}.",
            )
    return parse_records(path, [(lines[0][0], f">{path.stem.replace(' ', '_')}"), *lines])


def _words(line: str) -> list[str]:
    for mark in "[]|:":
        if mark in line:
            line = line.replace(mark, " ")
    return line.split() or [" "]


def _records(path: Path, lines: list[Line]) -> Iterator[_Record]:
    record = None
    for number, line in lines:
        if line[0] == ">":
            if record is not None:
                yield record
            header = line[1:].strip()
            if not header:
                refuse(path, number, "a header needs an ID after '>'.")
            record = _Record(number, *_names(header), [])
        elif record is not None:
            record.rows.append((number, _words(line)))
        else:
            refuse(path, number, f"expected a header such as '>MA0139.1 CTCF', got {line[:40]!r}.")
    if record is not None:
        yield record


def _names(header: str) -> tuple[str, str, bool]:
    """Id and name of a header, and whether it is HOMER's, with tabs and a threshold."""
    fields = header.split("\t")
    if len(fields) >= 3 and is_number(fields[2]):
        identifier = "_".join(fields[1].split()) or fields[0]
        return identifier, identifier, True
    identifier, _, name = header.replace("\t", " ").partition(" ")
    return identifier, name.strip() or identifier, False


def _motif(path: Path, record: _Record, rows_are: str, doubts: Doubts) -> Motif:
    if rows_are == UNKNOWN:
        rows_are = _told_by_sums(path, record)
        doubts.add("way", record.id)
    counts = _by_position(path, record) if rows_are == POSITIONS else _by_base(path, record)
    matrix = to_frequencies(path, record.number, record.id, counts, doubts)
    return Motif(record.id, record.name, matrix)


def _told_by_sums(path: Path, record: _Record) -> str:
    values = np.array([numbers(path, number, words) for number, words in record.rows])
    equal = [_all_equal(values.sum(axis=axis)) for axis in (0, 1)]
    if equal[0] == equal[1]:
        refuse(
            path,
            record.number,
            f"motif {record.id} has 4 rows of 4 numbers, and nothing tells whether a row is a base "
            "or a position. Write the rows as 'A [ 1 2 3 4 ]'.",
        )
    return BASES if equal[0] else POSITIONS


def _all_equal(sums: Matrix) -> bool:
    return bool(np.ptp(sums) <= SUM_TOLERANCE * sums.max())


def _by_position(path: Path, record: _Record) -> Matrix:
    """(w, 4) counts, columns A,C,G,T, of rows that are positions."""
    rows, order, skipped = record.rows, list(FILE_ALPHABET), 0
    if rows[0][1][0].upper() in _POSITION_WORDS:
        order, rows, skipped = [*map(base_of, rows[0][1][1:])], rows[1:], 1
        if sorted(order) != sorted(FILE_ALPHABET):
            refuse(path, record.number, f"the columns must be A, C, G, T, received {order}.")
    counts = []
    for number, words in rows:
        counts.append(numbers(path, number, words[skipped:]))
        if len(counts[-1]) != 4:
            refuse(path, number, f"a position has 4 numbers, received {len(counts[-1])}.")
    if not counts:
        refuse(path, record.number, f"motif {record.id} has no positions.")
    return np.array(counts)[:, [order.index(base) for base in FILE_ALPHABET]]


def _by_base(path: Path, record: _Record) -> Matrix:
    """(w, 4) counts, columns A,C,G,T, of rows that are bases."""
    if len(record.rows) != 4:
        refuse(
            path,
            record.number,
            f"motif {record.id} needs 4 rows of counts, it has {len(record.rows)}.",
        )
    by_base: dict[str, list[float]] = {}
    for default, (number, words) in zip(FILE_ALPHABET, record.rows, strict=True):
        has_letter = words[0][0].isalpha()
        letter = base_of(words[0]) if has_letter else default
        if letter not in FILE_ALPHABET or letter in by_base:
            received = f"received {words[0][:20]!r}."
            refuse(path, number, f"each of A, C, G, T has one row, {received}")
        by_base[letter] = numbers(path, number, words[has_letter:])
    if len({len(values) for values in by_base.values()}) > 1 or not by_base["A"]:
        found = ", ".join(str(len(by_base[base])) for base in FILE_ALPHABET)
        refuse(
            path,
            record.number,
            f"the rows of motif {record.id} have {found} counts, not one w.",
        )
    return np.array([by_base[base] for base in FILE_ALPHABET]).T


# ---- TRANSFAC


def is_transfac(lines: list[Line]) -> bool:
    """Whether a line names the columns of a TRANSFAC matrix."""
    return any(_columns(line.split()) is not None for _, line in lines)


def _columns(words: Sequence[str]) -> list[str] | None:
    """The bases of a P0 line; None of another line."""
    letters = [base_of(word) for word in words[1:]]
    return letters if words[0] in ("P0", "PO") and sorted(letters) == [*FILE_ALPHABET] else None


def parse_transfac(path: Path, lines: list[Line]) -> list[Motif]:
    """The matrices of TRANSFAC text (AC, ID, P0 or PO, numbered rows, //).

    Raises:
        InputError: a matrix is not valid; the line is named.
    """
    motifs: list[Motif] = []
    doubts = Doubts(path)
    names: dict[str, str] = {}
    order: list[str] = []
    counts: list[list[float]] = []
    start, first, is_over = 0, 1, False
    for number, line in [*lines, (lines[-1][0], "//")]:
        words = line.split()
        columns = _columns(words)
        ends = words[0] == "//" or (columns and order) or (words[0] in ("AC", "ID") and counts)
        if ends and (names or order):
            _end_of_transfac(path, start, names, order, counts, motifs, doubts)
            names, order, counts, is_over = {}, [], [], False
        is_tag = _TAG.fullmatch(words[0]) is not None
        is_over = is_over or (is_tag and bool(order))
        if columns:
            start, order = number, columns
        elif order and not is_tag and (not is_over or words[0].isdecimal()):
            at = int(words[0]) if words[0].isdecimal() else -1
            first = first if counts else at
            if is_over or first not in (0, 1) or at != first + len(counts):
                refuse(
                    path,
                    number,
                    "the rows of a matrix are numbered one by one, from 0 or 1 on, and end where "
                    f"another line (XX, //) begins. Received: {line[:40]!r}.",
                )
            counts.append(numbers(path, number, words[1:5]))
            if len(counts[-1]) != 4:
                refuse(path, number, f"a position has 4 numbers, received {len(counts[-1])}.")
        elif words[0] in ("P0", "PO"):
            refuse(path, number, f"the columns must be A, C, G, T, received {line[:40]!r}.")
        elif words[0] in ("AC", "ID", "NA") and len(words) > 1:
            names.setdefault(words[0], " ".join(words[1:]))
    if not motifs:
        raise InputError(f"{path}: holds no motif. Give a file with at least one.")
    doubts.tell()
    return motifs


def _end_of_transfac(
    path: Path,
    number: int,
    names: dict[str, str],
    order: list[str],
    counts: list[list[float]],
    motifs: list[Motif],
    doubts: Doubts,
) -> None:
    called = [names[key] for key in ("AC", "ID", "NA") if key in names]
    if not counts:
        if called:
            doubts.add("matrix", called[0])
        return
    if not called:
        refuse(path, number, "a matrix needs an AC or ID line before it.")
    matrix = np.array(counts)[:, [order.index(base) for base in FILE_ALPHABET]]
    frequencies = to_frequencies(path, number, called[0], matrix, doubts)
    identifier = "_".join(called[0].split())
    motifs.append(
        Motif(identifier, names.get("NA") or called[min(1, len(called) - 1)], frequencies)
    )
