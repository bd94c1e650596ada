"""How rare positives are among the labels of a split; light."""

import numpy as np
import numpy.typing as npt

from danq_keras.data.store import Split
from danq_keras.genome.dna import unpack_labels
from danq_keras.system.arrays import Doubles

_ROWS = 65_536  # of labels unpacked at a time


def prevalences(
    split: Split, windows: npt.NDArray[np.int64] | None = None, columns: list[int] | None = None
) -> Doubles:
    """Positive share (T,) float64 of each target's labels that count, never quite 0 or 1.

    A target without positives, or with nothing else, is taken to have half a label of the other.

    Args:
        split: split of a dataset, N windows.
        windows: (n,) numbers of the windows that are counted; None for all.
        columns: numbers of the targets that are counted; None for all.
    """
    rows = np.arange(split.n_windows) if windows is None else windows
    positives, counted = np.zeros((2, split.n_targets), np.int64)
    for begin in range(0, len(rows), _ROWS):
        block = rows[begin : begin + _ROWS]
        packed = np.asarray(split.labels[block])
        counted += len(block)
        if split.ignore is not None:
            ignore = np.asarray(split.ignore[block])
            packed = packed & ~ignore
            counted -= unpack_labels(ignore, split.n_targets).sum(axis=0, dtype=np.int64)
        positives += unpack_labels(packed, split.n_targets).sum(axis=0, dtype=np.int64)
    n = np.maximum(counted, 1)
    shares: Doubles = np.clip(positives, 0.5, n - 0.5) / n
    return shares if columns is None else shares[columns]
