"""ModelConfig → keras.Model: DanQ, DanQ-JASPAR, BioQ, random dropout, and DeepSEA's network.

In: one-hot windows (N, L, 4), channels A,G,C,T. Out: probabilities (N, T) float32, behind a layer
of logits. Models are functional, channels last, every layer named; only Keras layers and
`keras.ops` are used, so the same code builds under Keras' other backends. The layers carry
built-in initializers; the original's values are assigned after building (`initial_weights`), so
that a saved file of the usual presets holds nothing but built-in objects.

Two LSTM layers stand where one Bidirectional could: in the original each direction draws its own
dropout mask of the pooled convolution.

Source: Quang & Xie 2016 and its scripts under Keras 0.2.0; Zhou & Troyanskaya 2015.
"""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from danq_keras.genome.dna import ALPHABET
from danq_keras.motifs.files import motif_kernels, resolve_motifs
from danq_keras.recipes.presets import ModelConfig, Rate
from danq_keras.system.command import log

Floats = npt.NDArray[np.float32]

CONV_LIMIT = 0.05  # Source: Keras 0.2.0's "uniform"
GATES = ("input", "forget", "cell", "output")  # order of the blocks in a Keras 3 LSTM kernel


@keras.saving.register_keras_serializable("danq_keras")
def old_hard_sigmoid(x: Any) -> Any:
    """The gate of the old stack, clip(0.2 x + 0.5, 0, 1). Source: Keras 0.2.0, Theano 0.8.2."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable("danq_keras")
class RandomDropout(layers.Layer):
    """Dropout whose rate is drawn uniformly from [low, high] anew for every training step.

    Args:
        low: smallest rate.
        high: largest rate.
        inverted: scale by 1 / (1 - rate) in training; otherwise by the mean of 1 - rate at test.
        seed: of the rates and the masks.
        **options: name and dtype.
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


class _Seeds:
    """Independent seeds for layers, in the order in which they are asked for."""

    def __init__(self, seed: int) -> None:
        self._sequence = np.random.SeedSequence([seed, 0x0D20])

    def next(self) -> int:
        return int(self._sequence.spawn(1)[0].generate_state(1)[0] >> 1)


def unpack(packed: Any, length: int, dtype: str = "float32") -> Any:
    """Bits of packed rows as numbers, inside the graph.

    Args:
        packed: (N, B) uint8, `np.packbits` order.
        length: number of bits wanted, at most 8 B.
        dtype: of the result.

    Returns:
        (N, length) zeros and ones.
    """
    shifts = ops.convert_to_tensor(np.arange(7, -1, -1, dtype=np.uint8))
    bits = ops.bitwise_and(ops.right_shift(ops.expand_dims(packed, -1), shifts), np.uint8(1))
    return ops.cast(ops.reshape(bits, (-1, packed.shape[1] * 8))[:, :length], dtype)


def unpack_windows(packed: Any, dtype: str = "float32") -> Any:
    """One-hot windows (N, L, 4), A,G,C,T, of packed rows (N, L/2), inside the graph."""
    length = packed.shape[1] * 2
    return ops.reshape(unpack(packed, length * 4, dtype), (-1, length, len(ALPHABET)))


def build_model(
    config: ModelConfig, *, seed: int = 0, precision: str = "float32", initialise: bool = True
) -> keras.Model:
    """Build a network and give it its initial values.

    Args:
        config: the network.
        seed: of initial values and dropout.
        precision: dtype policy of the hidden layers: float32, mixed_float16 or mixed_bfloat16.
            Weights, logits and probabilities stay float32.
        initialise: False leaves Keras' default values, for a model whose weights are loaded next.

    Returns:
        (N, L, 4) one-hot A,G,C,T → (N, T) float32 probabilities.

    Raises:
        InputError: the motif file is unreadable or holds more motifs than there are kernels.
    """
    policy = keras.DTypePolicy(precision)
    inputs = keras.Input((config.window, len(ALPHABET)), name="onehot")
    body = _deepsea_body if config.architecture == "deepsea" else _danq_body
    hidden = body(inputs, config, policy, _Seeds(seed))
    hidden = layers.Flatten(dtype=policy, name="flatten")(hidden)
    hidden = layers.Dense(config.dense_units, "relu", dtype=policy, name="dense")(hidden)
    logits = layers.Dense(config.n_targets, dtype="float32", name="logits")(hidden)
    outputs = layers.Activation("sigmoid", dtype="float32", name="probability")(logits)
    model = keras.Model(inputs, outputs, name=config.architecture)
    if initialise:
        assign_initial_weights(model, config, seed)
    return model


