"""Weight files of Keras 0.2.0 ↔ models of ours, and the old stack's forward pass in NumPy.

In: HDF5 written by `model.save_weights`: root attribute `nb_layers`, groups `layer_k` with
attribute `nb_params` and float32 datasets `param_j`. Out: a `keras.Model` with the old gates
(hard), classic dropout and flipped kernels, so that its predictions are those of the old stack.

The channel order A,G,C,T, time-major flattening with forward units first, and the layout of the
24 arrays of the bidirectional layer are those of the published scripts.

Source: Keras 0.2.0 and Theano 0.8.2, read and run; the golden file in tests/data holds its numbers.
"""

import dataclasses
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt

from danq_keras.models.layers import old_hard_sigmoid
from danq_keras.models.networks import build_network
from danq_keras.recipes.config import ModelConfig
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LAYERS = {"danq": (10, (0, 3, 6, 8)), "danq-jaspar": (8, (0, 3, 6, 7))}
"""Preset → number of layers and the positions of convolution, BLSTM, dense, output."""

_OLD_GATES = "icfo"  # order of the arrays in the file: input, cell, forget, output
_NEW_GATES = "ifco"  # order of the blocks in a Keras 3 kernel
_DIRECTIONS = ("forward", "backward")
_PARTS = ("W", "U", "b")


def array_names() -> tuple[tuple[str, ...], ...]:
    """The names of the arrays of convolution, BLSTM, dense and output, in the file's order."""
    lstm = tuple(
        f"{direction}.{part}_{gate}"
        for direction in _DIRECTIONS
        for gate in _OLD_GATES
        for part in _PARTS
    )
    return ("conv.W", "conv.b"), lstm, ("dense.W", "dense.b"), ("output.W", "output.b")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network, as its arrays tell them."""

    filters: int
    kernel_size: int
    lstm_units: int
    dense_units: int
    n_targets: int
    steps: int


def read_old_weights(path: Path, preset: str) -> dict[str, Array]:
    """Read a weight file by name; every array is consumed.

    Args:
        path: HDF5 file of `save_weights`.
        preset: "danq" (10 layers) or "danq-jaspar" (8 layers).

    Returns:
        Name (see `array_names`) → float32 array in the old layout.

    Raises:
        InputError: not such a file, an array is missing, extra, misshapen or not finite.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file. Check the path.")
    # By its content too, as a .keras is a zip archive under any name.
    if path.suffix == ".keras" or path.name.endswith(".weights.h5") or zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: this is a file of today's Keras. The importer reads weights saved by Keras "
            "0.2.0; a .keras file is used as it is by every command."
        )
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file, preset)
    except (OSError, KeyError, RuntimeError) as error:  # h5py has all three for damaged files
        raise InputError(
            f"{path}: not a readable HDF5 file ({str(error).splitlines()[0]}). Give the .hdf5 "
            "that the old stack saved."
        ) from error


def _read(path: Path, file: h5py.File, preset: str) -> dict[str, Array]:
    if "nb_layers" not in file.attrs:
        modern = "layers" in file or "_layer_checkpoint_dependencies" in file
        later = "layer_names" in file.attrs or "model_weights" in file
        hint = " It looks like a .weights.h5 of today's Keras." if modern else ""
        hint = " It looks like a file of Keras 1 or 2." if later else hint
        raise InputError(
            f"{path}: a weight file of Keras 0.2.0 has the attribute 'nb_layers'; this one has "
            f"not.{hint} Give the .hdf5 that the old stack saved."
        )
    n_layers, places = LAYERS[preset]
    found = str(file.attrs["nb_layers"])
    if found != str(n_layers):
        others = [name for name, (n, _) in LAYERS.items() if found == str(n)]
        hint = f" Try --preset {others[0]}." if others else ""
        raise InputError(f"{path}: expected {n_layers} layers ({preset}), received {found}.{hint}")
    expected = dict(zip(places, array_names(), strict=True))
    arrays: dict[str, Array] = {}
    for number in range(n_layers):
        group = file.get(f"layer_{number}")
        if not isinstance(group, h5py.Group):
            raise InputError(
                f"{path}: the group 'layer_{number}' is missing. Is the file complete?"
            )
        arrays |= _read_layer(path, group, expected.get(number, ()))
    extra = sorted(set(file) - {f"layer_{number}" for number in range(n_layers)})
    if extra:
        raise InputError(f"{path}: unexpected group {extra[0]!r}. Is it a file of another network?")
    return arrays


