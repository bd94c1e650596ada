"""Labelled sequences of tables, data frames and FASTA files, as arrays.

A label is 1, 0, or `UNSAID` where nobody measured it: an empty cell, or a target of another file.
Nothing is guessed: a column that is neither sequence, split nor labels is named and left out, and a
value that is no label is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.labels import target_name
from danq_keras.genome.dna import UNKNOWN, Bytes, encode, foreign_letters
from danq_keras.genome.fasta_index import BLANKS, begins_as_fasta
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.system.tables import parse_table
from danq_keras.system.terminal import log

Labels: TypeAlias = npt.NDArray[np.int8]

UNSAID = -1
_WRONG = -2
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
_SEQUENCE_COLUMNS = ("sequence", "seq")
_LABEL_COLUMNS = ("label", "labels")  # these take the file's name as their target
_NAMES_COLUMN = "targets"
_PLACE_COLUMNS = ("chrom", "chr", "chromosome", "start", "end", "strand")  # never labels
_LABEL_OF_TEXT = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_LABEL_OF_TEXT |= {"False": 0, "FALSE": 0, "false": 0, "True": 1, "TRUE": 1, "true": 1}
_NO_LABEL = ("", "NA", "N/A", "nan", "NaN", "None", "<NA>")
_MEANING = _LABEL_OF_TEXT | dict.fromkeys(_NO_LABEL, UNSAID)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what; None finds them by their names and values.

    `sequence` and `split` name one column, `labels` those of the labels, each a target; `names` a
    column that lists the positive targets of a row, separated by commas or semicolons.
    """

    sequence: str | None = None
    split: str | None = None
    labels: tuple[str, ...] | None = None
    names: str | None = None


@dataclass(frozen=True, eq=False)
class Labelled:
    """Sequences with labels.

    `codes` (N, L) uint8 base codes; `labels` (N, T) int8, 1, 0 or `UNSAID`; `names` of the T
    targets; `split` (N,) str "train", "valid" or "test", None where the source does not say;
    `source` and `row` (N,) where each stood, for messages; `listed` whether each row named all of
    its positive targets, so that every other target of such sources is 0.
    """

    codes: Bytes
    labels: Labels
    names: tuple[str, ...]
    split: npt.NDArray[np.str_] | None
    source: npt.NDArray[np.str_]
    row: npt.NDArray[np.int64]
    listed: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    def at(self, rows: npt.NDArray[np.generic]) -> "Labelled":
        """The sequences chosen by numbers or booleans."""
        split = None if self.split is None else self.split[rows]
        places = self.source[rows], self.row[rows]
        return Labelled(
            self.codes[rows], self.labels[rows], self.names, split, *places, listed=self.listed
        )

    def place(self, number: int) -> str:
        """Where a sequence stood, for messages."""
        return f"{self.source[number]}, row {self.row[number]}"


def read_tables(
    paths: Sequence[Path], columns: Columns, *, window: int | None = None
) -> list[Labelled]:
    """Tables of sequences, tab- or comma-separated, plain or gzip.

    Args:
        paths: the files. Files that are named train, valid (or val, dev) and test are the splits
            of one table, whose label's target is named after their folder.
        columns: which of their columns are what.
        window: bases to which every sequence is cut or filled; None refuses unequal lengths.

    Returns:
        The sequences of each file.

    Raises:
        InputError: a file is unreadable, or a value is not what its column should hold.
    """
    stems = [name_of_file(path, (".tsv", ".csv", ".txt")) for path in paths]
    splits = [SPLIT_WORDS.get(stem.lower()) for stem in stems]
    are_splits = all(splits) and len(set(splits)) == len(splits)
    parts = []
    for path, stem, split in zip(paths, stems, splits, strict=True):
        frame = _read_frame(path)
        name = path.resolve().parent.name if are_splits else stem
        if are_splits and columns.split is None and _column(frame, None, ("split",)) is None:
            frame = frame.assign(split=split)
        parts.append(from_frame(frame, str(path), name, columns, window=window))
    return parts


def name_of_file(path: Path, endings: Sequence[str]) -> str:
    """Name of the target of a file: the file's without .gz, `endings` and those of peak files."""
    name = path.name.removesuffix(".gz")
    for ending in endings:
        name = name.removesuffix(ending)
    return target_name(path.with_name(name))


def _read_frame(path: Path) -> pd.DataFrame:
    with open_bytes(path) as file:
        return parse_table(path, file)


