"""Output biases that begin at what the training labels' shares say.

A new network gives every target a probability of about one half. Where one label in a hundred is
positive, the first thousand steps all say "less" to every layer before they can tell windows apart.
With each output bias at the logit of its target's share they need not: docs/recipes.md has what was
measured. Source: Lin et al. 2017, arXiv:1708.02002, section 3.3.
"""

import keras
import numpy as np

from danq_keras.data.store import Split
from danq_keras.genome.dna import unpack_labels
from danq_keras.system.arrays import Doubles
from danq_keras.training.pipeline import Order

_ROWS = 65_536  # of labels unpacked at a time


def prevalences(split: Split, order: Order, columns: list[int] | None = None) -> Doubles:
    """Positive share (T,) float64 of each target's labels that count, never quite 0 or 1.

    A target without positives, or with nothing else, is taken to have half a label of the other.

    Args:
        split: training split of the dataset.
        order: which of its windows are trained on.
        columns: numbers of the dataset's targets that are trained; None for all.
    """
    rows = np.arange(split.n_windows) if order.windows is None else order.windows
    positives, counted = np.zeros((2, split.n_targets), np.int64)
    for begin in range(0, len(rows), _ROWS):
        block = rows[begin : begin + _ROWS]
        packed = np.asarray(split.labels[block])
        ignored = 0
        if split.ignore is not None:
            ignore = np.asarray(split.ignore[block])
            packed = packed & ~ignore
            ignored = unpack_labels(ignore, split.n_targets).sum(axis=0, dtype=np.int64)
        positives += unpack_labels(packed, split.n_targets).sum(axis=0, dtype=np.int64)
        counted += len(block) - ignored
    n = np.maximum(counted, 1)
    shares: Doubles = np.clip(positives, 0.5, n - 0.5) / n
    return shares if columns is None else shares[columns]


def start_at_prevalences(model: keras.Model, shares: Doubles) -> None:
    """Set the output biases (T,) of a new network to the logits of the targets' shares."""
    layer = model.get_layer("logits")
    kernel, _ = layer.get_weights()
    layer.set_weights([kernel, np.log(shares / (1 - shares)).astype(np.float32)])
