"""A recipe fitted to the dataset that it will be trained on."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from danq_keras.data.prevalence import prevalences
from danq_keras.data.store import Dataset, is_dataset, read_header
from danq_keras.recipes.config import Preset
from danq_keras.recipes.presets import DEEPSEA_TARGETS, FITTED
from danq_keras.system.errors import InputError

_RARE_BELOW = 0.02
_RARE: Mapping[str, float] = {"dropout_pool": 0.2, "dropout_lstm": 0.5, "weight_decay": 0.01}
_COMMON: Mapping[str, float] = {"dropout_pool": 0.3, "dropout_lstm": 0.6, "weight_decay": 0.1}


def preset_for(data: Path | None) -> str:
    """The recipe that is taken when none is named.

    Args:
        data: folder of a dataset, or a DeepSEA bundle; None for the simulated demo.

    Returns:
        "danq" for DeepSEA's targets and for bundles, "danq-fitted" for other data, "demo" for none.

    Raises:
        InputError: the dataset is damaged.
    """
    if data is None:
        return "demo"
    if not is_dataset(data):
        return "danq"
    targets = read_header(data / "train.h5").targets
    return "danq" if len(targets) == DEEPSEA_TARGETS else FITTED


def fit_to_data(
    preset: Preset,
    dataset: Dataset,
    settings: Mapping[str, Any],
    *,
    said: Collection[str] = (),
) -> tuple[Preset, list[int] | None]:
    """The preset with the data's window and number of targets, and the columns to train.

    Args:
        preset: the recipe, settings applied.
        dataset: open dataset, which tells the window L and the targets T.
        settings: what the user said; a window or number of targets there must be the data's.
        said: further settings that the data must not change: a resumed run's, a file's.

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
    sizes: dict[str, Any] = {"window": dataset.window, "n_targets": n_targets}
    chosen: dict[str, Any] = {}
    if preset.name == FITTED:
        rows = dataset.train.draw(preset.train.train_limit, preset.train.data_seed)
        samples = 2 * len(rows) if dataset.train.both_strands else len(rows)
        chosen = fitted_sizes(
            window=dataset.window,
            n_targets=n_targets,
            samples=samples,
            prevalence=float(prevalences(dataset.train, rows, columns).mean()),
            batch_size=preset.train.batch_size,
        )
        chosen = {key: value for key, value in chosen.items() if key not in {*settings, *said}}
    of_model: dict[str, Any] = {
        key: value for key, value in chosen.items() if hasattr(preset.model, key)
    }
    of_training = {key: value for key, value in chosen.items() if key not in of_model}
    return dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, **sizes, **of_model),
        train=dataclasses.replace(preset.train, **of_training),
        fitted=(*(name for name in preset.fitted if name not in settings), *chosen),
    ), columns


def fitted_sizes(
    *, window: int, n_targets: int, samples: int, prevalence: float, batch_size: int
) -> dict[str, Any]:
    """The sizes, dropout and length of training that `danq-fitted` takes for some data.

    Measured on yeast (16,110 windows of 1 kb, 150 targets): 128 kernels of 19, pool 13, LSTM
    48 + 48, 40 epochs of 322 steps, windows moved by up to 60 bases. From there:

    - the pool is a 25th of the window, from 3 to 13, so that short windows keep about 20 positions;
    - windows are moved by up to 6 % of their length;
    - the dense layer is as wide as there are targets, from 96 to 925;
    - beyond 100 million bases an epoch the network is twice as wide, beyond 400 million as DanQ;
    - training has about 13,000 steps, from 8 to 40 epochs; the learning rate rises in the first
      third of the first: with a whole epoch the network passed counts of k-mers an epoch later;
    - where fewer than 2 % of the labels are positive, strong dropout and decay keep the network
      from learning: the test PR AUC of five yeast factors (0.9 %) was 0.279 with them and 0.348
      to 0.401 without, in three trainings (docs/recipes.md).

    Only the first row was measured at length: the wider networks are DanQ's own sizes and half.

    Args:
        window: bases of a window.
        n_targets: targets to train.
        samples: samples of an epoch; a strand of a window is a sample.
        prevalence: positive share of the labels, the mean of the targets.
        batch_size: samples of a step.

    Returns:
        Setting → value.
    """
    steps = max(1, math.ceil(samples / batch_size))
    bases = samples * window
    filters, lstm_units = (128, 48) if bases <= 100_000_000 else (256, 96)
    if bases > 400_000_000:
        filters, lstm_units = 320, 320
    pool = min(13, max(3, window // 25))
    return {
        "filters": filters,
        "kernel_size": max(1, min(19, window - pool + 1)),
        "pool_size": max(1, min(pool, window)),
        "lstm_units": lstm_units,
        "dense_units": min(925, max(96, n_targets)),
        "epochs": min(40, max(8, round(13_000 / steps))),
        "warmup_steps": max(1, steps // 3),
        "shift": round(0.06 * window),
        **(_RARE if prevalence < _RARE_BELOW else _COMMON),
    }