def from_frame(
    frame: pd.DataFrame, source: str, target: str, columns: Columns, *, window: int | None = None
) -> Labelled:
    """Sequences of a data frame.

    Args:
        frame: a row a sequence; labels are numbers, booleans or text.
        source: what messages call it.
        target: name of the target where the single column of labels is called `label`.
        columns: which of its columns are what.
        window: bases to which every sequence is cut or filled; None refuses unequal lengths.

    Raises:
        InputError: a column is missing, or a value is not what its column should hold.
    """
    frame = frame.rename(columns=str)
    sequence = _column(frame, columns.sequence, _SEQUENCE_COLUMNS)
    for wanted in (columns.sequence, columns.split, columns.names, *(columns.labels or ())):
        if wanted is not None and wanted not in frame.columns:
            raise InputError(f"{source}: no column {wanted!r}. Received: {_listed(frame)}.")
    if sequence is None:
        raise InputError(
            f"{source}: no column called {' or '.join(_SEQUENCE_COLUMNS)}. Received: "
            f"{_listed(frame)}. Name it with `sequence_column`."
        )
    if frame.empty:
        raise InputError(f"{source}: no rows. Give sequences with labels.")
    row = np.arange(2, len(frame) + 2)  # as a text editor numbers them: the header is row 1
    split = _split(frame, source, columns)
    used = {sequence, columns.split or _column(frame, None, ("split",))}
    listed = _listing_column(frame, source, columns, used)
    if listed is None:
        names, labels = _labels(frame, source, target, columns, used)
    else:
        names, labels = _labels_of_names(frame[listed].astype(str).tolist(), source, listed)
        _tell_left_out([name for name in frame.columns if name not in {*used, listed}], source)
    codes = _codes(_sequences(frame[sequence], source), source, row, window)
    places = np.full(len(row), source), row
    return Labelled(codes, labels, names, split, *places, listed=listed is not None)


def _sequences(column: "pd.Series[Any]", source: str) -> list[str]:
    """The sequences of a column as text.

    Raises:
        InputError: one is missing: NA would be read as the bases N and A.
    """
    texts = [
        value.strip() if isinstance(value, str) else "" if value is None else str(value).strip()
        for value in column.tolist()
    ]
    if not set(_NO_LABEL).isdisjoint(texts):
        missing = [row for row, text in enumerate(texts, 2) if text in _NO_LABEL]
        raise InputError(
            f"{source}, row {missing[0]}: no sequence, and {len(missing) - 1:,} more such rows. "
            f"Received: {texts[missing[0] - 2]!r} in column {column.name}. Leave them out, or name "
            "another column with `sequence_column`."
        )
    return texts


def _listing_column(
    frame: pd.DataFrame, source: str, columns: Columns, used: set[str | None]
) -> str | None:
    """The column that lists the positive targets of each row.

    Raises:
        InputError: nobody said so, and there are columns of labels too.
    """
    if columns.names is not None or columns.labels is not None:
        return columns.names
    if _NAMES_COLUMN not in frame.columns:
        return None
    others = [
        name
        for name in _candidates(frame, used)
        if name != _NAMES_COLUMN and _are_labels(_values(frame[name]))
    ]
    if others:
        raise InputError(
            f"{source}: a column {_NAMES_COLUMN!r}, and columns of 0 and 1 ({shorten(others, 5)}). "
            "Say which has the labels: `label_columns` or `targets_column`."
        )
    return _NAMES_COLUMN


def _candidates(frame: pd.DataFrame, used: set[str | None]) -> list[str]:
    """Columns that may be labels."""
    return [
        name
        for name in frame.columns
        if name not in used and name.strip().lower() not in _PLACE_COLUMNS
    ]


def _are_labels(values: Labels) -> bool:
    return _WRONG not in values and bool((values != UNSAID).any())


def _values(column: "pd.Series[Any]") -> Labels:
    """The labels (N,) of a column, `_WRONG` for what is none."""
    numbers, different = pd.factorize(column, use_na_sentinel=False)  # a few texts, many rows
    meanings = [_MEANING.get(str(value).strip(), _WRONG) for value in different]
    labels: Labels = np.array(meanings, np.int8)[numbers]
    return labels


def _listed(frame: pd.DataFrame) -> str:
    return shorten([str(name) for name in frame.columns], 20)


