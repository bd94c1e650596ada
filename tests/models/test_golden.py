"""Our networks and our training step against numbers of the old stack itself."""

import numpy as np
import pytest
from keras02 import (
    FINAL_WEIGHT_BOUND,
    LOSS_BOUND,
    PREDICTION_BOUND,
    ROUNDING_BOUND,
    golden_config,
    golden_predictions,
    golden_run,
    golden_step,
    take_golden_steps,
)

from danq_keras.models import legacy

FORGET_GATE = ("backward.W_f", "backward.U_f", "backward.b_f")


@pytest.mark.parametrize("wrapper", ["time", "seya"])
def test_predictions_are_those_of_the_old_stack(wrapper):
    arrays, onehot, expected = golden_predictions(wrapper)
    model = legacy.model_from_old(arrays, golden_config(arrays, wrapper))
    np.testing.assert_allclose(
        model.predict(onehot, verbose=0), expected, rtol=0, atol=PREDICTION_BOUND
    )
    in_numpy = legacy.forward_float64(arrays, onehot, pool_size=13, wrapper=wrapper)
    np.testing.assert_allclose(in_numpy, expected, rtol=0, atol=PREDICTION_BOUND)


@pytest.mark.parametrize("run", ["default_init", "golden_init"])
def test_twenty_training_steps_are_those_of_the_old_stack(run):
    initial, expected_losses, expected = golden_run(run)
    losses, final = take_golden_steps(golden_step(initial))
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=LOSS_BOUND)
    for name, array in expected.items():
        np.testing.assert_allclose(
            final[name], array, rtol=0, atol=FINAL_WEIGHT_BOUND, err_msg=name
        )
        assert name == "conv.b" or not np.array_equal(initial[name], array), name


@pytest.mark.parametrize(
    ("run", "tied", "clipped"), [("default_init", {0, 6}, set()), ("golden_init", set(), {7})]
)
def test_what_exceeds_rounding_was_a_tie_or_a_gate_at_its_kink(run, tied, clipped):
    """Why some final weights are only within 5e-5.

    In steps 13 and 18 of `default_init` two windows of one pool differ by 2.4e-8 and 3.9e-8 under
    kernels 0 and 6: which of them is the maximum, and gets the gradient, is decided by rounding. In
    step 15 of `golden_init` the backward LSTM's forget gate of unit 7 lies 6e-8 from where the hard
    sigmoid is cut off, and whether it gets a gradient is decided likewise: some machines differ by
    6.8e-6 there. Everything else agrees in both runs as far as float32 goes.
    """
    initial, _, expected = golden_run(run)
    _, final = take_golden_steps(golden_step(initial))
    kernels = np.abs(final["conv.W"] - expected["conv.W"]).max(axis=(1, 2, 3))
    assert set(np.flatnonzero(kernels > ROUNDING_BOUND)) <= tied
    for name in expected.keys() - {"conv.W"}:
        apart = np.abs(final[name] - expected[name])
        beyond = set(np.nonzero(apart > ROUNDING_BOUND)[-1].tolist())
        assert beyond <= (clipped if name in FORGET_GATE else set()), (name, apart.max())
