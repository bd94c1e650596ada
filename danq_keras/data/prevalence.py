"""How rare positives are among the labels of a split; light."""

import numpy as np
import numpy.typing as npt

from danq_keras.data.store import Split, label_blocks
from danq_keras.genome.dna import unpack_labels
from danq_keras.system.arrays import Doubles


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
    positives, counted = np.zeros((2, split.n_targets), np.int64)
    for labels, ignore in label_blocks(split, windows):
        counted += len(labels)
        if ignore is not None:
            labels = labels & ~ignore
            counted -= unpack_labels(ignore, split.n_targets).sum(axis=0, dtype=np.int64)
        positives += unpack_labels(labels, split.n_targets).sum(axis=0, dtype=np.int64)
    n = np.maximum(counted, 1)
    shares: Doubles = np.clip(positives, 0.5, n - 0.5) / n
    return shares if columns is None else shares[columns]
