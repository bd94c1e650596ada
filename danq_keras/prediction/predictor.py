"""Batched prediction, the mean of both strands, and a split's labels beside its probabilities.

In: models that take one-hot (N, L, 4), A,G,C,T; splits of a store. Out: probabilities (N, T)
float32, in the split's order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from danq_keras.data.store import Split
from danq_keras.genome.dna import Bytes, packed_width, unpack_labels
from danq_keras.models.backend import without_tf32
from danq_keras.models.layers import unpack_windows
from danq_keras.models.networks import logits_model
from danq_keras.recipes.config import PROBABILITY_CLIP
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.signals import signals_deferred
from danq_keras.system.terminal import log, progress

STRANDS = ("forward", "both")
_MOST_ROWS = 2048
_CPU_BYTES, _GPU_BYTES = 1 << 28, 1 << 32


def require_probabilities(values: Floats, place: object) -> None:
    """Refuse outputs that are none, as of a network that ends with its logits.

    Raises:
        InputError: one is not in [0, 1], or not finite; it names `place`.
    """
    if not values.size or (values.min() >= 0 and values.max() <= 1):  # false of a NaN
        return
    if not np.isfinite(values).all():
        raise InputError(
            f"{place}: the model's predictions are not finite numbers. Its weights are damaged: "
            "use another model."
        )
    raise InputError(
        f"{place}: the network's outputs are no probabilities: they go from {values.min():g} to "
        f"{values.max():g}. Give one that ends with a sigmoid."
    )


@dataclass(frozen=True, eq=False)
class SplitPrediction:
    """What a network says of a split.

    `probs` (N, T) float32, the mean over strands where the split has both; `labels` (N, T) uint8;
    `ignore` (N, T) uint8 or None; `loss` mean cross-entropy per strand and label that counts.
    """

    probs: Floats
    labels: Bytes
    ignore: Bytes | None
    loss: float


def mean_of_strands(
    packed: tf.Tensor, values: Callable[[tf.Tensor], Any], *, window: int, both: bool
) -> Any:
    """What `values` gives for one-hot windows, or the mean of that and of the other strand's.

    Args:
        packed: (n, ceil(L/2)) uint8 windows.
        values: one-hot (n, L, 4) float32 → a tensor, or a tuple of them.
        window: bases L of a window.
        both: whether the reverse complement counts too.
    """
    onehot = unpack_windows(packed, window)
    if not both:
        return values(onehot)
    each = values(onehot), values(onehot[:, ::-1, ::-1])
    return tf.nest.map_structure(lambda forward, reverse: (forward + reverse) / 2, *each)


class SplitPredictor:
    """Predicts splits with one network; compiled once.

    Args:
        model: network that ends with the layers `logits` and `probability`, or any that gives
            probabilities.
        batch_size: windows that the network gets at once.
        columns: targets of the splits that the network predicts; None for all.
    """

    def __init__(
        self, model: keras.Model, *, batch_size: int, columns: list[int] | None = None
    ) -> None:
        self.batch_size = batch_size
        self.columns = columns
        self._has_logits = any(layer.name == "logits" for layer in model.layers)
        self._network = logits_model(model) if self._has_logits else model
        self._compiled: dict[tuple[int, bool, bool], Any] = {}

    def _step(self, window: int, both: bool, labels: Bytes, masked: bool) -> Any:
        """From packed windows, labels and what counts to strand-mean probabilities and the loss.

        Compiled once for batches of every size; the network's graph serves both strands.
        """
        n_targets = labels.shape[1]
        if (window, both, masked) not in self._compiled:
            each = tf.TensorSpec((None, n_targets), tf.float32)
            onehots = tf.TensorSpec((None, window, 4), tf.float32)
            counted = each if masked else tf.TensorSpec((), tf.float32)
            packed = tf.TensorSpec((None, packed_width(window)), tf.uint8)

            @tf.function(input_signature=(onehots, each, counted), autograph=False)
            def values(onehot: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor) -> Any:
                probs, loss = self._probabilities(onehot, labels)
                return probs, tf.reduce_sum(loss * valid)

            @tf.function(input_signature=(packed, each, counted), autograph=False)
            def step(packed: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor) -> Any:
                def strand(onehot: tf.Tensor) -> Any:
                    return values(onehot, labels, valid)

                return mean_of_strands(packed, strand, window=window, both=both)

            self._compiled[window, both, masked] = step
        return self._compiled[window, both, masked]

    def _probabilities(self, onehot: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = tf.cast(self._network(onehot, training=False), tf.float32)
        if self._has_logits:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs)
            return tf.sigmoid(outputs), loss
        clipped = tf.clip_by_value(outputs, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
        return outputs, -labels * tf.math.log(clipped) - (1 - labels) * tf.math.log1p(-clipped)

    def __call__(self, split: Split, *, desc: str) -> SplitPrediction:
        """Predict every window of a split, in order, with a progress bar."""
        n_targets = split.n_targets
        labels = unpack_labels(split.labels, n_targets)
        ignore = None if split.ignore is None else unpack_labels(split.ignore, n_targets)
        if self.columns is not None:
            labels = labels[:, self.columns]
            ignore = None if ignore is None else ignore[:, self.columns]
        probs = np.empty(labels.shape, np.float32)
        total = 0.0
        window = split.header.window
        step = self._step(window, split.both_strands, labels, ignore is not None)
        with progress(total=split.n_windows, desc=desc, unit="windows") as bar:
            for begin in range(0, split.n_windows, self.batch_size):
                rows = slice(begin, begin + self.batch_size)
                batch = tf.constant(labels[rows], tf.float32)
                valid = (
                    tf.ones((), tf.float32)
                    if ignore is None
                    else tf.constant(1 - ignore[rows], tf.float32)
                )
                probs[rows], loss = step(tf.constant(split.sequence[rows]), batch, valid)
                total += float(loss)
                bar.update(len(batch))
        if not self._has_logits:  # else a sigmoid made them
            require_probabilities(probs, desc)
        n_counted = labels.size if ignore is None else int(labels.size - ignore.sum())
        return SplitPrediction(probs, labels, ignore, total / max(1, n_counted))


def automatic_batch_size(network: keras.Model) -> int:
    """Windows at once, a power of two, whose layer outputs fit a share of the device's memory."""
    window = network.input_shape[1] or 1000
    values = 0
    for layer in network.layers:
        shapes = tf.nest.flatten(getattr(layer, "output", []))
        values += sum(math.prod(size or window for size in s.shape[1:]) for s in shapes)
    budget = _GPU_BYTES if tf.config.list_physical_devices("GPU") else _CPU_BYTES
    most = max(1, budget // max(1, 4 * values))
    return int(min(_MOST_ROWS, 1 << (most.bit_length() - 1)))


def predictor_of(
    network: keras.Model, *, window: int, strands: str, batch_size: int | None = None
) -> "Predictor":
    """The `Predictor` of a network, made at the first call: each compiles a graph of its own.

    It is kept with the network, under a name that Keras does not look at when it saves.
    """
    kept = network.__dict__.setdefault("__danq_predictors", {})
    key = window, strands, batch_size
    if key not in kept:
        kept[key] = Predictor(network, window=window, strands=strands, batch_size=batch_size)
    found: Predictor = kept[key]
    return found


class Predictor:
    """Values of packed windows from one network; compiled once.

    Args:
        network: one-hot (N, L, 4), A,G,C,T → probabilities (N, T), or other values (N, K).
        window: bases L of a window.
        strands: "forward": the rows as they are; "both": the mean of the values of a row and of its
            reverse complement.
        batch_size: windows at once; None for what fits the device, which is halved where its
            memory does not suffice.
    """

    def __init__(
        self, network: keras.Model, *, window: int, strands: str, batch_size: int | None = None
    ) -> None:
        if strands not in STRANDS:
            raise InputError(f"`strands`: one of {', '.join(STRANDS)}. Received: {strands!r}.")
        self._network = network
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
            raise InputError(f"`batch_size`: a whole number from 1 on. Received: {batch_size!r}.")
        self._window = window
        self._both = strands == "both"
        self._automatic = batch_size is None
        self.batch_size = batch_size or automatic_batch_size(network)
        signature = tf.TensorSpec((None, packed_width(window)), tf.uint8)
        onehot = tf.TensorSpec((None, window, 4), tf.float32)
        self._values = tf.function(self._outputs, input_signature=[onehot], autograph=False)
        self._step = tf.function(self._predict, input_signature=[signature], autograph=False)

    def _predict(self, packed: tf.Tensor) -> tf.Tensor:
        return mean_of_strands(packed, self._values, window=self._window, both=self._both)

    def _outputs(self, onehot: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._network(onehot, training=False), tf.float32)

    def __call__(self, packed: Bytes) -> Floats:
        """Values (n, K) float32 of packed rows (n, ceil(L/2)), in batches.

        Raises:
            InputError: the device has no memory for a batch of the size that was asked for.
        """
        while self._automatic and self.batch_size > 1:
            try:
                return self._in_batches(packed, self._unguarded)
            except tf.errors.ResourceExhaustedError:
                self.batch_size //= 2
                log.info("No memory for so many windows at once: now %d.", self.batch_size)
        return self._in_batches(packed, self.at_once)

    def at_once(self, packed: Bytes) -> Floats:
        """Values (n, K) float32 of packed rows (n, ceil(L/2)), in a single batch.

        Raises:
            InputError: the device has no memory for so many rows.
        """
        try:
            return self._unguarded(packed)
        except tf.errors.ResourceExhaustedError as error:
            raise InputError(
                f"`batch_size`: no memory for {len(packed)} windows at once. Make it smaller."
            ) from error

    def _unguarded(self, packed: Bytes) -> Floats:
        """In float32 without TF32; no memory for so many rows raises TensorFlow's error."""
        # Deferred: TensorFlow makes other errors of a stop that comes while it traces.
        with without_tf32(), signals_deferred():
            return np.asarray(self._step(tf.constant(packed)).numpy(), np.float32)

    def _in_batches(self, packed: Bytes, predict: Callable[[Bytes], Floats]) -> Floats:
        size = self.batch_size
        parts = [predict(packed[at : at + size]) for at in range(0, len(packed), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