def _read_layer(path: Path, group: h5py.Group, names: tuple[str, ...]) -> dict[str, Array]:
    """The arrays of a layer, which must be those of `names` and no others."""
    layer = group.name.lstrip("/")
    wanted = [f"param_{i}" for i in range(len(names))]
    if set(group) != set(wanted):
        odd = sorted(set(group) ^ set(wanted))
        raise InputError(
            f"{path}: {layer}: expected {len(wanted)} arrays, received {len(group)}; missing or "
            f"extra: {', '.join(odd[:4])}. Is it a file of another network?"
        )
    arrays: dict[str, Array] = {}
    for name, param in zip(names, wanted, strict=True):
        stored = group[param]
        if not isinstance(stored, h5py.Dataset) or stored.dtype.kind != "f" or not stored.size:
            raise InputError(
                f"{path}: {layer}/{param} ({name}): expected an array of floating-point numbers, "
                f"received {stored!r}. Is it a file of another network?"
            )
        arrays[name] = np.asarray(stored, np.float32)
    return arrays


def check_arrays(arrays: dict[str, Array], path: Path) -> Sizes:
    """The sizes that the arrays agree on.

    Raises:
        InputError: the first array whose shape does not fit the others, or with a value that is
            not finite; named with expected and received shape.
    """
    for name in ("conv.W", "forward.W_i", "dense.W", "output.W"):
        expected = "(filters, 4, width, 1)" if name == "conv.W" else "(in, out)"
        if arrays[name].ndim != expected.count(",") + 1:
            raise InputError(
                f"{path}: {name}: expected shape {expected}, received {arrays[name].shape}. Is it "
                "a file of another network?"
            )
    filters, channels, width, last = arrays["conv.W"].shape
    if (channels, last) != (4, 1):
        raise InputError(
            f"{path}: conv.W: expected shape (filters, 4, width, 1), received "
            f"{arrays['conv.W'].shape}. Is it a file of another network?"
        )
    units = arrays["forward.W_i"].shape[1]
    flat, dense = arrays["dense.W"].shape
    steps, rest = divmod(flat, 2 * units)
    if rest:
        raise InputError(
            f"{path}: dense.W: expected a multiple of {2 * units} rows (two directions of {units} "
            f"units), received shape {arrays['dense.W'].shape}. Is it a file of another network?"
        )
    sizes = Sizes(filters, width, units, dense, arrays["output.W"].shape[1], steps)
    for name, shape in _shapes(sizes):
        if arrays[name].shape != shape:
            raise InputError(
                f"{path}: {name}: expected shape {shape}, received {arrays[name].shape}. Is it a "
                "file of another network?"
            )
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values. Copy the file anew.")
    return sizes


def _shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    conv, lstm, _, _ = array_names()
    yield conv[0], (sizes.filters, 4, sizes.kernel_size, 1)
    yield conv[1], (sizes.filters,)
    inside = {"W": (sizes.filters, sizes.lstm_units), "U": (sizes.lstm_units,) * 2}
    for name in lstm:
        yield name, inside.get(name.split(".")[1][0], (sizes.lstm_units,))
    yield "dense.W", (sizes.steps * 2 * sizes.lstm_units, sizes.dense_units)
    yield "dense.b", (sizes.dense_units,)
    yield "output.W", (sizes.dense_units, sizes.n_targets)
    yield "output.b", (sizes.n_targets,)


