"""The original stack's initial values, assigned after a network is built."""

import math

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from danq_keras.motifs.files import resolve_motifs
from danq_keras.motifs.kernels import motif_kernels
from danq_keras.recipes.config import ModelConfig
from danq_keras.system.arrays import Doubles, Floats
from danq_keras.system.terminal import log

CONV_LIMIT = 0.05  # Source: Keras 0.2.0's "uniform"


GATES = ("input", "forget", "cell", "output")  # order of the blocks in a Keras 3 LSTM kernel


def assign_initial_weights(model: keras.Model, config: ModelConfig, seed: int) -> None:
    """Give every weight its initial value, the same for the same seed under every backend."""
    rng = np.random.default_rng([seed, 0x1417])
    for layer in model.layers:
        if isinstance(layer, layers.LSTM):
            kernel, recurrent, bias = (weight.shape for weight in layer.weights)
            layer.set_weights(_lstm_weights(rng, kernel[0], recurrent[0], config.recurrent_gain))
        elif isinstance(layer, layers.Conv1D) and config.conv_init == "uniform":
            kernel, bias = (weight.shape for weight in layer.weights)
            layer.set_weights([_uniform(rng, kernel, CONV_LIMIT), np.zeros(bias, np.float32)])
        elif layer.weights:
            kernel, bias = (weight.shape for weight in layer.weights)
            fan = math.prod(kernel[:-2]) * (kernel[-2] + kernel[-1])
            limit = math.sqrt(6 / fan)
            layer.set_weights([_uniform(rng, kernel, limit), np.zeros(bias, np.float32)])
    if config.motif_file is not None:
        _assign_motifs(model, config, seed)


def start_at_prevalences(model: keras.Model, shares: Doubles) -> None:
    """Set the output biases (T,) of a new network to the logits of the targets' prevalences.

    Otherwise every target begins at a probability of one half, and where one label in a hundred is
    positive all gradients say "less" for the first thousand steps. Source: Lin et al. 2017,
    arXiv:1708.02002, section 3.3; docs/recipes.md has what was measured.
    """
    layer = model.get_layer("logits")
    kernel, _ = layer.get_weights()
    layer.set_weights([kernel, np.log(shares / (1 - shares)).astype(np.float32)])


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float) -> Floats:
    values: Floats = rng.random(shape, np.float32)
    values *= 2 * limit
    values -= limit
    return values


def _lstm_weights(
    rng: np.random.Generator, n_in: int, units: int, gain: float
) -> list[npt.NDArray[np.float32]]:
    """Kernel, recurrent kernel and bias, each gate drawn by itself.

    Source: Keras 0.2.0: glorot uniform and orthogonal with gain 1.1 per gate; forget bias 1.
    """
    limit = math.sqrt(6 / (n_in + units))
    kernel = np.concatenate([_uniform(rng, (n_in, units), limit) for _ in GATES], axis=1)
    recurrent = np.concatenate([gain * _orthogonal(rng, units) for _ in GATES], axis=1)
    bias = np.zeros(len(GATES) * units, np.float32)
    bias[units : 2 * units] = 1.0
    return [kernel, recurrent.astype(np.float32), bias]


def _orthogonal(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """A random orthogonal matrix; the signs make it uniform over all of them."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    orthogonal: npt.NDArray[np.float64] = q * np.sign(np.diag(r))
    return orthogonal


def _assign_motifs(model: keras.Model, config: ModelConfig, seed: int) -> None:
    assert config.motif_file is not None
    conv = model.get_layer("conv_1" if config.architecture == "deepsea" else "conv")
    motifs = resolve_motifs(config.motif_file)
    kernel, bias, placement = motif_kernels(motifs, conv.get_weights()[0], seed=seed)
    conv.set_weights([kernel, bias])
    log.info("First-layer kernels from motifs: %s", placement.summary())
