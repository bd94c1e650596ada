"""DeepSEA's files, both ways: train.mat, valid.mat, test.mat, `testxdata` files; its 919 targets.

- train.mat: MATLAB 7.3 = HDF5, `trainxdata` (L, 4, N) and `traindata` (T, N) as h5py sees them
- valid.mat, test.mat: MATLAB 5, `validxdata` (N, 4, L) and `validdata` (N, T) as scipy sees them
- prediction files: `testxdata` (N, 4, L), HDF5 or MATLAB 5

Values are uint8 0 and 1, channels A,G,C,T; an unknown base is four zeros. Any of the three splits
may be in either format. Inside, everything is packed rows (see `dna`) and `store.Rows`. Whether the
second half of a file is the reverse complement of its first is `bundle`'s question.

Source: Zhou & Troyanskaya, Nature Methods 12:931, 2015, doi 10.1038/nmeth.3547, and its files.
"""

import contextlib
import csv
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from danq_keras.data.matlab import Advance, MatFile, Place, checked_bits
from danq_keras.data.store_write import Rows
from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.genome.dna import Bytes, pack_onehot
from danq_keras.system.errors import InputError
from danq_keras.system.shipped import resource_path

N_TARGETS = 919
BIN = 200
BIN_ATTRIBUTE = "danq_keras_bin"
TARGETS_FILE = "targets.tsv"
TARGETS_HEADER = ("target", "name", *TARGET_COLUMNS)
PREDICTION_KEY = "testxdata"


def _read_table(path: Path) -> pd.DataFrame:
    """A tab-separated table as text: "None" and "NA" are treatments, not missing values."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8")


def published_aucs() -> pd.DataFrame:
    """The 919 targets with the published AUCs of DeepSEA, DanQ and DanQ-JASPAR.

    Returns:
        919 rows in DeepSEA's order: `target` int64; `cell_type`, `assay`, `treatment`, `group`
        text; six float64 columns `<model>_auroc`, `<model>_auprc`, NaN where not published.

    Source: DanQ's supplementary table; see resources/README.md.
    """
    table = _read_table(resource_path("deepsea_targets.tsv"))
    aucs = [name for name in table.columns if name.endswith(("_auroc", "_auprc"))]
    table[aucs] = table[aucs].replace("NA", "nan").astype(np.float64)
    return table.astype({"target": np.int64})


def numbered_names(stems: list[str]) -> tuple[str, ...]:
    """Unique names: the second one of a kind gets `#2`, the third `#3`, and so on."""
    seen: dict[str, int] = {}
    names = []
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
        names.append(stem if seen[stem] == 1 else f"{stem}#{seen[stem]}")
    return tuple(names)


def deepsea_targets() -> Targets:
    """DeepSEA's 919 targets in its order, named `cell|assay|treatment`, repeated ones numbered."""
    table = published_aucs()
    cell, assay, treatment, group = (tuple(table[column]) for column in TARGET_COLUMNS)
    stems = ["|".join(parts) for parts in zip(cell, assay, treatment, strict=True)]
    return Targets(numbered_names(stems), cell, assay, treatment, group)


def read_targets(path: Path) -> Targets:
    """Read a table of targets that lies beside .mat files.

    Args:
        path: tab-separated, header `target`, `name` and optionally `cell_type`, `assay`,
            `treatment`, `group`; a row a target, numbered from 0 in the order of the labels.

    Raises:
        InputError: not such a table, or a name occurs twice.
    """
    try:
        table = _read_table(path)
    except (ValueError, pd.errors.ParserError) as error:  # UnicodeDecodeError is a ValueError
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a tab-separated table ({reason}).") from error
    missing = [column for column in TARGETS_HEADER[:2] if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}: expected the columns {', '.join(TARGETS_HEADER)}. Missing: "
            f"{', '.join(missing)}."
        )
    if list(table["target"]) != [str(i) for i in range(len(table))]:
        raise InputError(f"{path}: column 'target' must count 0, 1, 2, … in order. Sort the table.")
    columns = [
        tuple(table[name]) if name in table.columns and table[name].any() else ()
        for name in TARGET_COLUMNS
    ]
    try:
        return Targets(tuple(table["name"]), *columns)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_targets(path: Path, targets: Targets) -> None:
    """Write the table that `read_targets` reads."""
    table = pd.DataFrame({"target": range(len(targets)), "name": targets.names})
    for column in TARGET_COLUMNS:
        table[column] = targets.column(column)
    table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_MINIMAL, encoding="utf-8")


