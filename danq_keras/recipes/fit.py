"""A recipe from its preset, the command line and the dataset it will be trained on.

Loads no TensorFlow: `train_danq.py` and `tune_danq.py` share it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from danq_keras.data.store import Dataset
from danq_keras.recipes.config import Preset
from danq_keras.system.errors import InputError


def read_pairs(pairs: Iterable[str], settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`--set` pairs as settings in text, added to those that flags gave.

    Args:
        pairs: texts KEY=VALUE.
        settings: what other flags say.

    Raises:
        InputError: a pair is malformed, or a key is given twice with different values.
    """
    found = dict(settings or {})
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"--set takes KEY=VALUE. Received: {pair!r}.")
        if found.get(key, value) != value:
            raise InputError(f"{key} is given twice: {found[key]} and {value}. Give it once.")
        found[key] = value
    return found


def fit_to_data(
    preset: Preset, dataset: Dataset, settings: Mapping[str, Any]
) -> tuple[Preset, list[int] | None]:
    """The preset with the data's window and number of targets, and the columns to train.

    Args:
        preset: the recipe, settings applied.
        dataset: the data.
        settings: what the user said; a window or number of targets there must be the data's.

    Returns:
        The fitted preset, and the numbers of the dataset's targets, None for all.

    Raises:
        InputError: the settings contradict the data, or name an unknown target.
    """
    columns = None
    if preset.train.targets is not None:
        columns = dataset.targets.find(preset.train.targets)
    n_targets = len(columns) if columns is not None else len(dataset.targets)
    for key, actual in (("window", dataset.window), ("n_targets", n_targets)):
        if key in settings and getattr(preset.model, key) != actual:
            raise InputError(
                f"{key}={settings[key]}: {dataset.folder} has {actual}. Leave the setting out."
            )
    model = dataclasses.replace(preset.model, window=dataset.window, n_targets=n_targets)
    return dataclasses.replace(preset, model=model), columns
