"""Recipes by name: the network (`ModelConfig`) and its training (`TrainConfig`).

Both are frozen; settings come from a preset, then a JSON file, then the command line
(`apply_settings`), and go to `config.json`. Nothing here builds a network.

Source of the numbers: Quang & Xie, NAR 44(11):e107, 2016, and the scripts published with it, run
under Keras 0.2.0 defaults; Zhou & Troyanskaya, Nature Methods 12:931, 2015, for `deepsea`.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from danq_keras.system.command import InputError

Rate: TypeAlias = float | tuple[float, float]

JASPAR_2016 = "jaspar2016"
"""Value of `motif_file` that means the motifs shipped in resources/."""


@dataclass(frozen=True)
class ModelConfig:
    """A network. Lengths in bases or pooled positions; a dropout rate may be a (low, high) pair.

    `architecture` "danq": convolution, max-pool, BLSTM, dense, dense. "deepsea": three
    convolutions, of which the first two are pooled; there `dropout_lstm` follows the third.
    """

    architecture: str = "danq"
    window: int = 1000
    n_targets: int = 919
    filters: int | tuple[int, ...] = 320
    kernel_size: int = 26
    pool_size: int = 13
    lstm_units: int = 320
    lstm_layers: int = 1
    dense_units: int = 925
    dropout_pool: Rate = 0.2
    dropout_lstm: Rate = 0.5
    dropout_kind: str = "classic"
    # DIFFERS: the original's gates are clip(0.2 x + 0.5, 0, 1); the fused GPU kernel has only the
    # true sigmoid. `gates=hard` gives the original's.
    gates: str = "sigmoid"
    # "time": the second LSTM reads backward; "seya": as the first published form of the wrapper
    # that the original used, it reads forward like the first.
    wrapper: str = "time"
    conv_init: str = "uniform"
    recurrent_gain: float = 1.1
    motif_file: str | None = None
    dropout_redraw: str = "step"

    def __post_init__(self) -> None:
        _choice("architecture", self.architecture, ("danq", "deepsea"))
        _choice("dropout_kind", self.dropout_kind, ("classic", "inverted"))
        _choice("gates", self.gates, ("sigmoid", "hard"))
        _choice("wrapper", self.wrapper, ("time", "seya"))
        _choice("conv_init", self.conv_init, ("uniform", "glorot"))
        _choice("dropout_redraw", self.dropout_redraw, ("step", "run"))
        sizes = ("window", "n_targets", "kernel_size", "pool_size", "lstm_units", "lstm_layers")
        for name in (*sizes, "dense_units"):
            _positive(name, getattr(self, name))
        many = self.filters if isinstance(self.filters, tuple) else (self.filters,)
        for value in many:
            _positive("filters", value)
        if len(many) != (3 if self.architecture == "deepsea" else 1):
            raise InputError(
                f"filters: one number for danq, three for deepsea. Received: {self.filters}."
            )
        if self.window % 2:
            raise InputError(f"window: must be even (two bases a byte). Received: {self.window}.")
        for name in ("dropout_pool", "dropout_lstm"):
            _check_rate(name, getattr(self, name))
        if self.pooled_length() < 1:
            raise InputError(
                f"window: {self.window} is too short for kernel_size={self.kernel_size} and "
                f"pool_size={self.pool_size}. Use a longer window or a smaller kernel or pool."
            )

    def pooled_length(self) -> int:
        """Positions left for the recurrent or dense layers."""
        length = (self.window - self.kernel_size + 1) // self.pool_size
        if self.architecture == "deepsea":
            length = (length - self.kernel_size + 1) // self.pool_size - self.kernel_size + 1
        return length


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Steps are optimizer steps of `batch_size` samples (a strand is a sample)."""

    epochs: int = 60
    batch_size: int = 100
    optimizer: str = "rmsprop"
    learning_rate: float = 0.001
    # Of the optimizer where it has them; none: the optimizer's own default.
    rho: float | None = 0.9
    epsilon: float | None = 1e-6
    momentum: float | None = None
    weight_decay: float = 0.0
    global_clipnorm: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    minimum_learning_rate: float = 0.0
    precision: str = "float32"
    patience: int | None = 6
    seed: int = 0
    data_seed: int = 0
    train_limit: int | None = None
    targets: tuple[str, ...] | None = None
    checkpoint_steps: int = 1000
    min_positives: int = 1
    distribute: str = "none"
    # Share of the windows that come again in the next epoch: those that the network found hardest.
    restudy: float = 0.0
    # "extra": beside all others, in a longer epoch; "replace": in the place of as many others,
    # drawn anew in each epoch, so that an epoch has as many samples as without.
    restudy_mode: str = "extra"
    # "expected": ranked by the excess over what the network expects; "matched": the same, among
    # windows with about as many positives.
    restudy_by: str = "expected"
    freeze_conv_epochs: int = 0

    def __post_init__(self) -> None:
        _choice("schedule", self.schedule, ("constant", "cosine", "plateau"))
        precisions = ("float32", "mixed_float16", "mixed_bfloat16", "auto")
        _choice("precision", self.precision, precisions)
        _choice("distribute", self.distribute, ("none", "mirrored"))
        _choice("restudy_mode", self.restudy_mode, ("extra", "replace"))
        _choice("restudy_by", self.restudy_by, ("expected", "matched"))
        for name in ("epochs", "batch_size", "plateau_patience", "min_positives"):
            _positive(name, getattr(self, name))
        for name in ("patience", "train_limit", "global_clipnorm", "epsilon"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        _positive("learning_rate", self.learning_rate)
        counts = ("seed", "data_seed", "checkpoint_steps", "warmup_steps", "freeze_conv_epochs")
        for name in (*counts, "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: must not be negative. Received: {getattr(self, name)}.")
        for name in ("rho", "momentum"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise InputError(f"{name}: must be in [0, 1). Received: {getattr(self, name)}.")
        if not 0 < self.plateau_factor < 1:
            raise InputError(f"plateau_factor: must be in (0, 1). Received: {self.plateau_factor}.")
        # Whoever comes twice takes the place of another: at most one for one.
        most = 0.5 if self.restudy_mode == "replace" else 1
        if not 0 <= self.restudy <= most:
            raise InputError(
                f"restudy: a share of the windows in [0, {most}] with restudy_mode="
                f"{self.restudy_mode}. Received: {self.restudy}."
            )


@dataclass(frozen=True)
class Preset:
    """A named recipe: where it comes from, its network and its training."""

    name: str
    source: str
    model: ModelConfig
    train: TrainConfig


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        nearest = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" Nearest: {nearest[0]}." if nearest else ""
        raise InputError(f"{name}: one of {', '.join(allowed)}. Received: {value!r}.{hint}")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name}: must be above zero. Received: {value}.")


def _check_rate(name: str, rate: Rate) -> None:
    rates = rate if isinstance(rate, tuple) else (rate, rate)
    if len(rates) != 2 or not 0 <= rates[0] <= rates[1] < 1:
        raise InputError(
            f"{name}: a rate in [0, 1) or a pair low,high of such rates. Received: {rate}."
        )


_DANQ = "Quang & Xie 2016, doi 10.1093/nar/gkw226, and its scripts under Keras 0.2.0"
_DANQ_MODEL = ModelConfig()
# The original says patience 5, which in Keras 0.2.0 stops on the 6th epoch without improvement.
_DANQ_TRAIN = TrainConfig(epochs=60, patience=6)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("danq", f"{_DANQ}; gates are the true sigmoid", _DANQ_MODEL, _DANQ_TRAIN),
        Preset(
            "danq-jaspar",
            f"{_DANQ}; gates are the true sigmoid",
            ModelConfig(
                filters=1024, kernel_size=30, pool_size=15, lstm_units=512, motif_file=JASPAR_2016
            ),
            TrainConfig(epochs=32, patience=None),  # early stopping never triggers in 32 epochs
        ),
        Preset(
            "deepsea",
            "Zhou & Troyanskaya 2015, doi 10.1038/nmeth.3547: the network only; DIFFERS: glorot "
            "initial values and DanQ's training, not SGD with penalties and max-norm",
            ModelConfig(
                architecture="deepsea",
                filters=(320, 480, 960),
                kernel_size=8,
                pool_size=4,
                conv_init="glorot",
            ),
            _DANQ_TRAIN,
        ),
        Preset(
            "bioq",
            "BioQ (PyTorch): two BLSTM layers, RMSprop 1e-5; DIFFERS: the clipping value is not "
            "given there, 1.0 here; initial values as DanQ",
            ModelConfig(lstm_layers=2, dropout_kind="inverted"),
            TrainConfig(
                epochs=55,
                learning_rate=1e-5,
                rho=0.99,
                epsilon=1e-16,  # PyTorch's 1e-8 stands outside the root, Keras' inside
                global_clipnorm=1.0,
                patience=None,
            ),
        ),
        Preset(
            "mouse-mel",
            "DanQ on 39 ChIP-seq targets of mouse MEL cells: Adam (its rate is not given: 0.001), "
            "batch 200, 30 epochs, convolution uniform ±0.05",
            ModelConfig(dropout_kind="inverted"),
            TrainConfig(
                epochs=30, batch_size=200, optimizer="adam", rho=None, epsilon=None, patience=None
            ),
        ),
        Preset(
            "random-dropout",
            "DanQ with dropout rates drawn anew for every step from 0.1-0.3 and 0.4-0.6",
            ModelConfig(dropout_pool=(0.1, 0.3), dropout_lstm=(0.4, 0.6), dropout_kind="inverted"),
            _DANQ_TRAIN,
        ),
        Preset(
            "demo",
            "a small DanQ for the simulated demo genome, trained with Adam; no published recipe",
            ModelConfig(
                filters=64,
                kernel_size=20,
                pool_size=10,
                lstm_units=32,
                dense_units=64,
                dropout_kind="inverted",
                dropout_lstm=0.3,
                recurrent_gain=1.0,
                conv_init="glorot",
            ),
            TrainConfig(
                epochs=12,
                batch_size=100,
                optimizer="adam",
                learning_rate=0.002,
                rho=None,
                epsilon=None,
                patience=None,  # the first epochs look like a plateau: patience would end there
            ),
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The recipe called `name`.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    _choice("preset", name, tuple(PRESETS))
    return PRESETS[name]


def _field_types(config: type) -> dict[str, Any]:
    return typing.get_type_hints(config)


MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(ModelConfig))
TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))


