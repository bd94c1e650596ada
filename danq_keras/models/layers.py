"""Layers that Keras does not have: hard gates, random dropout, unpacking of rows."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from danq_keras.genome.dna import ALPHABET


@keras.saving.register_keras_serializable("danq_keras")
def old_hard_sigmoid(x: Any) -> Any:
    """The gate of the old stack, clip(0.2 x + 0.5, 0, 1). Source: Keras 0.2.0, Theano 0.8.2."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable("danq_keras")
class RandomDropout(layers.Layer):
    """Dropout whose rate is drawn uniformly from [low, high] anew for every training step.

    Args:
        low: smallest rate, a share of the units in [0, 1).
        high: largest rate; each step draws one between both.
        inverted: scale by 1 / (1 - rate) in training; otherwise by the mean of 1 - rate at test.
        seed: of the rates and the masks.
        **options: what every Keras layer takes, such as `name` and `dtype`.
    """

    def __init__(
        self, low: float, high: float, *, inverted: bool, seed: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.low, self.high, self.inverted, self.seed = low, high, inverted, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop parts of `inputs` of any shape when training."""
        if not training:
            return inputs if self.inverted else inputs * (1.0 - (self.low + self.high) / 2.0)
        rate = keras.random.uniform((), self.low, self.high, seed=self.seed_generator)
        draws = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator)
        kept = ops.cast(draws >= rate, inputs.dtype) * inputs
        return kept / ops.cast(1.0 - rate, inputs.dtype) if self.inverted else kept

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "low": self.low,
            "high": self.high,
            "inverted": self.inverted,
            "seed": self.seed,
        }


def unpack(packed: Any, length: int, dtype: str = "float32") -> Any:
    """Bits of packed rows as numbers, inside the graph.

    Args:
        packed: (N, B) uint8, `np.packbits` order.
        length: number of bits wanted, at most 8 B.
        dtype: number type of the result, such as "float32".

    Returns:
        (N, length) zeros and ones.
    """
    shifts = ops.convert_to_tensor(np.arange(7, -1, -1, dtype=np.uint8))
    bits = ops.bitwise_and(ops.right_shift(ops.expand_dims(packed, -1), shifts), np.uint8(1))
    return ops.cast(ops.reshape(bits, (-1, packed.shape[1] * 8))[:, :length], dtype)


def unpack_windows(packed: Any, length: int, dtype: str = "float32") -> Any:
    """One-hot windows (N, L, 4), A,G,C,T, of packed rows (N, ceil(L/2)), inside the graph."""
    return ops.reshape(unpack(packed, length * 4, dtype), (-1, length, len(ALPHABET)))
