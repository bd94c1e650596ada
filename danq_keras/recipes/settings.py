"""`KEY=VALUE` settings: read, checked by type, compared with a preset."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from danq_keras.recipes.config import ModelConfig, Preset, TrainConfig
from danq_keras.recipes.presets import get_preset
from danq_keras.system.errors import InputError, near_names

MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(ModelConfig))


TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))


def _field_types(config: type) -> dict[str, Any]:
    return typing.get_type_hints(config)


def apply_settings(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """A preset with some fields of its network or training changed.

    Args:
        preset: the recipe whose fields are changed.
        settings: field name → value, either typed (from JSON) or text (from `--set KEY=VALUE`;
            a comma separates the parts of a pair, "none" is None).

    Raises:
        InputError: an unknown key (a near one is named) or a value of the wrong kind.
    """
    changes: list[dict[str, Any]] = [{}, {}]
    for key, value in settings.items():
        if key in MODEL_FIELDS:
            changes[0][key] = _convert(key, value, _field_types(ModelConfig)[key])
        elif key in TRAIN_FIELDS:
            changes[1][key] = _convert(key, value, _field_types(TrainConfig)[key])
        else:
            near = ", ".join(near_names(key, MODEL_FIELDS + TRAIN_FIELDS))
            hint = f"Nearest: {near}." if near else "`list_settings` shows all there are."
            raise InputError(f"Unknown setting {key!r}. {hint}")
    if changes[1].get("optimizer", preset.train.optimizer) != preset.train.optimizer:
        # The preset's numbers belong to its optimizer: another one starts from its own defaults.
        changes[1] = {"rho": None, "epsilon": None, "momentum": None, **changes[1]}
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, **changes[0]),
        train=dataclasses.replace(preset.train, **changes[1]),
    )


_OF_THE_DATA = ("window", "n_targets")


def setting_text(value: Any) -> str:
    """A setting as `--set KEY=VALUE` takes it."""
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def changed_settings(preset: Preset) -> dict[str, tuple[Any, Any]]:
    """Settings in which a recipe differs from the preset of its name: key → (preset's, its own).

    Window and number of targets are the data's and do not count, nor what was fitted to the data.
    """
    original = get_preset(preset.name)
    changed = {}
    for before, now in ((original.model, preset.model), (original.train, preset.train)):
        for field in dataclasses.fields(before):
            values = getattr(before, field.name), getattr(now, field.name)
            if values[0] != values[1] and field.name not in (*_OF_THE_DATA, *preset.fitted):
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
        raise InputError(f"{key}: expected {type_text(key)}. Received: {value!r}.") from error


def type_text(key: str) -> str:
    """The kinds of values that a setting takes, such as "a number or none"."""
    kinds = _field_types(ModelConfig if key in MODEL_FIELDS else TrainConfig)
    return " or ".join(_type_name(option) for option in _flatten(kinds[key]))


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