def apply_settings(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """A preset with some fields of its network or training changed.

    Args:
        preset: where to start.
        settings: field name → value, either typed (from JSON) or text (from `--set KEY=VALUE`;
            a comma separates the parts of a pair, "none" is None).

    Raises:
        InputError: an unknown key (the nearest is named) or a value of the wrong kind.
    """
    changes: list[dict[str, Any]] = [{}, {}]
    for key, value in settings.items():
        if key in MODEL_FIELDS:
            changes[0][key] = _convert(key, value, _field_types(ModelConfig)[key])
        elif key in TRAIN_FIELDS:
            changes[1][key] = _convert(key, value, _field_types(TrainConfig)[key])
        else:
            nearest = difflib.get_close_matches(key, MODEL_FIELDS + TRAIN_FIELDS, n=1, cutoff=0.3)
            hint = f" Nearest: {nearest[0]}." if nearest else ""
            raise InputError(f"Unknown setting {key!r}.{hint}")
    if changes[1].get("optimizer", preset.train.optimizer) != preset.train.optimizer:
        # The preset's numbers belong to its optimizer: another one starts from its own defaults.
        changes[1] = {"rho": None, "epsilon": None, "momentum": None, **changes[1]}
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, **changes[0]),
        train=dataclasses.replace(preset.train, **changes[1]),
    )


