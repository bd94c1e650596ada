"""The space that `tune_danq.py` searches: settings and their ranges, in one table.

A space is a mapping of names to `Dimension`s; `--show-space` prints it and `--space FILE` replaces
it, both as JSON. Names are settings of `presets`, but a dropout's range stands as its lowest rate
and its width (`dropout_pool_low`, `dropout_pool_width`), so that every point is a valid pair; a
width of 0 is a fixed rate. Values: name → number or word; settings: as `apply_settings` takes them.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from danq_keras.motifs.files import resolve_motifs
from danq_keras.motifs.kernels import motif_kernels
from danq_keras.recipes.config import ModelConfig, Preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError, near_names
from danq_keras.system.files import load_json
from danq_keras.system.inputs import input_file

if TYPE_CHECKING:
    from optuna import Trial

Value: TypeAlias = int | float | str


@dataclass(frozen=True)
class Dimension:
    """A range with both ends, drawn evenly (on a log scale with `log`), or `choices`."""

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What a space file holds for it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log}


Space: TypeAlias = Mapping[str, Dimension]

DEFAULT_SPACE: Space = {
    "filters": Dimension(32, 512, log=True),
    "kernel_size": Dimension(8, 40),
    "pool_size": Dimension(4, 30),
    "lstm_units": Dimension(16, 512, log=True),
    "lstm_layers": Dimension(1, 2),
    "dense_units": Dimension(32, 1024, log=True),
    "dropout_pool_low": Dimension(0.0, 0.5),
    "dropout_pool_width": Dimension(0.0, 0.3),
    "dropout_lstm_low": Dimension(0.0, 0.6),
    "dropout_lstm_width": Dimension(0.0, 0.3),
    "learning_rate": Dimension(1e-4, 1e-2, log=True),
    # Where the preset states one: with RMSprop it decides the step, see `optimizers`.
    "epsilon": Dimension(1e-10, 1e-6, log=True),
    "batch_size": Dimension(32, 512, log=True),
}

_DROPOUTS = ("dropout_pool", "dropout_lstm")
_WHOLE = (
    "filters",
    "kernel_size",
    "pool_size",
    "lstm_units",
    "lstm_layers",
    "dense_units",
    "batch_size",
    "warmup_steps",
)
_REAL = (
    *(f"{name}_{end}" for name in _DROPOUTS for end in ("low", "width")),
    "learning_rate",
    "epsilon",
    "rho",
    "momentum",
    "weight_decay",
    "global_clipnorm",
    "recurrent_gain",
)
_WORDS = ("optimizer", "schedule", "gates", "conv_init", "dropout_kind", "dropout_redraw")
_NAMES = (*_WHOLE, *_REAL, *_WORDS)


def space_json(space: Space) -> str:
    """A space as the text of a space file."""
    rows = [f"  {json.dumps(name)}: {json.dumps(each.as_json())}" for name, each in space.items()]
    return "{\n" + ",\n".join(rows) + "\n}"


def read_space(path: Path) -> Space:
    """The space in a JSON file, in place of the default.

    Raises:
        InputError: it is not JSON, or a name or range in it is wrong.
    """
    source = input_file(path)
    try:
        content = load_json(source)
    except ValueError as error:  # of JSON or of UTF-8
        raise InputError(
            f"{path}: not a JSON file ({error}). Start from the output of `show_space`."
        ) from error
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{path}: expected a JSON object of ranges. Start from the output of `show_space`."
        )
    return space_from_json(content, place=str(path))


def space_from_json(content: Mapping[str, Any], *, place: str) -> Space:
    """The space that a JSON object describes; `place` says where it stands, for messages.

    Raises:
        InputError: a name or range in it is wrong.
    """
    for name in content:
        if name not in _NAMES:
            near = ", ".join(near_names(name, _NAMES))
            hint = f"Nearest: {near}." if near else f"What can be: {', '.join(_NAMES)}."
            raise InputError(f"{place}: {name!r} cannot be searched. {hint}")
    return {name: _dimension(name, entry, place) for name, entry in content.items()}


def _dimension(name: str, entry: Any, place: str) -> Dimension:
    """Check one entry of a space file."""
    wrong = f"{place}: {name}: "
    if isinstance(entry, dict) and set(entry) == {"choices"}:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices or len(set(map(repr, choices))) < 2:
            raise InputError(f"{wrong}choices are a list of two or more. Received: {choices}.")
        if not all(_fits(name, choice) for choice in choices):
            raise InputError(f"{wrong}choices are {_kind(name)}s. Received: {choices}.")
        return Dimension(choices=tuple(choices))
    if name in _WORDS or not isinstance(entry, dict) or not {"low", "high"} <= set(entry):
        wanted = '{"choices": […]}' if name in _WORDS else '{"low": …, "high": …, "log": false}'
        raise InputError(f"{wrong}expected {wanted}. Received: {json.dumps(entry)}.")
    if set(entry) - {"low", "high", "log"} or not isinstance(entry.get("log", False), bool):
        raise InputError(
            f"{wrong}a range has low, high and log (true or false). Received: {json.dumps(entry)}."
        )
    found = Dimension(entry["low"], entry["high"], entry.get("log", False))
    if not (_fits(name, found.low) and _fits(name, found.high) and found.low < found.high):
        raise InputError(
            f"{wrong}low and high are {_kind(name)}s, low below high (fix a setting with "
            "`settings`). "
            f"Received: {entry['low']} and {entry['high']}."
        )
    if found.log and found.low <= 0:
        raise InputError(f"{wrong}a log scale begins above 0. Received: low {found.low}.")
    return found


def _fits(name: str, value: Any) -> bool:
    kinds: tuple[type, ...] = (str,) if name in _WORDS else (int,)
    if name in _REAL:
        kinds = (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _kind(name: str) -> str:
    return "word" if name in _WORDS else "whole number" if name in _WHOLE else "number"


def without_fixed(space: Space, settings: Collection[str]) -> Space:
    """The space less what the user fixed; a dropout's rate fixes both of its dimensions."""
    return {
        name: dimension
        for name, dimension in space.items()
        if name not in settings and _setting(name) not in settings
    }


