"""Fine-tuning: a run that starts from the weights of a trained network.

In: a run folder or a .keras file of a network of this package (an imported one too). The new
network is the given one in its sizes, gates and dropout, except for what the user sets; window and
targets are the data's. Layers are copied by name; new ones have the preset's initial values:

- the output layer, unless both networks have the same targets by name (their order may differ);
- with another window the dense layer too, as its weights belong to positions.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from danq_keras.data.targets import Targets
from danq_keras.models.layers import RandomDropout, old_hard_sigmoid
from danq_keras.models.networks import build_network
from danq_keras.models.trained import TrainedModel, load_model
from danq_keras.recipes.config import ModelConfig, Preset, Rate
from danq_keras.recipes.settings import apply_settings, setting_text
from danq_keras.system.errors import InputError
from danq_keras.system.terminal import log

OUTPUT_LAYERS = ("logits",)
HEAD_LAYERS = ("dense", "logits")


@dataclass(frozen=True, eq=False)
class Source:
    """A trained network to start from.

    `settings` are the fields of `ModelConfig` that its layers tell; `fingerprint` is the SHA-256
    of its .keras file.
    """

    trained: TrainedModel
    settings: dict[str, Any]
    fingerprint: str

    def record(self, new_layers: Collection[str]) -> dict[str, Any]:
        """The section `init` of config.json: the network, and the layers that are not its own."""
        return {
            "model": str(self.trained.path.resolve()),
            "fingerprint": self.fingerprint,
            "preset": self.trained.config.get("preset"),
            "n_targets": self.trained.network.output_shape[1],
            "window": self.trained.network.input_shape[1],
            "new_layers": list(new_layers),
        }


def open_source(path: Path) -> Source:
    """Load the network to start from.

    Raises:
        InputError: nothing readable is there, or it is no network of this package.
    """
    trained = load_model(path)
    path = trained.path
    file = path / "model.keras" if path.is_dir() else path
    with file.open("rb") as handle:
        fingerprint = hashlib.file_digest(handle, "sha256").hexdigest()
    return Source(trained, network_settings(trained.network, path), fingerprint)


def reopen_source(record: Mapping[str, Any], config_path: Path) -> Source:
    """Load the network that a config.json names.

    Raises:
        InputError: it is gone, or another one has its place.
    """
    path = Path(record["model"])
    if not path.exists():
        raise InputError(
            f"{config_path}: the run starts from {path}, which is not there any more. Put it back."
        )
    source = open_source(path)
    if source.fingerprint != record["fingerprint"]:
        raise InputError(
            f"{path}: not the model that {config_path} names (SHA-256 {source.fingerprint[:12]}…, "
            f"{record['fingerprint'][:12]}… there). Put that one back, or give `init=MODEL` anew."
        )
    return source


def network_settings(network: keras.Model, path: Path) -> dict[str, Any]:
    """The settings of a network of this package, read from its layers.

    Raises:
        InputError: its layers are not ours.
    """
    found = {layer.name: layer for layer in network.layers}
    architecture = "deepsea" if "conv_1" in found else "danq"
    read = _deepsea_settings if architecture == "deepsea" else _danq_settings
    try:
        settings = read(found)
        dense = found["dense"]
        settings |= {"dense_units": dense.units, "dense_activation": dense.activation.__name__}
        settings["n_targets"] = found["logits"].units
    except (KeyError, AttributeError) as error:
        raise _foreign(path, str(error)) from error
    settings["window"] = network.input_shape[1]
    # The first kernels are the network's, whatever they once started from.
    return {"architecture": architecture, "motif_file": None, **settings}


def _foreign(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path}: `init` takes a network that this package trained or imported; the layers of this "
        f"one are others ({detail}). Give a run folder or the output of import_weights.py."
    )


def _danq_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    conv, forward = found["conv"], found["lstm_forward"]
    classic = "dropout_pool_forward" in found
    pool_dropout = "dropout_pool_forward" if classic else "dropout_pool"
    hard = forward.recurrent_activation is old_hard_sigmoid
    return {
        "filters": conv.filters,
        "kernel_size": conv.kernel_size[0],
        "conv_activation": conv.activation.__name__,
        "pool_size": found["pool"].pool_size[0],
        "lstm_units": forward.units,
        "lstm_layers": sum(name.startswith("lstm_forward") for name in found),
        "gates": "hard" if hard else "sigmoid",
        "wrapper": "time" if found["lstm_backward"].go_backwards else "seya",
        "dropout_kind": "classic" if classic else "inverted",
        "dropout_pool": _rate(found[pool_dropout]),
        "dropout_lstm": _rate(found["dropout_lstm"]),
    }


def _deepsea_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    convolutions = [found[f"conv_{number}"] for number in (1, 2, 3)]
    dropout = found["dropout_1"]
    inverted = dropout.inverted if isinstance(dropout, RandomDropout) else None
    if inverted is None:
        inverted = "dropout_1_scale" not in found
    return {
        "filters": tuple(layer.filters for layer in convolutions),
        "kernel_size": convolutions[0].kernel_size[0],
        "pool_size": found["pool_1"].pool_size[0],
        "dropout_kind": "inverted" if inverted else "classic",
        "dropout_pool": _rate(dropout),
        "dropout_lstm": _rate(found["dropout_3"]),
    }


def _rate(layer: Any) -> Rate:
    return (layer.low, layer.high) if isinstance(layer, RandomDropout) else float(layer.rate)


def take_over(
    preset: Preset, source: Source, settings: Mapping[str, Any], *, fixed: Collection[str] = ()
) -> Preset:
    """A recipe with the network of a source, except for what the user set.

    Args:
        preset: the recipe whose training is kept.
        source: whose network is taken.
        settings: of the command line, applied on top.
        fixed: names of settings of the recipe that the user gave too.

    Raises:
        InputError: the user's settings make layers of other shapes than the source's, or the
            recipe is for a network of another kind.
    """
    kind = source.settings["architecture"]
    if kind != preset.model.architecture:
        raise InputError(
            f"`init={source.trained.path}`: its network is of the kind {kind}, that of preset "
            f"{preset.name} is {preset.model.architecture}. Give a preset of that kind with "
            "`preset`."
        )
    free = source.settings.keys() - settings.keys() - set(fixed)
    taken = {key: value for key, value in source.settings.items() if key in free}
    fitted = apply_settings(preset, {**taken, **settings})
    if fitted.model.motif_file is not None:
        raise InputError(
            "motif_file: `init` takes the first layer's kernels from the model. Leave one of them "
            "out."
        )
    different = differences(source, fitted.model)
    _check_shapes(source, fitted.model, different)
    if different:
        listed = ", ".join(f"{key} {now} (not {was})" for key, (was, now) in different.items())
        log.info("Set otherwise than in %s: %s", source.trained.path, listed)
    return fitted


def differences(source: Source, config: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings of the network in which a run differs from its source: key → (source's, own).

    Window and number of targets are the data's and do not count.
    """
    return {
        key: (value, getattr(config, key))
        for key, value in source.settings.items()
        if key not in ("window", "n_targets") and getattr(config, key) != value
    }