def setting_text(value: Any) -> str:
    """A setting as `--set KEY=VALUE` takes it."""
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def changed_settings(preset: Preset) -> dict[str, tuple[Any, Any]]:
    """Settings in which a recipe differs from the preset of its name: key → (preset's, its own).

    Window and number of targets are the data's and do not count.
    """
    original = get_preset(preset.name)
    changed = {}
    for before, now in ((original.model, preset.model), (original.train, preset.train)):
        for field in dataclasses.fields(before):
            values = getattr(before, field.name), getattr(now, field.name)
            if values[0] != values[1] and field.name not in ("window", "n_targets"):
                changed[field.name] = values
    return changed


def _convert(key: str, value: Any, kind: Any) -> Any:
    """`value` as the type of the field, from text or from JSON."""
    options = _flatten(kind)
    optional = type(None) in options
    none = value is None or (isinstance(value, str) and value.lower() == "none")
    if none and optional:
        return None
    if value is None or (none and str not in options):  # distribute=none is a text
        raise InputError(f"{key}: a value is needed. Received: none.")
    parts = value.split(",") if isinstance(value, str) else value
    try:
        for option in options:
            if typing.get_origin(option) is tuple and (
                isinstance(parts, (list, tuple))
                and (len(parts) > 1 or str in typing.get_args(option))
            ):
                item = typing.get_args(option)[0]
                return tuple(_scalar(part, item) for part in parts)
        scalars = [option for option in options if option in (int, float, str)]
        return _scalar(value, scalars[0])
    except (ValueError, TypeError, IndexError) as error:
        expected = " or ".join(_type_name(option) for option in options)
        raise InputError(f"{key}: expected {expected}. Received: {value!r}.") from error


def _flatten(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(option for part in typing.get_args(kind) for option in _flatten(part))
    return (kind,)


def _scalar(value: Any, kind: type) -> Any:
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    if isinstance(value, bool) or (kind is not str and not isinstance(value, (int, float, str))):
        raise TypeError(value)
    converted = kind(value)
    if kind is float and not math.isfinite(converted):
        raise ValueError(value)
    return converted


def _type_name(option: Any) -> str:
    if option is type(None):
        return "none"
    if typing.get_origin(option) is tuple:
        return "several of them, separated by commas"
    return {int: "a whole number", float: "a number", str: "a text"}[option]
