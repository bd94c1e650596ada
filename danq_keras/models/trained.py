"""Networks from disk with the names of their targets, their fingerprints, and ensembles."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.targets import Targets
from danq_keras.system.errors import InputError

N_DEEPSEA = 919


_HALF = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network from disk with the names of its targets; `config` is its run's, or empty."""

    network: keras.Model
    targets: Targets
    path: Path
    config: dict[str, Any]


def load_model(path: Path) -> TrainedModel:
    """Open a run folder or a .keras file; a network of mixed precision then works in float32.

    Raises:
        InputError: nothing readable is there, or it does not map (N, L, 4) to (N, T).
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        runs = sorted(model.parent for model in path.glob("*/model.keras"))
        if runs:
            raise InputError(
                f"{path}: a folder of runs, not a run. Give one of those in it, such as {runs[0]}."
            )
        raise InputError(f"{file}: no such model. Give a run folder or a .keras file.")
    try:
        network = keras.saving.load_model(file, compile=False)
    except (ValueError, OSError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: not a readable Keras model ({reason}).") from error
    shapes = network.input_shape, network.output_shape
    if [len(shape) for shape in shapes] != [3, 2] or network.input_shape[2] != 4:
        raise InputError(
            f"{file}: a model maps (N, L, 4) to (N, T). Received: {network.input_shape} to "
            f"{network.output_shape}."
        )
    for layer in network._flatten_layers():  # cells of LSTMs too
        if layer.compute_dtype in _HALF:
            layer.dtype_policy = "float32"
    config_path = file.parent / "config.json"
    config = _read_config(config_path) if config_path.is_file() else {}
    return TrainedModel(network, _target_names(network.output_shape[1], config), path, config)


def window_of(model: TrainedModel) -> int:
    """Window length L of a network.

    Raises:
        InputError: it takes any length, and no run says which.
    """
    length = model.network.input_shape[1] or model.config.get("model", {}).get("window")
    if length is None:
        raise InputError(
            f"{model.path}: takes windows of any length, so none can be cut for it. Give the "
            "windows in an .h5 file with 'testxdata', or a model with a fixed length."
        )
    return int(length)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}). Restore or remove it.") from error
    return config if isinstance(config, dict) else {}


def _target_names(n_targets: int, config: dict[str, Any]) -> Targets:
    names = config.get("targets")
    if isinstance(names, list) and len(names) == n_targets:
        return Targets(tuple(names))
    if n_targets == N_DEEPSEA:
        return deepsea_targets()
    return Targets(tuple(str(number) for number in range(n_targets)))


def embedding_model(model: TrainedModel) -> keras.Model:
    """The network up to the units (N, U) of its layer `dense`.

    Raises:
        InputError: it has no such layer.
    """
    names = [layer.name for layer in model.network.layers]
    if "dense" not in names:
        raise InputError(
            f"{model.path}: --output embedding gives the layer 'dense'. Received a model with the "
            f"layers {', '.join(names)}. Use a DanQ model."
        )
    return keras.Model(model.network.input, model.network.get_layer("dense").output)


def check_ensemble(models: Sequence[TrainedModel]) -> list[list[int]]:
    """For each model, the numbers of its targets in the order of the first one's.

    Raises:
        InputError: the models differ in window length or in their targets' names.
    """
    first = models[0]
    orders = []
    for model in models:
        lengths = first.network.input_shape[1], model.network.input_shape[1]
        if lengths[0] != lengths[1]:
            raise InputError(
                f"--ensemble: {model.path} takes windows of {lengths[1]} bases, {first.path} of "
                f"{lengths[0]}. Use models of one window length."
            )
        differing = sorted(set(first.targets.names) ^ set(model.targets.names))
        if differing:
            raise InputError(
                f"--ensemble: {model.path} and {first.path} must have the same targets. Only one "
                f"of them has {len(differing)}, such as {differing[0]!r}. Use models of one "
                "dataset."
            )
        numbers = {name: i for i, name in enumerate(model.targets.names)}
        orders.append([numbers[name] for name in first.targets.names])
    return orders


def weights_digest(network: keras.Model) -> str:
    """SHA-256 of a network's weights: equal weights, equal predictions."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def fingerprint(model: TrainedModel) -> str:
    """SHA-256 of the network (its layers and weights) and its targets' names.

    The layers count too: imported weights give other predictions under other gates.
    """
    layers = json.dumps(model.network.get_config(), sort_keys=True, default=str)
    digest = hashlib.sha256("\n".join([layers, *model.targets.names]).encode())
    for weights in model.network.get_weights():
        digest.update(np.ascontiguousarray(weights).data)
    return digest.hexdigest()