def _column(frame: pd.DataFrame, wanted: str | None, known: Sequence[str]) -> str | None:
    """The column of a name that was given, else the one that has one of the known names."""
    if wanted is not None:
        return wanted
    return next((name for name in frame.columns if name.strip().lower() in known), None)


def _split(frame: pd.DataFrame, source: str, columns: Columns) -> npt.NDArray[np.str_] | None:
    name = _column(frame, columns.split, ("split",))
    if name is None:
        return None
    numbers, different = pd.factorize(frame[name], use_na_sentinel=False)
    words = [SPLIT_WORDS.get(str(value).strip().lower()) for value in different]
    wrong = np.flatnonzero(np.array([word is None for word in words])[numbers])
    if len(wrong):
        raise InputError(
            f"{source}, row {wrong[0] + 2}: a split is train, valid or test. Received: "
            f"{frame[name].iloc[wrong[0]]!r} in column {name}. Correct the column, or name another "
            "with `split_column`."
        )
    splits: npt.NDArray[np.str_] = np.array(words, np.str_)[numbers]
    return splits


def _labels(
    frame: pd.DataFrame, source: str, target: str, columns: Columns, used: set[str | None]
) -> tuple[tuple[str, ...], Labels]:
    """Names and values of the columns of labels."""
    names, values = [], []
    chosen = columns.labels or _candidates(frame, used)
    left_out = [] if columns.labels else [n for n in frame.columns if n not in {*used, *chosen}]
    for name in chosen:
        found = _values(frame[name])
        wrong = np.flatnonzero(found == _WRONG)
        is_label = columns.labels is not None or name.strip().lower() in _LABEL_COLUMNS
        if len(wrong) and (is_label or 2 * len(wrong) < len(found)):
            raise InputError(
                f"{source}, row {wrong[0] + 2}: a label is 0, 1 or empty (not known). Received: "
                f"{str(frame[name].iloc[wrong[0]]).strip()!r} in column {name}, and "
                f"{len(wrong) - 1:,} more such. "
                "Correct them, or name the columns of labels with `label_columns`."
            )
        if not _are_labels(found):
            left_out.append(name)
            continue
        names.append(name)
        values.append(found)
    _tell_left_out(left_out, source)
    if not names:
        raise InputError(
            f"{source}: no column of 0 and 1. Received: {_listed(frame)}. Name the columns of "
            "labels with `label_columns`."
        )
    if len(names) == 1 and names[0].strip().lower() in _LABEL_COLUMNS:
        names = [target]
    return tuple(names), np.stack(values, axis=1)


def _tell_left_out(names: list[str], source: str) -> None:
    if names:
        log.info("%s: no labels, left out: column %s.", source, shorten(names, 10))


def _labels_of_names(texts: list[str], source: str, column: str) -> tuple[tuple[str, ...], Labels]:
    """Labels of a column that lists each row's positive targets; all others are 0."""
    rows = [
        [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
        if text not in _NO_LABEL
        else []
        for text in texts
    ]
    names = sorted({name for row in rows for name in row})
    if not names:
        raise InputError(f"{source}: column {column} names no target in any row.")
    number = {name: i for i, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), np.int8)
    for i, row in enumerate(rows):
        labels[i, [number[name] for name in row]] = 1
    return tuple(names), labels


def _codes(
    texts: Sequence[str], source: str, row: npt.NDArray[np.int64], window: int | None
) -> Bytes:
    """Base codes (N, L) of sequences."""
    lengths = np.array([len(text) for text in texts])
    length = int(lengths[0]) if window is None else window
    unequal = np.flatnonzero(lengths != length)
    if window is None and len(unequal):
        raise InputError(
            f"{source}: all sequences must have one length. Received: {length} bases in row "
            f"{row[0]}, {lengths[unequal[0]]} in row {row[unequal[0]]}; {lengths.min()} to "
            f"{lengths.max()} in all. Cut them, or give a `window` that each is cut or filled to."
        )
    if length < 1:
        raise InputError(f"{source}, row {row[0]}: no sequence. Name it with `sequence_column`.")
    letters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    wrong = foreign_letters(letters)
    if len(wrong):
        ends = np.cumsum(lengths)
        number = int(np.searchsorted(ends, wrong[0], side="right"))
        place = int(wrong[0] - (ends[number] - lengths[number]))
        raise InputError(
            f"{source}, row {row[number]}: bases are A, C, G, T, U, N and the other IUPAC codes. "
            f"Received: {texts[number][place]!r} at base {place + 1}, {len(wrong):,} such letters "
            "in all. Correct the sequences."
        )
    text = letters.tobytes()
    if (b"U" in text or b"u" in text) and (b"T" in text or b"t" in text):
        uracils = text.count(b"U") + text.count(b"u")
        log.warning("%s: has both T and U: %s U are read as T.", source, f"{uracils:,}")
    codes = encode(letters)
    if window is None or not len(unequal):
        return codes.reshape(len(texts), length)
    log.warning(
        "%s: %d of %d sequences are cut or filled with unknown bases to %d.",
        source,
        len(unequal),
        len(texts),
        length,
    )
    return _fitted(codes, lengths, length)


