"""What a user gives to be predicted, as a stream of packed windows.

In: a `testxdata` file of the DeepSEA pipeline (HDF5 or MATLAB 5), a split file of a store, or a
dataset folder; `sequence_inputs` adds FASTA and BED. Out: `Windows`, whose blocks are packed rows
(n, ceil(L/2)) uint8, in the input's order; memory does not grow with their number, except that
MATLAB 5 variables are read whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras.data import deepsea, store
from danq_keras.genome.dna import Bytes
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import open_hdf5
from danq_keras.system.inputs import is_pipe, refuse_pipe

Columns: TypeAlias = dict[str, npt.NDArray[Any]]

_STORE_ROWS = 1 << 14
_KINDS = (
    "a FASTA file, a BED file with `genome`, an .h5 or .mat file with 'testxdata', a split file of "
    "a dataset, or a dataset folder"
)
_MATLAB5_ENDIANS = (b"IM", b"MI")  # bytes 126 and 127 of every MATLAB 5 file


def _no_columns(_begin: int, _end: int) -> Columns:
    return {}


def _no_check() -> None:
    """The input has no checksum."""


@dataclass(frozen=True, eq=False)
class Tiling:
    """Windows every `step` bases along named sequences, the first of each at its base 0.

    `lengths`: name → bases; `first_rows` (n + 1,) int64: number of the first window of each
    sequence, and of all windows at the end.
    """

    lengths: Mapping[str, int]
    window: int
    step: int
    first_rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, lengths: Mapping[str, int], *, window: int, step: int) -> "Tiling":
        """All windows that lie inside sequences of these lengths."""
        counts = [max(0, length - window + step) // step for length in lengths.values()]
        return cls(lengths, window, step, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    @property
    def n_windows(self) -> int:
        """Windows of all sequences."""
        return int(self.first_rows[-1])

    def parts(self, begin: int, end: int, *, most: int) -> Iterator[tuple[str, range]]:
        """Rows [begin, end) as names with at most `most` numbers of their windows, in order."""
        names = list(self.lengths)
        while begin < end:
            number = int(np.searchsorted(self.first_rows, begin, "right")) - 1
            first = int(self.first_rows[number])
            last = min(end, begin + most, int(self.first_rows[number + 1]))
            yield names[number], range(begin - first, last - first)
            begin = last

    def columns(self, begin: int, end: int) -> Columns:
        """`chrom`, `start` and `end` of the windows of rows [begin, end)."""
        parts = list(self.parts(begin, end, most=end - begin))
        start = np.concatenate([np.array(numbers, np.int64) for _, numbers in parts]) * self.step
        chrom = np.repeat([name for name, _ in parts], [len(numbers) for _, numbers in parts])
        return {"chrom": chrom, "start": start, "end": start + self.window}

    def covered_from(self, number: int) -> int:
        """First base that the value of a sequence's window `number` stands for."""
        return number * self.step + self.window // 2 - self.step // 2


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows to predict.

    `n_windows` rows of `window` bases; `both_strands` whether a row stands for its reverse
    complement too; `blocks(first)` streams packed (n, ceil(L/2)) uint8 from row `first` on;
    `columns(begin, end)` says where rows come from: `name` (n,) str, or `chrom` (n,) str with
    `start` and `end` (n,) int64, 0-based and half-open, of the windows and, of a BED file's
    features, `name` and `strand` (n,) str, or nothing; `text_bytes` bounds the UTF-8 length of each
    column of text; `check` reads what has a checksum and compares it;
    `tiling` is how the rows lie along sequences, where they do, and `fasta` the file of these that
    other programs can read, where there is one.
    """

    path: Path
    n_windows: int
    window: int
    both_strands: bool
    blocks: Callable[[int], Iterator[Bytes]]
    columns: Callable[[int, int], Columns] = _no_columns
    text_bytes: Mapping[str, int] = field(default_factory=dict)
    check: Callable[[], None] = _no_check
    tiling: Tiling | None = None
    fasta: Path | None = None


def open_windows(path: Path, split: str | None = None) -> Windows:
    """Find out what `path` is and open it.

    Args:
        path: file or dataset folder.
        split: train, valid or test of a dataset folder (None: test); for nothing else.

    Raises:
        InputError: not one of the kinds, not readable, without rows, or a split where none can be
            chosen.
    """
    if path.is_dir():
        windows = _dataset_split(path, split or "test")
    elif split is not None:
        raise InputError(f"`split`: for a dataset folder only. Received the file {path}. Leave it.")
    elif is_pipe(path):
        refuse_pipe(path)
    elif not path.exists():
        raise InputError(f"{path}: no such file or folder. Check the path.")
    elif not path.stat().st_size:
        raise InputError(f"{path}: the file is empty. Give {_KINDS}.")
    elif _is_store(path):
        windows = _of_split(store.open_split(path))
    elif _is_matlab(path):
        windows = _prediction_file(path)
    else:
        raise InputError(f"{path}: this kind of input is not known. Give {_KINDS}.")
    if not windows.n_windows:
        raise InputError(
            f"{windows.path}: there are no rows to predict. Give a file that has some."
        )
    return windows


def _dataset_split(folder: Path, split: str) -> Windows:
    if not store.is_dataset(folder):
        raise InputError(
            f"{folder}: not a dataset folder (train.h5, valid.h5, test.h5). Give {_KINDS}."
        )
    return _of_split(store.open_split(folder / f"{split}.h5"))


def _is_store(path: Path) -> bool:
    with path.open("rb"):  # says why, where h5py would only say no
        pass
    if not h5py.is_hdf5(path):
        return False
    try:
        with open_hdf5(path, "HDF5 file", "Get the file again.") as file:
            return bool(file.attrs.get("format") == store.FORMAT)
    except InputError:  # damaged: the reader of .mat files says how
        return False


def _is_matlab(path: Path) -> bool:
    """Whether the name or the content is of a MATLAB or HDF5 file, readable or not."""
    if path.suffix.lower() in (".mat", ".h5", ".hdf5") or h5py.is_hdf5(path):
        return True
    with path.open("rb") as handle:
        return handle.read(128)[126:] in _MATLAB5_ENDIANS


def _of_split(split: store.Split) -> Windows:
    def blocks(first: int) -> Iterator[Bytes]:
        for begin in range(first, split.n_windows, _STORE_ROWS):
            yield split.sequence[begin : begin + _STORE_ROWS]

    def columns(begin: int, end: int) -> Columns:
        if split.chrom is None or split.start is None:
            return {}
        start = split.start[begin:end].astype(np.int64)
        return {
            "chrom": split.chrom[begin:end],
            "start": start,
            "end": start + split.header.window,
        }

    return Windows(
        path=split.path,
        n_windows=split.n_windows,
        window=split.header.window,
        both_strands=split.both_strands,
        blocks=blocks,
        columns=columns,
        text_bytes={} if split.chrom is None else {"chrom": text_bytes(split.chrom)},
        check=split.verify,
    )


def text_bytes(texts: Iterable[str]) -> int:
    """UTF-8 bytes of the longest of some texts, at least 1."""
    return max(1, *(len(text.encode()) for text in {"", *texts}))


def _prediction_file(path: Path) -> Windows:
    n_rows, window = deepsea.sequences_shape(path)

    def blocks(first: int) -> Iterator[Bytes]:
        end = 0
        for block in deepsea.sequence_blocks(path):
            end += len(block)
            if end > first:  # reading rows again costs little beside predicting them
                yield block[max(0, first - end + len(block)) :]

    return Windows(
        path=path,
        n_windows=n_rows,
        window=window,
        both_strands=False,  # each row of such a file is a strand
        blocks=blocks,
    )
