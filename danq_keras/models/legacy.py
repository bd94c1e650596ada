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

import h5py
import keras
import numpy as np

from danq_keras.genome import dna
from danq_keras.models.backend import without_tf32
from danq_keras.models.float64 import PARTS, forward_float64
from danq_keras.models.layers import old_hard_sigmoid
from danq_keras.models.networks import build_network
from danq_keras.models.trained import (
    TargetNames,
    TrainedModel,
    describe_network,
    named_targets,
    numbered_targets,
)
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import get_preset
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.hdf5 import new_hdf5, open_hdf5, read_array, reason_of
from danq_keras.system.inputs import refuse_pipe

LAYERS = {"danq": (10, (0, 3, 6, 8)), "danq-jaspar": (8, (0, 3, 6, 7))}
"""Preset → number of layers and the positions of convolution, BLSTM, dense, output."""

CHECK_WINDOWS = 4
TOLERANCE = 1e-5  # a network that differs more from the float64 forward pass is refused

_OLD_GATES = "icfo"  # order of the arrays in the file: input, cell, forget, output
_NEW_GATES = "ifco"  # order of the blocks in a Keras 3 kernel
_DIRECTIONS = ("forward", "backward")


def import_weights(
    path: PathLike,
    preset: str,
    *,
    wrapper: str = "time",
    window: int | None = None,
    pool_size: int | None = None,
    targets: TargetNames | None = None,
) -> TrainedModel:
    """The network of a weight file of the original stack, with the same predictions.

    Its predictions for random windows are compared with a forward pass in NumPy float64.

    Args:
        path: the .hdf5 that Keras 0.2.0's `save_weights` wrote.
        preset: the network whose layers the file numbers, "danq" or "danq-jaspar".
        wrapper: what the bidirectional wrapper reversed: "time", or "seya", the first published
            form of the wrapper, which reversed the batch, so that both LSTMs read forward.
        window: bases that the network reads; None for the preset's 1000.
        pool_size: positions that the max-pooling joins; None for the preset's.
        targets: names of the outputs, see `models.trained.load_model`; None for numbers.

    Returns:
        The network; `.save("danq.keras")` keeps it.

    Raises:
        InputError: the file is of another network, or the predictions differ.
    """
    model, difference = convert_weights(
        path, preset, wrapper=wrapper, window=window, pool_size=pool_size, targets=targets
    )
    require_agreement(model, difference)
    return model


def convert_weights(
    path: PathLike,
    preset: str,
    *,
    wrapper: str,
    window: int | None,
    pool_size: int | None,
    targets: TargetNames | None,
) -> tuple[TrainedModel, float]:
    """The network of a weight file, and its largest difference from float64, still unjudged.

    Arguments and errors are those of `import_weights`.
    """
    source = Path(path)
    arrays = read_old_weights(source, preset)
    sizes = check_arrays(arrays, source)
    usual = get_preset(preset).model
    # At once, as the preset's own kernel may not fit into a short window.
    base = dataclasses.replace(
        usual,
        window=usual.window if window is None else window,
        kernel_size=sizes.kernel_size,
        pool_size=usual.pool_size if pool_size is None else pool_size,
    )
    config = config_of(sizes, base, wrapper=wrapper, path=source)
    names = None if targets is None else named_targets(targets, config.n_targets, source)
    network = model_from_old(arrays, config)
    about = describe_network(config, names, preset=preset)
    model = TrainedModel(network, names or numbered_targets(config.n_targets), source, about)
    return model, largest_difference(network, arrays, config)


def require_agreement(model: TrainedModel, difference: float) -> None:
    """Refuse an imported network whose predictions are not those of NumPy.

    Raises:
        InputError: they differ by more than the tolerance.
    """
    if not difference <= TOLERANCE:
        raise InputError(
            f"{model.path}: the imported model differs from the float64 forward pass by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}; nothing is written. Are these weights "
            "of this network?"
        )


