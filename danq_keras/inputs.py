"""What a user gives to be predicted, as a stream of packed windows.

In: a `testxdata` file of the DeepSEA pipeline (HDF5 or MATLAB 5), a split file of a store, or a
dataset folder. Out: `Windows`, whose blocks are packed rows (n, L/2) uint8, in the input's order;
memory does not grow with their number, except that MATLAB 5 variables are read whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras import deepsea, store
from danq_keras.console import InputError
from danq_keras.dna import Bytes

_STORE_ROWS = 1 << 14
_KINDS = "an .h5 or .mat file with 'testxdata', a split file of a dataset, or a dataset folder"
_MATLAB5_ENDIANS = (b"IM", b"MI")  # bytes 126 and 127 of every MATLAB 5 file


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows to predict.

    `n_windows` rows of `window` bases; `both_strands` whether a row stands for its reverse
    complement too; `blocks` streams packed (n, L/2) uint8, `n_windows` rows in all; `chrom` (N,)
    str and `start` (N,) int64, 0-based window starts, are None where unknown; `check` reads what
    has a checksum and compares it.
    """

    path: Path
    n_windows: int
    window: int
    both_strands: bool
    blocks: Callable[[], Iterator[Bytes]]
    check: Callable[[], None]
    chrom: npt.NDArray[np.str_] | None = None
    start: npt.NDArray[np.int64] | None = None


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
        raise InputError(f"--split: for a dataset folder only. Received the file {path}. Leave it.")
    elif not path.exists():
        raise InputError(f"{path}: no such file or folder. Check the path.")
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
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == store.FORMAT)
    except (OSError, RuntimeError):  # damaged: the reader of .mat files says how
        return False


def _is_matlab(path: Path) -> bool:
    """Whether the name or the content is of a MATLAB or HDF5 file, readable or not."""
    if path.suffix.lower() in (".mat", ".h5", ".hdf5") or h5py.is_hdf5(path):
        return True
    with path.open("rb") as handle:
        return handle.read(128)[126:] in _MATLAB5_ENDIANS


def _of_split(split: store.Split) -> Windows:
    def blocks() -> Iterator[Bytes]:
        for begin in range(0, split.n_windows, _STORE_ROWS):
            yield split.sequence[begin : begin + _STORE_ROWS]

    return Windows(
        path=split.path,
        n_windows=split.n_windows,
        window=split.header.window,
        both_strands=split.both_strands,
        blocks=blocks,
        check=split.verify,
        chrom=split.chrom,
        start=split.start,
    )


def _prediction_file(path: Path) -> Windows:
    n_rows, window = deepsea.sequences_shape(path)
    return Windows(
        path=path,
        n_windows=n_rows,
        window=window,
        both_strands=False,  # each row of such a file is a strand
        blocks=lambda: deepsea.sequence_blocks(path),
        check=lambda: None,
    )