def logits_model(model: keras.Model) -> keras.Model:
    """The same network, ending at its logits (N, T) float32; weights are shared."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")


def save_model(model: keras.Model, path: Path) -> None:
    """Write a .keras file, whole or not at all, in place of an earlier one."""
    # Keras wants the ending .keras, so the temporary name is not atomic_output's.
    temporary = path.with_name(f".partial-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _danq_body(inputs: Any, config: ModelConfig, policy: Any, seeds: _Seeds) -> Any:
    filters = config.filters if isinstance(config.filters, int) else config.filters[0]
    hidden = layers.Conv1D(
        filters, config.kernel_size, activation="relu", dtype=policy, name="conv"
    )(inputs)
    hidden = layers.MaxPooling1D(config.pool_size, dtype=policy, name="pool")(hidden)
    # Source: the old stack evaluates the dropout once for each direction.
    names = ("forward", "backward") if config.dropout_kind == "classic" else ("",)
    dropped = [
        _dropout(hidden, config.dropout_pool, config, policy=policy, seeds=seeds, name=name)
        for name in (f"dropout_pool_{name}".rstrip("_") for name in names)
    ]
    for number in range(config.lstm_layers):
        suffix = "" if number == 0 else f"_{number + 1}"
        hidden = _blstm(dropped, config, policy=policy, seeds=seeds, suffix=suffix)
        dropped = [hidden]
    return _dropout(
        hidden, config.dropout_lstm, config, policy=policy, seeds=seeds, name="dropout_lstm"
    )


def _blstm(
    inputs: list[Any], config: ModelConfig, *, policy: Any, seeds: _Seeds, suffix: str
) -> Any:
    """Two LSTM layers that return sequences in reading order, side by side.

    `inputs`: one for each direction, or one for both.
    """
    options: dict[str, Any] = {
        "recurrent_activation": old_hard_sigmoid if config.gates == "hard" else "sigmoid",
        "return_sequences": True,
        "dtype": policy,
    }
    # The seeds are not used, as nothing is dropped inside; unset they differ from run to run.
    ahead = layers.LSTM(
        config.lstm_units, name=f"lstm_forward{suffix}", seed=seeds.next(), **options
    )(inputs[0])
    back = layers.LSTM(
        config.lstm_units,
        go_backwards=config.wrapper == "time",
        name=f"lstm_backward{suffix}",
        seed=seeds.next(),
        **options,
    )(inputs[-1])
    if config.wrapper == "time":
        back = ops.flip(back, axis=1)
    return layers.Concatenate(dtype=policy, name=f"blstm{suffix}")([ahead, back])


def _deepsea_body(inputs: Any, config: ModelConfig, policy: Any, seeds: _Seeds) -> Any:
    assert isinstance(config.filters, tuple)
    hidden = inputs
    for number, filters in enumerate(config.filters, start=1):
        last = number == len(config.filters)
        hidden = layers.Conv1D(
            filters, config.kernel_size, activation="relu", dtype=policy, name=f"conv_{number}"
        )(hidden)
        if not last:
            hidden = layers.MaxPooling1D(config.pool_size, dtype=policy, name=f"pool_{number}")(
                hidden
            )
        rate = config.dropout_lstm if last else config.dropout_pool
        name = f"dropout_{number}"
        hidden = _dropout(hidden, rate, config, policy=policy, seeds=seeds, name=name)
    return hidden


def _dropout(
    hidden: Any, rate: Rate, config: ModelConfig, *, policy: Any, seeds: _Seeds, name: str
) -> Any:
    """Dropout of the configured kind.

    Classic dropout is Dropout(p) followed by Rescaling(1 - p): × mask in training, × (1 - p) at
    test, so no weight ever needs scaling.
    """
    seed = seeds.next()
    inverted = config.dropout_kind == "inverted"
    if isinstance(rate, tuple) and config.dropout_redraw == "run":
        rate = float(np.random.default_rng(seed).uniform(*rate))
    if isinstance(rate, tuple):
        low, high = rate
        return RandomDropout(low, high, inverted=inverted, seed=seed, dtype=policy, name=name)(
            hidden
        )
    hidden = layers.Dropout(rate, seed=seed, dtype=policy, name=name)(hidden)
    if not inverted:
        hidden = layers.Rescaling(1.0 - rate, dtype=policy, name=f"{name}_scale")(hidden)
    return hidden


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
