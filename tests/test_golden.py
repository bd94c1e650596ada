"""Our networks and our training step against numbers of the old stack itself."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from danq_keras import dna, legacy
from danq_keras.presets import PRESETS
from danq_keras.steps import TrainingStep

FILE = Path(__file__).parent / "data" / "keras02_small.h5"
PREDICTIONS = {"time": "pred_time_reversed", "seya": "pred_seya_upstream"}
PREDICTION_BOUND = 2e-6
LOSS_BOUND = 1e-6
FINAL_WEIGHT_BOUND = 1e-4


@pytest.fixture(scope="module")
def golden():
    with h5py.File(FILE) as file:
        yield file


def arrays_of(group, places):
    return {
        name: group[f"layer_{place}/param_{i}"][:]
        for place, names in zip(places, legacy.array_names(), strict=True)
        for i, name in enumerate(names)
    }


def config_of(arrays, wrapper, **changes):
    sizes = legacy.check_arrays(arrays, FILE)
    config = legacy.config_of(sizes, PRESETS["danq"].model, wrapper=wrapper, path=FILE)
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize("wrapper", ["time", "seya"])
def test_predictions_are_those_of_the_old_stack(golden, wrapper):
    arrays = arrays_of(golden["predict/weights"], legacy.LAYERS["danq"][1])
    onehot = dna.onehot_from_codes(golden["predict/x_base"][:]).astype(np.float32)
    expected = golden["predict"][PREDICTIONS[wrapper]][:]
    model = legacy.model_from_old(arrays, config_of(arrays, wrapper))
    np.testing.assert_allclose(
        model.predict(onehot, verbose=0), expected, rtol=0, atol=PREDICTION_BOUND
    )
    in_numpy = legacy.forward_float64(arrays, onehot, pool_size=13, wrapper=wrapper)
    np.testing.assert_allclose(in_numpy, expected, rtol=0, atol=PREDICTION_BOUND)


@pytest.mark.parametrize("run", ["default_init", "golden_init"])
def test_twenty_training_steps_are_those_of_the_old_stack(golden, run):
    group, places = golden["train"][run], (0, 2, 4, 6)
    if "initial" in group:
        initial = arrays_of(group["initial"], places)
    else:
        initial = arrays_of(golden["predict/weights"], legacy.LAYERS["danq"][1])
    config = config_of(initial, "time", dropout_pool=0.0, dropout_lstm=0.0)
    step = TrainingStep(config, PRESETS["danq"].train)
    step.model.set_weights(legacy.model_from_old(initial, config).get_weights())
    losses = []
    for codes, labels in zip(golden["train/x_base"][:], golden["train/y"][:], strict=True):
        batch = (tf.constant(dna.pack_codes(codes)), tf.constant(dna.pack_labels(labels)))
        losses.append(float(step(batch)[0]))
    np.testing.assert_allclose(losses, group["loss"][:], rtol=0, atol=LOSS_BOUND)
    final, expected = legacy.old_from_model(step.model), arrays_of(group["final"], places)
    for name, array in expected.items():
        np.testing.assert_allclose(
            final[name], array, rtol=0, atol=FINAL_WEIGHT_BOUND, err_msg=name
        )
        assert name == "conv.b" or not np.array_equal(initial[name], array), name
