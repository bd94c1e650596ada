"""Convolution, activation and max pooling of a training step on a CPU, in fewer passes.

A convolution's outputs are the largest arrays of a network, and TensorFlow goes over them once an
operation: bias, each operation of GELU, pool, and as often in the gradient. Here XLA makes one loop
of what follows the convolution, the activation is computed of the values that the pool may pick
alone, and the gradient writes zeros and the picked places at once. The convolution itself, the
weights and what is saved are Keras'; results differ in rounding (1e-6 of the largest value).

Measured on two cores without AVX-512, batches of 100, windows of 1,000 bases: convolution,
activation and pool with their gradient took 206 to 214 ms in `danq` and take 160, in `danq-fitted`
145 to 157 and take 84.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

LEAST_VALUES = 1_000_000
"""Outputs of a convolution for a batch, below which a second for compiling is not earned back."""


@dataclass(frozen=True)
class PooledConvolution:
    """A convolution layer and the pool that alone reads it."""

    convolution: keras.layers.Conv1D
    pool: keras.layers.MaxPooling1D


def pooled_convolutions(
    model: keras.Model, *, batch_size: int, least_values: int = LEAST_VALUES
) -> tuple[PooledConvolution, ...]:
    """The convolutions of a model that can be computed with their pools, where that pays.

    Args:
        model: functional model; of its layers those in float32 are looked at.
        batch_size: samples of a step.
        least_values: outputs of a convolution for a batch, below which it stays as it is.
    """
    found = []
    for pool in model.layers:
        if not isinstance(pool, keras.layers.MaxPooling1D) or not _is_plain_pool(pool):
            continue
        read = [layer for layer in model.layers if layer.output is pool.input]
        readers = [layer for layer in model.layers if _reads(layer, pool.input)]
        values = batch_size * pool.input.shape[1] * pool.input.shape[2]
        plain = len(read) == len(readers) == 1 and _is_plain_convolution(read[0])
        if plain and values >= least_values:
            found.append(PooledConvolution(read[0], pool))
    return tuple(found)


@contextlib.contextmanager
def in_fewer_passes(pairs: Sequence[PooledConvolution]) -> Iterator[None]:
    """Let these layers, where they are called within, be computed as the module says."""
    for pair in pairs:
        pair.convolution.call = _without_bias(pair.convolution)
        pair.pool.call = _picked(pair)
    try:
        yield
    finally:
        for pair in pairs:
            del pair.convolution.call, pair.pool.call


def _reads(layer: keras.layers.Layer, tensor: keras.KerasTensor) -> bool:
    return any(each is tensor for each in keras.tree.flatten(layer.input))


def _is_plain_pool(pool: keras.layers.MaxPooling1D) -> bool:
    plain = pool.padding == "valid" and pool.data_format == "channels_last"
    return plain and pool.strides == pool.pool_size and pool.compute_dtype == "float32"


def _is_plain_convolution(layer: keras.layers.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.Conv1D)
        and layer.activation in (keras.activations.relu, keras.activations.gelu)
        and layer.use_bias
        and layer.data_format == "channels_last"
        and layer.compute_dtype == "float32"
    )


def _without_bias(layer: keras.layers.Conv1D) -> Callable[..., Any]:
    def call(inputs: Any) -> Any:
        return layer.convolution_op(inputs, layer.kernel)

    return call


def _picked(pair: PooledConvolution) -> Callable[..., Any]:
    (size,) = pair.pool.pool_size
    is_gelu = pair.convolution.activation is keras.activations.gelu
    length, filters = pair.convolution.output.shape[1:]
    n_pools = length // size

    @tf.function(jit_compile=True, autograph=False)
    def extremes(sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The highest sum (B, n, F) of each pool and its place in it; for GELU the lowest too."""
        parts = [sums[:, at : n_pools * size : size] for at in range(size)]
        found = _first_highest(parts)
        return (*found, *_first_highest([-part for part in parts])) if is_gelu else found

    @tf.function(jit_compile=True, autograph=False)
    def pick(
        bias: tf.Tensor, highest: tf.Tensor, place: tf.Tensor, *of_lowest: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """The pooled activations (B, n, F), and the picked sums and their places in each pool."""
        picked = highest + bias
        if not is_gelu:
            return tf.nn.relu(picked), picked, place
        # GELU falls and then rises, so that its highest is that of the highest or the lowest sum.
        lowest = bias - of_lowest[0]
        high, low = _gelu(picked), _gelu(lowest)
        is_low = low > high
        picked, place = tf.where(is_low, lowest, picked), tf.where(is_low, of_lowest[1], place)
        return tf.where(is_low, low, high), picked, place

    @tf.function(jit_compile=True, autograph=False)
    def back(
        picked: tf.Tensor, place: tf.Tensor, upstream: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradients of the sums (B, P, F), and of the picked ones (B, n, F)."""
        slope = _gelu_slope(picked) if is_gelu else tf.cast(picked > 0, tf.float32)
        of_picked = upstream * slope
        is_place = place[:, :, None] == tf.range(size)[:, None]
        spread = tf.where(is_place, of_picked[:, :, None], 0.0)
        spread = tf.reshape(spread, (-1, n_pools * size, filters))
        rest = length - n_pools * size
        return tf.pad(spread, ((0, 0), (0, rest), (0, 0))) if rest else spread, of_picked

    @tf.custom_gradient
    def run(sums: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        pooled, picked, place = pick(bias, *extremes(sums))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_sums, of_picked = back(picked, place, upstream)
            return of_sums, tf.reduce_sum(of_picked, (0, 1))

        return pooled, gradient

    def call(inputs: Any) -> Any:
        return run(inputs, tf.convert_to_tensor(pair.convolution.bias))

    return call


def _first_highest(parts: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The highest of equal arrays at each place, and the number of the first that has it."""
    highest, number = parts[0], tf.zeros_like(parts[0], tf.int32)
    for at, part in enumerate(parts[1:], start=1):
        is_higher = part > highest
        highest, number = tf.where(is_higher, part, highest), tf.where(is_higher, at, number)
    return highest, number


def _normal_share(values: tf.Tensor) -> tf.Tensor:
    return 0.5 * tf.math.erfc(-values * math.sqrt(0.5))


def _gelu(values: tf.Tensor) -> tf.Tensor:
    return values * _normal_share(values)


def _gelu_slope(values: tf.Tensor) -> tf.Tensor:
    density = tf.exp(-0.5 * values * values) / math.sqrt(2 * math.pi)
    return _normal_share(values) + values * density
