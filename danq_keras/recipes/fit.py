"""A recipe fitted to the dataset that it will be trained on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from danq_keras.data.store import Dataset
from danq_keras.recipes.config import Preset
from danq_keras.system.errors import InputError


def fit_to_data(
    preset: Preset, dataset: Dataset, settings: Mapping[str, Any]
) -> tuple[Preset, list[int] | None]:
    """The preset with the data's window and number of targets, and the columns to train.

    Args:
        preset: the recipe, settings applied.
        dataset: open dataset, which tells the window L and the targets T.
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