def _check_shapes(
    source: Source, config: ModelConfig, different: Mapping[str, tuple[Any, Any]]
) -> None:
    """Compare all layers of the source with those of a network for the source's data.

    Raises:
        InputError: the first layer that differs.
    """
    data = {key: source.settings[key] for key in ("window", "n_targets")}
    ours = _shapes(build_network(dataclasses.replace(config, **data), initialise=False))
    theirs = _shapes(source.trained.network)
    for name in (*theirs, *ours):
        if theirs.get(name) != ours.get(name) and not different:
            raise _foreign(source.trained.path, name)
        if theirs.get(name) != ours.get(name):
            advice = " ".join(
                f"{key}={setting_text(before)}" for key, (before, _) in different.items()
            )
            raise InputError(
                f"`init={source.trained.path}`: layer {name}: expected "
                f"{_listed(theirs.get(name))}, received {_listed(ours.get(name))}. Leave "
                f"{', '.join(different)} to the model, or give {advice}."
            )


def _shapes(network: keras.Model) -> dict[str, list[tuple[int, ...]]]:
    return {
        layer.name: [tuple(weight.shape) for weight in layer.weights]
        for layer in network.layers
        if layer.weights
    }


def _listed(shapes: list[tuple[int, ...]] | None) -> str:
    return "no such layer" if shapes is None else f"weights of shapes {shapes}"


def new_layers(source: Source, config: ModelConfig, targets: Targets) -> tuple[str, ...]:
    """Names of the layers that cannot be the source's: none, the output, or dense and output.

    The output is the source's when all the targets are among those of the source.
    """
    if config.window != source.settings["window"]:
        return HEAD_LAYERS
    known = set(targets.names) <= set(source.trained.targets.names)
    return () if known else OUTPUT_LAYERS


def copy_weights(
    source: Source, model: keras.Model, targets: Targets, *, new: Collection[str]
) -> None:
    """Put a source's weights into a network.

    Args:
        source: where they come from.
        model: where they go; its shapes were checked.
        targets: of `model`, in its order.
        new: names of the layers that stay as they are.
    """
    for layer in model.layers:
        if not layer.weights or layer.name in new:
            continue
        weights = source.trained.network.get_layer(layer.name).get_weights()
        if layer.name in OUTPUT_LAYERS:  # of the source's targets ours, in our order
            position = {name: i for i, name in enumerate(source.trained.targets.names)}
            order = [position[name] for name in targets.names]
            weights = [part[..., order] for part in weights]
        layer.set_weights(weights)


def describe_start(record: Mapping[str, Any], config: ModelConfig) -> str:
    """The line of the run's header that says what a run starts from, from its config.json."""
    known = f"preset {record['preset']}, " if record["preset"] else ""
    line = f"Fine-tuned from {record['model']} ({known}SHA-256 {record['fingerprint'][:12]}…): "
    if not record["new_layers"]:
        return line + "all layers are copied, it has all these targets"
    if "dense" in record["new_layers"]:
        return (
            f"{line}dense and output layer are new, as windows have {config.window} bases here and "
            f"{record['window']} there"
        )
    return (
        f"{line}the output layer is new, as not all targets here ({config.n_targets}) are among "
        f"those there ({record['n_targets']}) by name"
    )