def config_of(sizes: Sizes, base: ModelConfig, *, wrapper: str, path: Path) -> ModelConfig:
    """The network that old weights belong to: the preset with the file's sizes, hard gates.

    Raises:
        InputError: window and pool of `base` do not give the number of steps that the dense
            layer's rows mean.
    """
    config = dataclasses.replace(
        base,
        filters=sizes.filters,
        kernel_size=sizes.kernel_size,
        lstm_units=sizes.lstm_units,
        dense_units=sizes.dense_units,
        n_targets=sizes.n_targets,
        gates="hard",
        dropout_kind="classic",
        wrapper=wrapper,
        motif_file=None,
    )
    if config.pooled_length() != sizes.steps:
        raise InputError(
            f"{path}: dense.W means {sizes.steps} pooled positions; a window of {config.window} "
            f"and a pool of {config.pool_size} give {config.pooled_length()}. Give --window or "
            "--pool-size."
        )
    return config


def model_from_old(arrays: dict[str, Array], config: ModelConfig) -> keras.Model:
    """A model of ours with old weights; transpositions and orders are all here."""
    model = build_network(config, initialise=False)
    kernel = arrays["conv.W"][:, :, ::-1, 0].transpose(2, 1, 0)  # Theano flips kernels
    model.get_layer("conv").set_weights([kernel, arrays["conv.b"]])
    for direction in _DIRECTIONS:
        weights = [
            np.concatenate([arrays[f"{direction}.{part}_{gate}"] for gate in _NEW_GATES], axis=-1)
            for part in _PARTS
        ]
        model.get_layer(f"lstm_{direction}").set_weights(weights)
    model.get_layer("dense").set_weights([arrays["dense.W"], arrays["dense.b"]])
    model.get_layer("logits").set_weights([arrays["output.W"], arrays["output.b"]])
    return model


def check_exportable(model: keras.Model, path: Path) -> None:
    """Whether the old stack could hold a model.

    Raises:
        InputError: another network, gates other than the old ones, or inverted dropout.
    """
    names = {layer.name: layer for layer in model.layers}
    missing = {"conv", "lstm_forward", "lstm_backward", "dense", "logits"} - set(names)
    if missing or "lstm_forward_2" in names:
        raise InputError(
            f"{path}: only DanQ and DanQ-JASPAR fit the old layout. Export one of these."
        )
    gate = names["lstm_forward"].recurrent_activation
    if gate is not old_hard_sigmoid:
        raise InputError(
            f"{path}: the old stack knows only hard gates; this model has "
            f"{getattr(gate, '__name__', gate)}. Train with --set gates=hard."
        )
    scales = [names.get(name) for name in ("dropout_pool_forward_scale", "dropout_lstm_scale")]
    kept = [None if scale is None else round(1 - scale.scale, 6) for scale in scales]
    if kept != [0.2, 0.5]:
        raise InputError(
            f"{path}: the old stack's DanQ has classic dropout of 0.2 and 0.5. Train with --set "
            "dropout_kind=classic dropout_pool=0.2 dropout_lstm=0.5."
        )