def export_weights(
    model: TrainedModel, out: PathLike, preset: str, *, overwrite: bool = False
) -> None:
    """Write the weights of a DanQ with hard gates and classic dropout for the original stack.

    Args:
        model: a trained DanQ or DanQ-JASPAR.
        out: .hdf5 file to write, which Keras 0.2.0's `load_weights` reads.
        preset: the network whose layers the file numbers, "danq" or "danq-jaspar".
        overwrite: whether a file there is replaced.

    Raises:
        InputError: the old stack has no such network, or `out` exists.
    """
    check_exportable(model.network, model.path)
    write_old_weights(Path(out), old_from_model(model.network), preset, overwrite=overwrite)


def largest_difference(model: keras.Model, arrays: dict[str, Floats], config: ModelConfig) -> float:
    """Largest difference of a network's predictions from NumPy's, on random windows."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (CHECK_WINDOWS, config.window), dtype=np.uint8)
    both = np.concatenate([codes, dna.reverse_complement_codes(codes)])
    onehot = dna.onehot_from_codes(both).astype(np.float32)
    with without_tf32():
        ours = model.predict(onehot, verbose=0)
    theirs = forward_float64(arrays, onehot, pool_size=config.pool_size, wrapper=config.wrapper)
    return float(np.abs(ours - theirs).max())


def array_names() -> tuple[tuple[str, ...], ...]:
    """The names of the arrays of convolution, BLSTM, dense and output, in the file's order."""
    lstm = tuple(
        f"{direction}.{part}_{gate}"
        for direction in _DIRECTIONS
        for gate in _OLD_GATES
        for part in PARTS
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


def read_old_weights(path: Path, preset: str) -> dict[str, Floats]:
    """Read a weight file by name; every array is consumed.

    Args:
        path: HDF5 file of `save_weights`.
        preset: "danq" (10 layers) or "danq-jaspar" (8 layers).

    Returns:
        Name (see `array_names`) → float32 array in the old layout.

    Raises:
        InputError: not such a file, an array is missing, extra, misshapen or not finite.
    """
    refuse_pipe(path)
    if not path.exists():
        raise InputError(f"{path}: no such file. Check the path.")
    # By its content too, as a .keras is a zip archive under any name.
    if path.suffix == ".keras" or path.name.endswith(".weights.h5") or zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: this is a file of today's Keras. The importer reads weights saved by Keras "
            "0.2.0; a .keras file is used as it is by every command."
        )
    with open_hdf5(path, "HDF5 file", "Give the .hdf5 that the old stack saved.") as file:
        return _read(path, file, preset)


def _read(path: Path, file: h5py.File, preset: str) -> dict[str, Floats]:
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
    found = reason_of(file.attrs["nb_layers"])
    if found != str(n_layers):
        others = [name for name, (n, _) in LAYERS.items() if found == str(n)]
        hint = f" Try `preset={others[0]}`." if others else ""
        raise InputError(f"{path}: expected {n_layers} layers ({preset}), received {found}.{hint}")
    expected = dict(zip(places, array_names(), strict=True))
    arrays: dict[str, Floats] = {}
    for number in range(n_layers):
        name = f"layer_{number}"
        linked = isinstance(file.get(name, getlink=True), h5py.ExternalLink)
        group = None if linked else file.get(name)
        if not isinstance(group, h5py.Group):
            raise InputError(
                f"{path}: the group 'layer_{number}' is missing. Is the file complete?"
            )
        arrays |= _read_layer(path, group, expected.get(number, ()))
    extra = sorted(set(file) - {f"layer_{number}" for number in range(n_layers)})
    if extra:
        raise InputError(
            f"{path}: unexpected group {extra[0][:80]!r}. Is it a file of another network?"
        )
    return arrays


def _read_layer(path: Path, group: h5py.Group, names: tuple[str, ...]) -> dict[str, Floats]:
    """The arrays of a layer, which must be those of `names` and no others."""
    layer = group.name.lstrip("/")
    wanted = [f"param_{i}" for i in range(len(names))]
    if set(group) != set(wanted):
        odd = sorted(set(group) ^ set(wanted))
        raise InputError(
            f"{path}: {layer}: expected {len(wanted)} arrays, received {len(group)}; missing or "
            f"extra: {reason_of(', '.join(odd[:4]))}. Is it a file of another network?"
        )
    arrays: dict[str, Floats] = {}
    for name, param in zip(names, wanted, strict=True):
        stored = group.get(param)
        if not isinstance(stored, h5py.Dataset) or stored.dtype.kind != "f" or not stored.size:
            raise InputError(
                f"{path}: {layer}/{param} ({name}): expected an array of floating-point numbers, "
                f"received {stored!r}. Is it a file of another network?"
            )
        arrays[name] = read_array(group, param, kinds="f").astype(np.float32)
    return arrays


