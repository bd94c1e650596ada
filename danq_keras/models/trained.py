"""Networks on disk with the names of their targets, their fingerprints, and ensembles.

A .keras file of this package knows itself: a member `danq_keras.json` of the zip holds the names of
its targets, its `ModelConfig` and the version that wrote it. `keras.models.load_model` passes over
it. A file without it (older, or of another program) has the names of its run folder's config.json,
those that the user gives, or numbers; its size says nothing about its targets.
"""

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from danq_keras import __version__
from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.targets import Targets
from danq_keras.models.archive import load_network, model_damage_told
from danq_keras.models.shipped import model_file, model_place
from danq_keras.recipes.config import ModelConfig
from danq_keras.system.errors import InputError, one_line
from danq_keras.system.files import PathLike, atomic_output, load_json
from danq_keras.system.hdf5 import faults_named, reason_of
from danq_keras.system.inputs import input_file
from danq_keras.system.terminal import log

MEMBER = "danq_keras.json"
DEEPSEA = "deepsea"
TargetNames = PathLike | Sequence[str]
"""Names of targets as a user gives them: "deepsea", a file of them, or the names themselves."""

_HALF = ("float16", "bfloat16")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same file for the same network


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network from disk with the names of its targets.

    `path` is the run folder or file that it comes from. `config` is the content of its run's
    config.json, or what the .keras file says of itself; it has "targets" only where their names
    are known, and is empty for a file of another program.
    """

    network: keras.Model
    targets: Targets
    path: Path
    config: dict[str, Any]

    @property
    def strands(self) -> str:
        """The strands that are predicted when nothing is said.

        "both" is the mean with the reverse complement; "forward" is for a network that was trained
        on one strand only, as of RNA.
        """
        return str(self.config.get("strands", "both"))

    def save(self, path: PathLike, *, half: bool = False) -> None:
        """Write a .keras file that knows its targets and settings, in place of an earlier one.

        Args:
            path: file to write, with the ending .keras.
            half: whether to round the weights to 16 bits, for a file of half the size.
        """
        kept = {key: self.config[key] for key in _DESCRIPTION if key in self.config}
        network = self.network
        if half:
            network = keras.models.clone_model(network)
            network.set_weights([w.astype("f2").astype("f4") for w in self.network.get_weights()])
        save_model(network, Path(path), about=kept)
        if half:
            _deflate(Path(path))


_DESCRIPTION = {"preset": str, "model": dict, "targets": list, "strands": str}


def describe_network(
    config: ModelConfig,
    targets: Targets | None,
    *,
    preset: str | None = None,
    one_strand: bool = False,
) -> dict[str, Any]:
    """What a .keras file says of itself.

    Args:
        config: sizes, gates and dropout of the network.
        targets: names of its outputs; None where they are not known.
        preset: name of the recipe.
        one_strand: whether its data are of an assay that sees one strand only.
    """
    about: dict[str, Any] = {"preset": preset, "model": dataclasses.asdict(config)}
    if one_strand:
        about["strands"] = "forward"
    return about if targets is None else about | {"targets": list(targets.names)}


def save_model(model: keras.Model, path: Path, *, about: dict[str, Any] | None = None) -> None:
    """Write a .keras file, whole or not at all, in place of an earlier one.

    Args:
        model: network to write, with its weights.
        path: file to write, with the ending .keras.
        about: what the file says of itself, see `describe_network`; None for nothing.
    """
    # Keras wants the ending .keras, which a temporary name has not.
    with atomic_output(path, overwrite=True, ending=".keras") as temporary, faults_named(path):
        model.save(temporary)
        if about is not None:
            content = {"package": "danq_keras", "version": __version__, **about}
            with zipfile.ZipFile(temporary, "a") as file:
                file.writestr(zipfile.ZipInfo(MEMBER, _ZIP_DATE), json.dumps(content, indent=1))


def _deflate(path: Path) -> None:
    """Pack the members of a .keras file; Keras stores them as they are, zeros and all."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with (
        atomic_output(path, overwrite=True) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file,
    ):
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content, zipfile.ZIP_DEFLATED)


def load_model(path: PathLike, *, targets: TargetNames | None = None) -> TrainedModel:
    """Open a run folder, a .keras file or a shipped network; mixed precision becomes float32.

    Args:
        path: the run folder, the file, or the name of a network that comes with the package,
            such as "yeast" (see `shipped_models`).
        targets: names of the outputs of a file that does not know them: a list, a text file with
            one a line (the first column of a table), or "deepsea" for the 919 of DeepSEA. None
            for the file's own, its run folder's, or numbers.

    Returns:
        The network with the names of its targets.

    Raises:
        InputError: nothing readable is there, it does not map (N, L, 4) to (N, T), or the names
            are not as many as the outputs, or not the file's own.
    """
    place = model_place(path)
    file = model_file(place)
    network = load_network(file)
    for layer in network._flatten_layers():  # cells of LSTMs too
        if layer.compute_dtype in _HALF:
            layer.dtype_policy = "float32"
    return _with_names(network, place, _description(file), targets)


def opened(model: TrainedModel | PathLike) -> TrainedModel:
    """A model as public functions take it: one that is open, or its run folder or .keras file."""
    return model if isinstance(model, TrainedModel) else load_model(model)


def _description(file: Path) -> dict[str, Any]:
    """What is known of a model file: by itself, and by the config.json beside it."""
    path = file.parent / "config.json"
    beside = _read_config(path) if path.is_file() else {}
    return beside | read_about(file)


