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

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from danq_keras.genome.dna import ALPHABET
from danq_keras.models.initial_weights import assign_initial_weights
from danq_keras.models.layers import RandomDropout, old_hard_sigmoid
from danq_keras.recipes.config import ModelConfig, Rate
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import MODEL_FIELDS, apply_settings
from danq_keras.system.errors import InputError

_CHANNELS = "channels_last"  # said, so that no keras.json of old decides


class _Seeds:
    """Independent seeds for layers, in the order in which they are asked for."""

    def __init__(self, seed: int) -> None:
        self._sequence = np.random.SeedSequence([seed, 0x0D20])

    def next(self) -> int:
        return int(self._sequence.spawn(1)[0].generate_state(1)[0] >> 1)


def build_model(
    preset: str = "danq",
    *,
    window: int | None = None,
    n_targets: int | None = None,
    seed: int = 0,
    precision: str = "float32",
    **settings: Any,
) -> keras.Model:
    """Build the network of a recipe, with its initial values.

    Args:
        preset: name of the recipe, such as "danq", "danq-jaspar" or "deepsea".
        window: bases L of a window; None for the recipe's, 1000 for the published ones.
        n_targets: outputs T; None for the recipe's, 919 for the published ones.
        seed: number from which initial values and dropout masks are drawn.
        precision: dtype policy of the hidden layers: "float32", "mixed_float16" or
            "mixed_bfloat16". Weights, logits and probabilities stay float32.
        **settings: settings of the network that replace the recipe's, such as `gates="hard"`.

    Returns:
        (N, L, 4) one-hot windows, channels A,G,C,T → (N, T) float32 probabilities.

    Raises:
        InputError: there is no such recipe or setting, or the sizes do not fit each other.
    """
    sizes = {"window": window, "n_targets": n_targets}
    settings |= {name: size for name, size in sizes.items() if size is not None}
    unknown = sorted(set(settings) - set(MODEL_FIELDS))
    if unknown:
        raise InputError(
            f"{unknown[0]}: no setting of a network. One of {', '.join(MODEL_FIELDS)}."
        )
    config = apply_settings(get_preset(preset), settings).model
    return build_network(config, seed=seed, precision=precision)


def build_network(
    config: ModelConfig, *, seed: int = 0, precision: str = "float32", initialise: bool = True
) -> keras.Model:
    """Build a network and give it its initial values.

    Args:
        config: sizes, gates, dropout and first kernels of the network.
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
    hidden = layers.Dense(config.dense_units, config.dense_activation, dtype=policy, name="dense")(
        hidden
    )
    logits = layers.Dense(config.n_targets, dtype="float32", name="logits")(hidden)
    outputs = layers.Activation("sigmoid", dtype="float32", name="probability")(logits)
    model = keras.Model(inputs, outputs, name=config.architecture)
    if initialise:
        assign_initial_weights(model, config, seed)
    return model


def logits_model(model: keras.Model) -> keras.Model:
    """The same network, ending at its logits (N, T) float32; weights are shared."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")


def _danq_body(inputs: Any, config: ModelConfig, policy: Any, seeds: _Seeds) -> Any:
    filters = config.filters if isinstance(config.filters, int) else config.filters[0]
    hidden = layers.Conv1D(
        filters,
        config.kernel_size,
        activation=config.conv_activation,
        data_format=_CHANNELS,
        dtype=policy,
        name="conv",
    )(inputs)
    hidden = layers.MaxPooling1D(
        config.pool_size, data_format=_CHANNELS, dtype=policy, name="pool"
    )(hidden)
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
            filters,
            config.kernel_size,
            activation="relu",
            data_format=_CHANNELS,
            dtype=policy,
            name=f"conv_{number}",
        )(hidden)
        if not last:
            hidden = layers.MaxPooling1D(
                config.pool_size, data_format=_CHANNELS, dtype=policy, name=f"pool_{number}"
            )(hidden)
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
