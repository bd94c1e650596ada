"""The first layer's kernels: where in which windows each is most active.

In: a network whose first layer is a convolution with relu or gelu (whose positive part counts), and
packed windows. Out: for each kernel the number of sites and the counts of bases under it. A kernel
has one site in each sequence in which its highest activation is above zero: the bases under it
there, at the first such position. A row that stands for both strands is two sequences. Windows
stream through; memory does not grow with them.

Source: Quang & Xie, NAR 44(11):e107, 2016, after Alipanahi et al., Nature Biotechnology 33:831,
2015.
"""

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from danq_keras.genome.dna import (
    UNKNOWN,
    Bytes,
    packed_width,
    reverse_complement,
    unpack_codes,
)
from danq_keras.models.backend import without_tf32
from danq_keras.models.layers import unpack_windows
from danq_keras.models.trained import TrainedModel
from danq_keras.system.errors import InputError

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KernelSites:
    """What stood under each of F kernels of width K.

    `counts` (F, K, 4) int64 of bases A,G,C,T, unknown ones in none; `n_sites` (F,) int64;
    `n_sequences` that were read.
    """

    counts: Integers
    n_sites: Integers
    n_sequences: int


def first_convolution(model: TrainedModel) -> layers.Conv1D:
    """The network's first layer.

    Raises:
        InputError: it is not a convolution of the bases with step 1, followed by relu or gelu.
    """
    rule = "motifs are read from a first layer that is a convolution of step 1 with relu or gelu"
    advice = "Choose another model."
    built = [one for one in model.network.layers if not isinstance(one, layers.InputLayer)]
    first = built[0]
    if not isinstance(first, layers.Conv1D):
        raise InputError(
            f"{model.path}: {rule}. Received: {type(first).__name__} {first.name!r}. {advice}"
        )
    following = built[1] if first.activation is keras.activations.linear else first
    is_relu = isinstance(following, layers.ReLU) or (
        getattr(following, "activation", None) in (keras.activations.relu, keras.activations.gelu)
        and isinstance(following, (layers.Conv1D, layers.Activation))
    )
    if not is_relu:
        raise InputError(
            f"{model.path}: {rule}. Received: {first.name!r} without relu or gelu. {advice}"
        )
    if (first.strides, first.dilation_rate, first.groups) != ((1,), (1,), 1):
        raise InputError(
            f"{model.path}: {rule}. Received: strides {first.strides[0]}, dilation "
            f"{first.dilation_rate[0]}, groups {first.groups}. {advice}"
        )
    return first


class KernelScanner:
    """Collects the sites of the first layer's kernels; compiled once.

    Kernels stay wholly inside the window, whatever the layer's padding.

    Args:
        conv: first layer of the network, see `first_convolution`.
        window: L, at least the width of the kernels.
        both_strands: each row is two sequences, itself and its reverse complement.
    """

    def __init__(self, conv: layers.Conv1D, *, window: int, both_strands: bool) -> None:
        self._kernel = tf.constant(conv.kernel.numpy(), tf.float32)
        self._bias = tf.constant(conv.bias.numpy() if conv.use_bias else 0.0, tf.float32)
        self._window, self._both = window, both_strands
        self._width, _, n_kernels = self._kernel.shape
        self._counts = np.zeros((n_kernels, self._width, UNKNOWN + 1), np.int64)
        self._n_sites = np.zeros(n_kernels, np.int64)
        self._n_sequences = 0
        signature = tf.TensorSpec((None, packed_width(window)), tf.uint8)
        self._step = tf.function(self._peaks, input_signature=[signature], autograph=False)

    def _peaks(self, packed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Position (n, F) of each kernel's highest activation, and whether it is above zero."""
        onehot = unpack_windows(packed, self._window)
        active = tf.nn.conv1d(onehot, self._kernel, stride=1, padding="VALID")
        active = tf.nn.relu(active + self._bias)
        return tf.argmax(active, axis=1), tf.reduce_max(active, axis=1) > 0

    def add(self, packed: Bytes) -> None:
        """Scan packed rows (n, ceil(L/2))."""
        strands = [packed, reverse_complement(packed, self._window)] if self._both else [packed]
        for rows in strands:
            with without_tf32():
                position, active = (part.numpy() for part in self._step(tf.constant(rows)))
            self._count(unpack_codes(rows, self._window), position, active)

    def _count(self, codes: Bytes, position: Integers, active: npt.NDArray[np.bool_]) -> None:
        sequence, kernel = np.nonzero(active)
        under = position[sequence, kernel][:, None] + np.arange(self._width)
        bases = codes[sequence[:, None], under].astype(np.int64)
        cell = (kernel[:, None] * self._width + np.arange(self._width)) * (UNKNOWN + 1) + bases
        counted = np.bincount(cell.ravel(), minlength=self._counts.size)
        self._counts += counted.reshape(self._counts.shape)
        self._n_sites += active.sum(axis=0)
        self._n_sequences += len(codes)

    def result(self) -> KernelSites:
        """The sites of all rows so far."""
        return KernelSites(self._counts[..., :UNKNOWN], self._n_sites, self._n_sequences)