def _setting(name: str) -> str:
    """The setting to which a dimension belongs."""
    stem = name.removesuffix("_low").removesuffix("_width")
    return stem if stem in _DROPOUTS else name


def preset_values(space: Space, preset: Preset) -> dict[str, Value]:
    """Where a recipe lies in a space: name → value; what it leaves to its optimizer is not there.

    Raises:
        InputError: the recipe's network is not of the kind that is searched.
    """
    if preset.model.architecture != "danq":
        raise InputError(
            f"{preset.name}: the search is for networks of DanQ's kind, this is "
            f"{preset.model.architecture}. Start from another `preset`."
        )
    values: dict[str, Value] = {}
    for name in space:
        setting = _setting(name)
        if setting in _DROPOUTS:
            low, high = _range(preset, setting)
            values[name] = low if name.endswith("_low") else round(high - low, 6)
            continue
        owner = preset.model if hasattr(preset.model, setting) else preset.train
        if (value := getattr(owner, setting)) is not None:
            values[name] = value
    return values


def _range(preset: Preset, setting: str) -> tuple[float, float]:
    rate = getattr(preset.model, setting)
    return rate if isinstance(rate, tuple) else (rate, rate)


def widened(space: Space, preset: Preset) -> tuple[Space, list[str]]:
    """The space with every range wide enough to hold the recipe, and the names that changed.

    Settings that the recipe leaves to its optimizer are taken out: they have no value to start at.
    """
    values = preset_values(space, preset)
    result: dict[str, Dimension] = {}
    for name, value in values.items():
        old = space[name]
        if old.choices:
            more = old.choices if value in old.choices else (*old.choices, value)
            result[name] = dataclasses.replace(old, choices=more)
        else:
            assert not isinstance(value, str)
            # A preset may hold 0 (no weight decay), where a log scale cannot begin.
            log = old.log and value > 0
            low, high = min(old.low, value), max(old.high, value)
            result[name] = Dimension(low, high, log)
    changed = [name for name, dimension in result.items() if dimension != space[name]]
    return result, changed


