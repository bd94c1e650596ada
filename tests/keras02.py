"""Weight files of Keras 0.2.0 from random numbers, and the checks against its golden file.

The layout is written out here by itself, so that an error in `legacy` shows. A file is a dict:
layer number → its arrays in order; layers without arrays are empty lists.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from danq_keras.genome import dna
from danq_keras.models import legacy
from danq_keras.recipes.presets import PRESETS
from danq_keras.training.step import TrainingStep

GOLDEN = Path(__file__).parent / "data" / "keras02_small.h5"
PREDICTIONS = {"time": "pred_time_reversed", "seya": "pred_seya_upstream"}
PREDICTION_BOUND = 2e-6
LOSS_BOUND = 1e-6
FINAL_WEIGHT_BOUND = 1e-4
# Of final weights where no tie is decided. Machines differ in the order of their sums: after twenty
# steps at most 0.9e-6 was seen on most, 1.67e-6 on one; a tie decided otherwise gives up to 5e-5.
ROUNDING_BOUND = 3e-6

PLACES = {"danq": (10, (0, 3, 6, 8)), "danq-jaspar": (8, (0, 3, 6, 7))}


@dataclass(frozen=True)
class Size:
    filters: int = 6
    width: int = 7
    units: int = 5
    steps: int = 10
    dense: int = 9
    targets: int = 4


# windows of 60 bases pooled by 5: (60 - 7 + 1) // 5 = 10 steps
SMALL = Size()
FULL = {
    "danq": Size(320, 26, 320, 75, 925, 919),
    "danq-jaspar": Size(1024, 30, 512, 64, 925, 919),
}


def random_layers(preset="danq", size=SMALL, *, seed=0, spread=3.0):
    """Layers of a file; `spread` widens the first ones until many gates are clipped."""
    rng = np.random.default_rng(seed)

    def uniform(shape, limit):
        values = rng.random(shape, np.float32)
        values *= np.float32(2 * limit)
        values -= np.float32(limit)
        return values

    def glorot(rows, columns):
        return uniform((rows, columns), (6 / (rows + columns)) ** 0.5)

    n_layers, (conv, lstm, dense, output) = PLACES[preset]
    layers = {number: [] for number in range(n_layers)}
    layers[conv] = [
        uniform((size.filters, 4, size.width, 1), spread * 0.1),
        uniform(size.filters, 0.1),
    ]
    for _direction in range(2):
        for gate in range(4):  # input, cell, forget, output
            layers[lstm] += [
                spread * glorot(size.filters, size.units),
                glorot(size.units, size.units),
                uniform(size.units, 0.5) + np.float32(gate == 2),
            ]
    rows = size.steps * 2 * size.units
    layers[dense] = [glorot(rows, size.dense), uniform(size.dense, 0.1)]
    layers[output] = [glorot(size.dense, size.targets), uniform(size.targets, 0.5)]
    return layers


def write(path, layers):
    """Write layers as `save_weights` of Keras 0.2.0 did."""
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = len(layers)
        for number, arrays in layers.items():
            group = file.create_group(f"layer_{number}")
            group.attrs["nb_params"] = len(arrays)
            for i, array in enumerate(arrays):
                group.create_dataset(f"param_{i}", data=array)
    return path


def arrays_of(group, places):
    """Arrays by name of a group of the golden file."""
    return {
        name: group[f"layer_{place}/param_{i}"][:]
        for place, names in zip(places, legacy.array_names(), strict=True)
        for i, name in enumerate(names)
    }


def golden_config(arrays, wrapper="time", **changes):
    """The golden network: danq's preset with the sizes of its arrays."""
    sizes = legacy.check_arrays(arrays, GOLDEN)
    config = legacy.config_of(sizes, PRESETS["danq"].model, wrapper=wrapper, path=GOLDEN)
    return type(config)(**{**config.__dict__, **changes})


def golden_predictions(wrapper="time"):
    """Weights, one-hot windows (8, 1000, 4) and the old stack's probabilities (8, 12)."""
    with h5py.File(GOLDEN) as file:
        arrays = arrays_of(file["predict/weights"], legacy.LAYERS["danq"][1])
        onehot = dna.onehot_from_codes(file["predict/x_base"][:]).astype(np.float32)
        return arrays, onehot, file["predict"][PREDICTIONS[wrapper]][:]


def golden_run(run):
    """Initial weights, the losses (20,) of the old stack and its final weights."""
    places = (0, 2, 4, 6)  # without dropout layers
    with h5py.File(GOLDEN) as file:
        group = file["train"][run]
        if "initial" in group:
            initial = arrays_of(group["initial"], places)
        else:
            initial = arrays_of(file["predict/weights"], legacy.LAYERS["danq"][1])
        return initial, group["loss"][:], arrays_of(group["final"], places)


def golden_step(initial, train=PRESETS["danq"].train, **changes):
    """Our training step, at the start of a golden run."""
    config = golden_config(initial, **{"dropout_pool": 0.0, "dropout_lstm": 0.0, **changes})
    step = TrainingStep(config, train)
    step.model.set_weights(legacy.model_from_old(initial, config).get_weights())
    return step


def take_golden_steps(step, *, recode=None):
    """Losses (20,) and final weights of a step on the golden batches."""
    losses = []
    with h5py.File(GOLDEN) as file:
        for codes, labels in zip(file["train/x_base"][:], file["train/y"][:], strict=True):
            codes = codes if recode is None else recode[codes]
            batch = (tf.constant(dna.pack_codes(codes)), tf.constant(dna.pack_labels(labels)))
            losses.append(float(step(batch)[0]))
    return np.array(losses), legacy.old_from_model(step.model)


def largest_difference(one, other):
    """Between arrays, or between dicts of arrays."""
    if isinstance(one, dict):
        return max(largest_difference(one[name], other[name]) for name in other)
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())