def find_targets(folder: Path, n_targets: int) -> Targets:
    """Targets of the .mat files in a folder: its targets.tsv, DeepSEA's 919, or the numbers.

    Raises:
        InputError: targets.tsv has another number of targets than the labels.
    """
    path = folder / TARGETS_FILE
    if path.is_file():
        targets = read_targets(path)
        if len(targets) != n_targets:
            raise InputError(
                f"{path}: {len(targets)} targets for labels of {n_targets}. "
                "Use the table that belongs to these .mat files."
            )
        return targets
    if n_targets == N_TARGETS:
        return deepsea_targets()
    return Targets(tuple(str(i) for i in range(n_targets)))


def sequence_key(split: str) -> str:
    """Name of the sequence variable of a split."""
    return f"{split}xdata"


def labels_key(split: str) -> str:
    """Name of the label variable of a split."""
    return f"{split}data"


@dataclass(frozen=True)
class SplitMat:
    """An open train.mat, valid.mat or test.mat: N rows of L bases and T labels.

    `bin` is in an attribute of the files that we write; DeepSEA's is 200.
    """

    file: MatFile
    split: str
    n_rows: int
    window: int
    n_targets: int
    bin: int

    @property
    def n_bytes(self) -> int:
        """Values of both variables, which are bytes unless the file was converted."""
        return self.n_rows * (4 * self.window + self.n_targets)

    def rows(self, advance: Advance) -> Iterator[Rows]:
        """Packed rows in the file's order.

        Args:
            advance: called with the number of values that have been read.

        Raises:
            InputError: the file is damaged, a value is neither 0 nor 1, or a base has two ones.
        """
        place = Place(self.file.path, sequence_key(self.split))
        sequence = self.file.blocks(place.key, advance)
        labels = self.file.blocks(labels_key(self.split), advance)
        with contextlib.closing(sequence), contextlib.closing(labels):
            begin = 0
            for rows in _side_by_side(sequence, labels):
                _check_bases(rows.sequence, place, begin)
                begin += len(rows.sequence)
                yield rows


def _side_by_side(sequence: Iterator[Bytes], labels: Iterator[Bytes]) -> Iterator[Rows]:
    """Join two streams of blocks, cut at different places, that have the same number of rows."""
    left, right = next(sequence, None), next(labels, None)
    while left is not None and right is not None:
        n = min(len(left), len(right))
        yield Rows(left[:n], right[:n])
        left, right = left[n:], right[n:]
        if not len(left):
            left = next(sequence, None)
        if not len(right):
            right = next(labels, None)


def _check_bases(packed: Bytes, place: Place, first: int) -> None:
    # Two of the four bits of a base are one, two or three places apart (faster than a table).
    one, two, three = packed >> 1 & 0x77, packed >> 2 & 0x33, packed >> 3 & 0x11
    wrong = packed & (one | two | three)
    if wrong.any():
        row, byte = np.unravel_index(int((wrong != 0).argmax()), wrong.shape)
        raise InputError(
            f"{place}: a base must have at most one 1 among its four channels. Received: several "
            f"in row {first + int(row)}, base {2 * int(byte)} or the next. Use the original file."
        )


