"""Store → tf.data: an exactly shuffled, addressable order of samples, both strands, packed rows.

A sample is a strand: sample i of N windows with both strands is window i % N, reverse complement
when i >= N. The order of epoch e is a pure function of (seed, e) and of the windows that come
again in it: an exact permutation of all samples, so that a step is an address and training can be
continued anywhere.

Out: batches of packed sequence (B, ceil(L/2)) uint8, packed labels (B, ceil(T/8)) uint8 and, where
the store has them, packed ignore bits; unpacking happens on the device (`models.unpack`), which
moves 32 times fewer bytes than float32 one-hot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.data.store import Split
from danq_keras.genome.dna import Bytes, packed_width, reverse_complement
from danq_keras.system.errors import InputError

Integers = npt.NDArray[np.int64]

_FLOAT_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Order:
    """Which samples of a split are seen, and in which order.

    Args:
        windows: (n,) int64 rows of the split; None for all of its `n_windows`.
        n_windows: rows of the split.
        strands: 2 when each row stands for its reverse complement too, else 1.
        seed: number from which, with the epoch's, each permutation is drawn.
        again: (k,) int64 numbers below the chosen windows' count: those that come twice, with all
            their strands; None for none.
        replace: whether they take the place of as many others, drawn by (seed, epoch).
    """

    n_windows: int
    strands: int
    seed: int
    windows: Integers | None = None
    again: Integers | None = None
    replace: bool = False

    @classmethod
    def of(
        cls, split: Split, *, seed: int, limit: int | None = None, data_seed: int = 0
    ) -> "Order":
        """The order over a split, or over `limit` of its windows chosen by `data_seed`.

        Raises:
            InputError: the split has fewer windows than `limit`, or none.
        """
        if split.n_windows == 0:
            raise InputError(f"{split.path}: no windows to train on. Check how it was built.")
        windows = None
        if limit is not None:
            if limit > split.n_windows:
                raise InputError(
                    f"`train_limit={limit}`: {split.path} has only {split.n_windows} windows. "
                    "Give a smaller number or leave it out."
                )
            windows = split.draw(limit, data_seed)
        return cls(split.n_windows, 2 if split.both_strands else 1, seed, windows)

    @property
    def n_samples(self) -> int:
        """Different samples: every strand of every window."""
        return self.strands * (self.n_windows if self.windows is None else len(self.windows))

    @property
    def n_again(self) -> int:
        """Samples that come a second time in an epoch."""
        return 0 if self.again is None else self.strands * len(self.again)

    @property
    def epoch_samples(self) -> int:
        """Samples in an epoch, each as often as it comes."""
        return self.n_samples + (0 if self.replace else self.n_again)

    def permutation(self, epoch: int) -> Integers:
        """(epoch_samples,) sample numbers in the order of `epoch`."""
        rng = np.random.default_rng([self.seed, epoch])
        samples = np.arange(self.n_samples, dtype=np.int64)
        if self.again is not None:
            again = samples.reshape(self.strands, -1)[:, self.again].ravel()
            if self.replace:
                others = rng.permutation(np.delete(samples, again))
                samples = np.concatenate([again, others[: self.n_samples - 2 * len(again)]])
            samples = np.concatenate([samples, again])
        rng.shuffle(samples)
        return samples

    def rows(self, samples: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Split rows of sample numbers, and which of them are reverse complements."""
        reverse = samples >= self.n_samples // self.strands
        rows = samples - reverse * (self.n_samples // self.strands)
        return (rows if self.windows is None else self.windows[rows]), reverse

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.epoch_samples // batch_size)


def read_batch(split: Split, order: Order, samples: Integers) -> tuple[Bytes, ...]:
    """Packed sequence, labels and (where the split has it) ignore bits of some samples."""
    rows, reverse = order.rows(samples)
    sequence = split.sequence.take(rows, axis=0)
    if reverse.any():
        sequence[reverse] = reverse_complement(sequence[reverse], split.header.window)
    labels = split.labels.take(rows, axis=0)
    if split.ignore is None:
        return sequence, labels
    return sequence, labels, split.ignore.take(rows, axis=0)


def epoch_batches(
    split: Split,
    order: Order,
    epoch: int,
    *,
    batch_size: int,
    first_step: int = 0,
    replicas: int = 1,
    local: range | None = None,
    unpacked: bool = False,
) -> tf.data.Dataset:
    """The batches of one epoch from `first_step` on, prefetched.

    Args:
        split: open split of a dataset, from which rows are read.
        order: which samples in which order.
        epoch: 0-based number of the epoch.
        batch_size: samples of a step, over all replicas.
        first_step: 0-based step to begin with.
        replicas: parts that the batch of each step is dealt out in, evenly, an element each.
        local: which of these parts come, those of this machine; None for all.
        unpacked: give the sequence as float32 one-hot (B, L, 4) instead of packed.

    Returns:
        Elements (sequence, labels[, ignore]), see the module's head.
    """
    permutation = order.permutation(epoch)
    width = split.header.window
    mine = range(replicas) if local is None else local

    def load(address: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.generic], ...]:
        step, number = divmod(int(address), len(mine))
        batch = permutation[step * batch_size : (step + 1) * batch_size]
        if replicas > 1:
            batch = np.array_split(batch, replicas)[mine[number]]
        sequence, *rest = read_batch(split, order, batch)
        if unpacked:
            bits = np.take(_FLOAT_BITS, sequence, axis=0)
            onehot = bits.reshape(len(sequence), -1, 4)[:, :width]
            return onehot, *rest
        return sequence, *rest

    n_parts = 2 if split.ignore is None else 3
    kinds = [tf.float32 if unpacked else tf.uint8] + [tf.uint8] * (n_parts - 1)
    sequence_shape = (width, 4) if unpacked else (packed_width(width),)
    shapes: Sequence[tuple[int, ...]] = [sequence_shape, *[split.labels.shape[1:]] * (n_parts - 1)]

    @tf.autograph.experimental.do_not_convert  # it reads sources, which may have changed
    def load_tensors(address: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(load, [address], kinds, stateful=False)
        for part, shape in zip(parts, shapes, strict=True):
            part.set_shape((None, *shape))
        return tuple(parts)

    addresses = tf.data.Dataset.range(first_step * len(mine), order.steps(batch_size) * len(mine))
    return addresses.map(load_tensors, num_parallel_calls=2, deterministic=True).prefetch(8)