def _fitted(codes: Bytes, lengths: npt.NDArray[np.int64], length: int) -> Bytes:
    """The middle `length` bases of each sequence; unknown ones on both sides of short ones."""
    rows = np.full((len(lengths), length), UNKNOWN, np.uint8)
    for row, end, size in zip(rows, np.cumsum(lengths), lengths, strict=True):
        whole = codes[end - size : end]
        cut, fill = max(0, size - length) // 2, max(0, length - size) // 2
        row[fill : fill + min(size, length)] = whole[cut : cut + length]
    return rows


def read_fasta(path: Path, target: str, label: int, *, window: int | None = None) -> Labelled:
    """The records of a FASTA file, plain or gzip, each a sequence with the same label.

    Args:
        path: the file.
        target: name of the target.
        label: 0 or 1.
        window: bases to which every sequence is cut or filled; None refuses unequal lengths.

    Raises:
        InputError: it is not FASTA, or has no records, or letters that are no bases.
    """
    with open_bytes(path) as file:
        texts = _records(path, file.read())
    number = np.arange(1, len(texts) + 1)
    empty = [str(i) for i, text in enumerate(texts, 1) if not text]
    if empty:
        raise InputError(
            f"{path}: every record needs a sequence. Received none in record {shorten(empty, 5)}. "
            "Leave those out."
        )
    codes = _codes(texts, str(path), number, window)
    labels = np.full((len(texts), 1), label, np.int8)
    return Labelled(codes, labels, (target,), None, np.full(len(texts), str(path)), number)


def _records(path: Path, content: bytes) -> list[str]:
    """The sequence of each record, without line ends, blanks and comments (`;`)."""
    if not begins_as_fasta(content):
        lines = content.split(maxsplit=1)
        received = lines[0][:20].decode("ascii", "replace") if lines else "an empty file"
        raise InputError(f"{path}: a FASTA file begins with '>'. Received: {received!r}.")
    records: list[list[bytes]] = []
    for line in content.removeprefix(BYTE_ORDER_MARK).splitlines():
        if line.startswith(b">"):
            records.append([])
        elif records and not line.startswith(b";"):
            records[-1].append(line.translate(None, BLANKS))
    return [b"".join(lines).decode("latin-1") for lines in records]


def join(parts: Sequence[Labelled]) -> Labelled:
    """All sequences in one: targets of another part are `UNSAID`.

    Raises:
        InputError: the lengths differ, or only some parts say their split.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.codes.shape[1] != first.codes.shape[1]:
            raise InputError(
                f"All sequences must have one length. Received: {first.codes.shape[1]} bases in "
                f"{first.source[0]}, {part.codes.shape[1]} in {part.source[0]}. Cut them, or give "
                "a `window`."
            )
        if (part.split is None) != (first.split is None):
            said, unsaid = (first, part) if part.split is None else (part, first)
            raise InputError(
                f"{unsaid.source[0]}: no column split, while {said.source[0]} has one. Add the "
                "column, or make datasets of their own."
            )
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    labels = np.full((sum(map(len, parts)), len(names)), UNSAID, np.int8)
    listed = [names.index(name) for part in parts if part.listed for name in part.names]
    begin = 0
    for part in parts:
        rows = labels[begin : begin + len(part)]
        if part.listed:
            rows[:, listed] = 0
        rows[:, [names.index(name) for name in part.names]] = part.labels
        begin += len(part)
    splits = [part.split for part in parts if part.split is not None]
    return Labelled(
        np.concatenate([part.codes for part in parts]),
        labels,
        names,
        np.concatenate(splits) if splits else None,
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.row for part in parts]),
    )