def check_arrays(arrays: dict[str, Floats], path: Path) -> Sizes:
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
            f"and a pool of {config.pool_size} give {config.pooled_length()}. Give `window` "
            "or `pool_size`."
        )
    return config


def model_from_old(arrays: dict[str, Floats], config: ModelConfig) -> keras.Model:
    """A model of ours with old weights; transpositions and orders are all here."""
    model = build_network(config, initialise=False)
    kernel = arrays["conv.W"][:, :, ::-1, 0].transpose(2, 1, 0)  # Theano flips kernels
    model.get_layer("conv").set_weights([kernel, arrays["conv.b"]])
    for direction in _DIRECTIONS:
        weights = [
            np.concatenate([arrays[f"{direction}.{part}_{gate}"] for gate in _NEW_GATES], axis=-1)
            for part in PARTS
        ]
        model.get_layer(f"lstm_{direction}").set_weights(weights)
    model.get_layer("dense").set_weights([arrays["dense.W"], arrays["dense.b"]])
    model.get_layer("logits").set_weights([arrays["output.W"], arrays["output.b"]])
    return model


def check_exportable(model: keras.Model, path: Path) -> None:
    """Whether the old stack could hold a model.

    Raises:
        InputError: another network, other gates or activations than the old ones, or inverted
            dropout.
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
            f"{getattr(gate, '__name__', gate)}. Train with gates=hard."
        )
    for name in ("conv", "dense"):
        if names[name].activation is not keras.activations.relu:
            raise InputError(
                f"{path}: the old stack's DanQ has relu after {name}. Train with "
                f"{name}_activation=relu."
            )
    scales = [names.get(name) for name in ("dropout_pool_forward_scale", "dropout_lstm_scale")]
    kept = [None if scale is None else round(1 - scale.scale, 6) for scale in scales]
    if kept != [0.2, 0.5]:
        raise InputError(
            f"{path}: the old stack's DanQ has classic dropout of 0.2 and 0.5. Train with "
            "dropout_kind=classic dropout_pool=0.2 dropout_lstm=0.5."
        )


def old_from_model(model: keras.Model) -> dict[str, Floats]:
    """The weights of a model of ours in the old layout: the inverse of `model_from_old`."""
    weights = {
        name: model.get_layer(name).get_weights()
        for name in ("conv", "lstm_forward", "lstm_backward", "dense", "logits")
    }
    kernel, bias = weights["conv"]
    arrays = {"conv.W": kernel.transpose(2, 1, 0)[:, :, ::-1, None], "conv.b": bias}
    for direction in _DIRECTIONS:
        for part, fused in zip(PARTS, weights[f"lstm_{direction}"], strict=True):
            for gate, block in zip(_NEW_GATES, np.split(fused, 4, axis=-1), strict=True):
                arrays[f"{direction}.{part}_{gate}"] = block
    arrays["dense.W"], arrays["dense.b"] = weights["dense"]
    arrays["output.W"], arrays["output.b"] = weights["logits"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def write_old_weights(
    path: Path, arrays: dict[str, Floats], preset: str, *, overwrite: bool = False
) -> None:
    """Write a weight file that Keras 0.2.0's `load_weights` reads.

    Raises:
        InputError: the file exists and may not be overwritten.
    """
    n_layers, places = LAYERS[preset]
    named = dict(zip(places, array_names(), strict=True))
    with atomic_output(path, overwrite=overwrite) as temporary, new_hdf5(temporary) as file:
        file.attrs["nb_layers"] = n_layers
        for number in range(n_layers):
            group = file.create_group(f"layer_{number}")
            names = named.get(number, ())
            group.attrs["nb_params"] = len(names)
            for i, name in enumerate(names):
                group.create_dataset(f"param_{i}", data=arrays[name])