def old_from_model(model: keras.Model) -> dict[str, Array]:
    """The weights of a model of ours in the old layout: the inverse of `model_from_old`."""
    weights = {
        name: model.get_layer(name).get_weights()
        for name in ("conv", "lstm_forward", "lstm_backward", "dense", "logits")
    }
    kernel, bias = weights["conv"]
    arrays = {"conv.W": kernel.transpose(2, 1, 0)[:, :, ::-1, None], "conv.b": bias}
    for direction in _DIRECTIONS:
        for part, fused in zip(_PARTS, weights[f"lstm_{direction}"], strict=True):
            for gate, block in zip(_NEW_GATES, np.split(fused, 4, axis=-1), strict=True):
                arrays[f"{direction}.{part}_{gate}"] = block
    arrays["dense.W"], arrays["dense.b"] = weights["dense"]
    arrays["output.W"], arrays["output.b"] = weights["logits"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def write_old_weights(
    path: Path, arrays: dict[str, Array], preset: str, *, overwrite: bool = False
) -> None:
    """Write a weight file that Keras 0.2.0's `load_weights` reads.

    Raises:
        InputError: the file exists and may not be overwritten.
    """
    n_layers, places = LAYERS[preset]
    named = dict(zip(places, array_names(), strict=True))
    with atomic_output(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["nb_layers"] = n_layers
        for number in range(n_layers):
            group = file.create_group(f"layer_{number}")
            names = named.get(number, ())
            group.attrs["nb_params"] = len(names)
            for i, name in enumerate(names):
                group.create_dataset(f"param_{i}", data=arrays[name])


def forward_float64(
    arrays: dict[str, Array],
    onehot: npt.NDArray[Any],
    *,
    pool_size: int,
    wrapper: str = "time",
    keep: tuple[float, float] = (0.8, 0.5),
) -> Doubles:
    """The old stack's prediction, written out in NumPy from the arrays of the file.

    Nothing of Keras is used, so that an error in `model_from_old` or in a layer shows.

    Args:
        arrays: in the old layout.
        onehot: (N, L, 4), channels A,G,C,T.
        pool_size: of the max-pooling.
        wrapper: "time" or "seya".
        keep: what the two dropouts multiply with at test.

    Returns:
        (N, T) float64 probabilities.
    """
    old = {name: array.astype(np.float64) for name, array in arrays.items()}
    kernel = old["conv.W"][:, :, :, 0]
    width = kernel.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.asarray(onehot, np.float64), width, axis=1
    )
    # True convolution: base i + j meets the kernel's column width - 1 - j.
    flat = np.ascontiguousarray(windows[..., ::-1]).reshape(*windows.shape[:2], -1)
    conv = flat @ kernel.reshape(len(kernel), -1).T + old["conv.b"]
    steps = conv.shape[1] // pool_size
    conv = conv[:, : steps * pool_size].reshape(len(conv), steps, pool_size, -1)
    pooled = np.maximum(conv.max(axis=2), 0.0) * keep[0]
    forward = _lstm_float64(old, "forward", pooled)
    if wrapper == "time":
        backward = _lstm_float64(old, "backward", pooled[:, ::-1])[:, ::-1]
    else:
        backward = _lstm_float64(old, "backward", pooled)
    hidden = np.concatenate([forward, backward], axis=2).reshape(len(pooled), -1) * keep[1]
    hidden = np.maximum(hidden @ old["dense.W"] + old["dense.b"], 0.0)
    probabilities: Doubles = 1 / (1 + np.exp(-(hidden @ old["output.W"] + old["output.b"])))
    return probabilities


def _lstm_float64(old: dict[str, Doubles], direction: str, inputs: Doubles) -> Doubles:
    """An LSTM with the old hard gates; returns the whole sequence (N, steps, units)."""

    def gate(name: str, x: Doubles, state: Doubles) -> Doubles:
        own = {part: old[f"{direction}.{part}_{name}"] for part in _PARTS}
        total: Doubles = x @ own["W"] + state @ own["U"] + own["b"]
        return total

    def hard(x: Doubles) -> Doubles:
        clipped: Doubles = np.clip(0.2 * x + 0.5, 0.0, 1.0)
        return clipped

    units = old[f"{direction}.b_i"].shape[0]
    state, cell = np.zeros((len(inputs), units)), np.zeros((len(inputs), units))
    outputs = np.empty((len(inputs), inputs.shape[1], units))
    for step in range(inputs.shape[1]):
        x = inputs[:, step]
        i, f, o = (hard(gate(name, x, state)) for name in "ifo")
        cell = f * cell + i * np.tanh(gate("c", x, state))
        state = o * np.tanh(cell)
        outputs[:, step] = state
    return outputs
