"""A training step by Keras' own `train_on_batch`, for timing under its other backends."""

from collections.abc import Callable
from typing import Any

import keras

from danq_keras.genome.dna import onehot_from_codes
from danq_keras.models.networks import build_network
from danq_keras.recipes.config import Preset


def make_step(preset: Preset, sequence: Any, labels: Any) -> Callable[[], float]:
    """A function that takes one optimizer step on a batch and returns its loss.

    Args:
        preset: network, precision, RMSprop's numbers.
        sequence: (B, L) uint8 codes.
        labels: (B, T) float32, 0 or 1, the labels of the windows.
    """
    model = build_network(preset.model, precision=preset.train.precision)
    optimizer = keras.optimizers.RMSprop(
        preset.train.learning_rate,
        rho=preset.train.rho or 0.9,
        epsilon=preset.train.epsilon or 1e-7,
    )
    model.compile(optimizer, "binary_crossentropy", jit_compile="auto")
    onehot = onehot_from_codes(sequence).astype("float32")
    return lambda: float(model.train_on_batch(onehot, labels))