def check_space(space: Space, preset: Preset, *, max_parameters: int | None = None) -> None:
    """Make sure that every point of a space is a network that can be built.

    Raises:
        InputError: the space is empty, an end of it is no valid setting, windows are too short
            for its largest kernel and pool, its kernels too few or too short for the motifs, or
            its smallest network is above the cap.
    """
    if not space:
        raise InputError(
            "Nothing is left to search: every setting is fixed. Drop some of `settings`."
        )
    first = {name: each.choices[0] if each.choices else each.low for name, each in space.items()}
    last = {name: each.choices[-1] if each.choices else each.high for name, each in space.items()}
    choices = [{name: choice} for name, each in space.items() for choice in each.choices]
    corners = [first, last, *choices]
    # Few kernels must hold the motifs that fit a long one; long pools make the smallest networks.
    ends = [name for name in ("kernel_size", "pool_size") if name in space]
    corners += [{**first, name: last[name]} for name in ends]
    try:
        models = [apply_values(preset, corner).model for corner in corners]
        for model in models:
            _check_motifs(model)
    except InputError as error:
        raise InputError(f"Search space: {error} Narrow it with `space` or `settings`.") from error
    n_parameters = min(count_parameters(model) for model in models)
    if max_parameters is not None and n_parameters > max_parameters:
        raise InputError(
            f"`max_parameters`: the smallest network of the search space has {n_parameters:,}. "
            f"Received: {max_parameters:,}. Raise it, or widen the space with `space`."
        )


def _check_motifs(model: ModelConfig) -> None:
    if model.motif_file is not None:
        assert isinstance(model.filters, int)
        kernels = np.zeros((model.kernel_size, 4, model.filters), np.float32)
        motif_kernels(resolve_motifs(model.motif_file), kernels, seed=0)


def suggest(space: Space, trial: "Trial") -> dict[str, Value]:
    """A point of the space, as Optuna's sampler chooses it for a trial."""
    values: dict[str, Value] = {}
    for name, each in space.items():
        if each.choices:
            choice = trial.suggest_categorical(name, each.choices)
            assert choice is not None
            values[name] = choice
        elif name in _WHOLE:
            values[name] = trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
        else:
            values[name] = trial.suggest_float(name, each.low, each.high, log=each.log)
    return values


def apply_values(preset: Preset, values: Mapping[str, Value]) -> Preset:
    """A recipe moved to a point of the space.

    A warm-up that was fitted to the data keeps its samples when batches change: in steps it would
    outlast a short training with large ones.

    Raises:
        InputError: the point is no valid recipe.
    """
    settings: dict[str, Any] = {k: v for k, v in values.items() if _setting(k) not in _DROPOUTS}
    for setting in _DROPOUTS:
        low, high = _range(preset, setting)
        width = values.get(f"{setting}_width", high - low)
        low = round(float(values.get(f"{setting}_low", low)), 6)
        high = round(low + float(width), 6)
        settings[setting] = (low, high) if high > low else low
    train = preset.train
    if "warmup_steps" in preset.fitted and "warmup_steps" not in settings:
        batch = int(settings.get("batch_size", train.batch_size))
        settings["warmup_steps"] = max(1, round(train.warmup_steps * train.batch_size / batch))
    moved = apply_settings(preset, settings)
    said = {name for name in values if name in preset.fitted}
    kept = tuple(name for name in preset.fitted if name not in said)
    return dataclasses.replace(moved, fitted=kept)


def count_parameters(config: ModelConfig) -> int:
    """Trainable weights of a network of DanQ's kind, without building it."""
    assert isinstance(config.filters, int)
    total = (4 * config.kernel_size + 1) * config.filters
    width = config.filters
    for _ in range(config.lstm_layers):
        total += 2 * 4 * config.lstm_units * (width + config.lstm_units + 1)
        width = 2 * config.lstm_units
    total += (config.pooled_length() * width + 1) * config.dense_units
    return total + (config.dense_units + 1) * config.n_targets