def read_about(file: Path) -> dict[str, Any]:
    """What a .keras file says of itself: preset, model, targets, strands; or nothing.

    Raises:
        InputError: its member is not what this package writes.
    """
    if not zipfile.is_zipfile(file):
        return {}
    with model_damage_told(file), zipfile.ZipFile(file) as members:
        if MEMBER not in members.namelist():
            return {}
        try:
            content = json.loads(members.read(MEMBER))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its {MEMBER} is damaged: {reason_of(error)}") from error
        if not isinstance(content, dict):
            raise ValueError(f"its {MEMBER} is damaged: no JSON object")
        about = {key: content[key] for key in _DESCRIPTION if key in content}
        for key, kind in _DESCRIPTION.items():
            if about.get(key) is not None and not isinstance(about[key], kind):
                raise ValueError(f"its {MEMBER} is damaged: {key!r} must be a {kind.__name__}")
        if about.get("targets") is not None and not _are_names(about["targets"]):
            raise ValueError(f"its {MEMBER} is damaged: the names of targets must be texts")
    return about


def _with_names(
    network: keras.Model, place: Path, config: dict[str, Any], given: TargetNames | None
) -> TrainedModel:
    n_targets = network.output_shape[1]
    own = config.get("targets")
    if own is not None and len(own) != n_targets:
        log.warning(
            "%s: %d names of targets are known and it predicts %d: they are not used.",
            place,
            len(own),
            n_targets,
        )
        own = None
    config = {key: value for key, value in config.items() if key != "targets"}
    if given is not None:
        targets = named_targets(given, n_targets, place)
        if own is not None and tuple(own) != targets.names:
            i = next(i for i, name in enumerate(own) if name != targets.names[i])
            raise InputError(
                f"{place}: the model knows the names of its targets, and they are others: number "
                f"{i} is {own[i]!r}, received {targets.names[i]!r}. Give no names."
            )
    elif own is not None:
        targets = Targets(tuple(own))
    else:
        return TrainedModel(network, numbered_targets(n_targets), place, config)
    return TrainedModel(network, targets, place, config | {"targets": list(targets.names)})


def numbered_targets(n_targets: int) -> Targets:
    """Names for outputs of which nothing is known: their numbers, from "0" on."""
    return Targets(tuple(str(number) for number in range(n_targets)))


def named_targets(given: TargetNames, n_targets: int, model: Path) -> Targets:
    """Names that a user gives to the outputs of a network.

    Args:
        given: "deepsea", a text file with one name a line, or the names.
        n_targets: outputs of the network.
        model: where the network is from, for the message.

    Raises:
        InputError: no such file, or the names are not as many as the outputs.
    """
    if given == DEEPSEA:
        targets = deepsea_targets()
    elif isinstance(given, (str, os.PathLike)):
        targets = Targets(_read_names(Path(given)))
    else:
        targets = Targets(tuple(str(name) for name in given))
    if len(targets) != n_targets:
        raise InputError(
            f"{model}: predicts {n_targets} targets, received {len(targets)} names. Give as many, "
            "in the order of the outputs."
        )
    return targets


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = input_file(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, InputError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: no readable file of target names. Give a text file with one name a line, or "
            f"{DEEPSEA}."
        ) from error
    return tuple(line.split("\t")[0].strip() for line in lines if line.strip())


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
        config = load_json(path)
    except ValueError as error:
        raise InputError(
            f"{path}: not a JSON file ({one_line(error)}). Restore or remove it."
        ) from error
    config = config if isinstance(config, dict) else {}
    names, model = config.get("targets"), config.get("model")
    window = model.get("window") if isinstance(model, dict) else None
    for what, is_right in (
        ("'targets' a list of names", _are_names(names) or names is None),
        ("'model' an object", isinstance(model, dict | None)),
        ("'window' a number from 1 on", window is None or (isinstance(window, int) and window > 0)),
    ):
        if not is_right:
            raise InputError(f"{path}: damaged: {what} is needed. Restore or remove it.")
    return config


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def embedding_model(model: TrainedModel) -> keras.Model:
    """The network up to the units (N, U) of its layer `dense`.

    Raises:
        InputError: it has no such layer.
    """
    names = [layer.name for layer in model.network.layers]
    if "dense" not in names:
        raise InputError(
            f"{model.path}: `output=embedding` gives the layer 'dense'. Received a model with the "
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
                f"`ensemble`: {model.path} takes windows of {lengths[1]} bases, {first.path} of "
                f"{lengths[0]}. Use models of one window length."
            )
        differing = sorted(set(first.targets.names) ^ set(model.targets.names))
        if differing:
            raise InputError(
                f"`ensemble`: {model.path} and {first.path} must have the same targets. Only one "
                f"of them has {len(differing)}, such as {differing[0]!r}. Use models of one "
                "dataset."
            )
        numbers = {name: i for i, name in enumerate(model.targets.names)}
        orders.append([numbers[name] for name in first.targets.names])
    return orders


def weights_digest(network: keras.Model) -> str:
    """SHA-256 of a network's weights: equal weights, equal predictions."""
    digest = hashlib.sha256()
    _add_weights(digest, network)
    return digest.hexdigest()


def _add_weights(digest: Any, network: keras.Model) -> None:
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)


def fingerprint(model: TrainedModel) -> str:
    """SHA-256 of the network (its layers and weights) and its targets' names.

    The layers count too: imported weights give other predictions under other gates.
    """
    layers = json.dumps(model.network.get_config(), sort_keys=True, default=str)
    digest = hashlib.sha256("\n".join([layers, *model.targets.names]).encode())
    _add_weights(digest, model.network)
    return digest.hexdigest()