@contextlib.contextmanager
def open_split_mat(path: Path, split: str, scratch: Path | None = None) -> Iterator[SplitMat]:
    """Open the .mat file of a split, in either MATLAB format.

    Args:
        path: train.mat, valid.mat or test.mat, MATLAB 5 or 7.3.
        split: train, valid or test; it gives the names of the variables.
        scratch: folder for a temporary file, see `MatFile`.

    Raises:
        InputError: truncated, or other keys or axes than DeepSEA's.
    """
    with MatFile(path, scratch) as file:
        names = sequence_key(split), labels_key(split)
        sequence, labels = (file.shape(name) for name in names)
        expected = ("(L, 4, N)", "(T, N)") if file.is_hdf5 else ("(N, 4, L)", "(N, T)")
        order = -1 if file.is_hdf5 else 1  # h5py shows MATLAB's axes backwards
        turned = sequence[::order], labels[::order]
        fits = (
            (len(sequence), len(labels)) == (3, 2)
            and sequence[1] == 4
            and turned[0][0] == turned[1][0]
        )
        if not fits:
            raise InputError(
                f"{path}: expected {names[0]!r} of shape {expected[0]} and {names[1]!r} of shape "
                f"{expected[1]}, received {sequence} and {labels}. Were the axes changed? Use the "
                "original file."
            )
        n_rows, window, n_targets = turned[0][0], turned[0][2], turned[1][1]
        _check_window(Place(path, names[0]), window)
        if not n_targets:
            raise InputError(
                f"{Place(path, names[1])}: at least one target is needed. Received: 0."
            )
        bin_length = int(file.attribute(BIN_ATTRIBUTE) or BIN)
        yield SplitMat(file, split, n_rows, window, n_targets, bin_length)


def _check_window(place: Place, window: int) -> None:
    if not window:
        raise InputError(
            f"{place}: the window length must be positive. Received: {window}. "
            "Write the file again."
        )


def sequences_shape(path: Path) -> tuple[int, int]:
    """Number of rows N and window length L of a prediction file; see `sequence_blocks`.

    Raises:
        InputError: truncated, or another key or shape.
    """
    with MatFile(path) as file:
        return _sequences_shape(file)


def _sequences_shape(file: MatFile) -> tuple[int, int]:
    place = Place(file.path, PREDICTION_KEY)
    shape = file.shape(place.key)
    if len(shape) != 3 or shape[1] != 4:
        raise InputError(
            f"{file.path}: expected {place.key!r} of shape (N, 4, L), received {shape}. Turn the "
            "axes: rows, channels A,G,C,T, positions."
        )
    n_rows, window = (shape[2], shape[0]) if file.samples_last(place.key) else (shape[0], shape[2])
    _check_window(place, window)
    return n_rows, window


def sequence_blocks(path: Path) -> Generator[Bytes, None, None]:
    """Sequences of a prediction file, streamed.

    Args:
        path: HDF5 or MATLAB file with `testxdata` (N, 4, L), 0 and 1, channels A,G,C,T; an HDF5
            file that MATLAB wrote shows (L, 4, N) to h5py.

    Yields:
        packed (n, ceil(L/2)) uint8, in order, N rows in all.

    Raises:
        InputError: truncated, or another key, shape or value.
    """
    with MatFile(path) as file:
        _sequences_shape(file)
        place = Place(path, PREDICTION_KEY)
        begin = 0
        if file.is_hdf5 and not file.samples_last(place.key):
            blocks = _row_major(file, place)
        else:
            blocks = file.blocks(place.key)
        with contextlib.closing(blocks):
            for packed in blocks:
                _check_bases(packed, place, begin)
                begin += len(packed)
                yield packed


def _row_major(file: MatFile, place: Place) -> Generator[Bytes, None, None]:
    begin = 0
    for block in file.row_major_blocks(place.key):
        yield pack_onehot(checked_bits(block, place, first=begin).transpose(0, 2, 1))
        begin += len(block)
