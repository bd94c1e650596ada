"""Convolution, activation and pool in fewer passes, beside Keras' own layers."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from danq_keras.training import step
from danq_keras.training.conv_pool import in_fewer_passes, pooled_convolutions
from danq_keras.training.trainer import Trainer

L, FILTERS, KERNEL = 31, 5, 4


def network(activation="relu", pool=3, **options):
    inputs = keras.Input((L, 4))
    hidden = keras.layers.Conv1D(FILTERS, KERNEL, activation=activation, **options)(inputs)
    return keras.Model(inputs, keras.layers.MaxPooling1D(pool)(hidden))


def outputs_and_gradients(model, inputs, weights, pairs=()):
    @tf.function
    def step():
        with tf.GradientTape() as tape, in_fewer_passes(pairs):
            outputs = model(inputs, training=True)
        values = [variable.value for variable in model.trainable_variables]
        return [outputs, *tape.gradient(outputs, values, output_gradients=weights)]

    return step()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("pool", [1, 3, 7, 13])
def test_they_are_the_layers_of_keras(rng, activation, pool):
    """Where values are equal in a pool, as in runs of one base, the first has the gradient.

    Of the 28 outputs the pools of 3 and 13 leave some out.
    """
    model = network(activation, pool)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    codes = rng.integers(0, 4, (6, L))
    codes[0] = 1
    codes[1, 8:] = 2
    x = tf.one_hot(codes, 4)
    weights = tf.constant(rng.normal(size=(6, (L - KERNEL + 1) // pool, FILTERS)), tf.float32)
    expected = outputs_and_gradients(model, x, weights)
    pairs = pooled_convolutions(model, batch_size=6, least_values=1)
    assert len(pairs) == 1
    found = outputs_and_gradients(model, x, weights, pairs)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    for ours, theirs in zip(outputs_and_gradients(model, x, weights), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # afterwards they are Keras' again


def test_they_are_keras_own_after_an_error():
    model = network()
    (pair,) = pooled_convolutions(model, batch_size=1, least_values=1)
    calls = pair.convolution.call, pair.pool.call
    with pytest.raises(ValueError, match="incompatible"), in_fewer_passes([pair]):
        model(tf.zeros((2, 4)))
    assert (pair.convolution.call, pair.pool.call) == calls


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh"},
        {"activation": keras.activations.silu},
        {"use_bias": False},
        {"dtype": "mixed_bfloat16"},
    ],
)
def test_other_convolutions_stay_as_they_are(options):
    assert not pooled_convolutions(network(**options), batch_size=100, least_values=1)


def test_other_pools_stay_as_they_are():
    """Windows that overlap, ends that are filled up, values that another layer reads too."""
    inputs = keras.Input((L, 4))
    hidden = keras.layers.Conv1D(FILTERS, KERNEL, activation="relu")(inputs)
    for pool in (
        keras.layers.MaxPooling1D(3, strides=2),
        keras.layers.MaxPooling1D(3, padding="same"),
        keras.layers.AveragePooling1D(3),
    ):
        model = keras.Model(inputs, pool(hidden))
        assert not pooled_convolutions(model, batch_size=100, least_values=1)
    both = [keras.layers.MaxPooling1D(3)(hidden), keras.layers.Flatten()(hidden)]
    assert not pooled_convolutions(keras.Model(inputs, both), batch_size=100, least_values=1)


def test_small_ones_stay_as_they_are():
    model = network()
    values = (L - KERNEL + 1) * FILTERS
    assert pooled_convolutions(model, batch_size=2, least_values=2 * values)
    assert not pooled_convolutions(model, batch_size=2, least_values=2 * values + 1)
    assert not pooled_convolutions(model, batch_size=100)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_training_with_them(activation, tmp_path, monkeypatch):
    """Like one without them to rounding, and bit for bit the same in single steps and in calls."""
    data = tiny.make_dataset(tmp_path / "data")
    weights = []
    for number, at_once in enumerate((1, 1, 4)):
        if number:
            least = functools.partial(pooled_convolutions, least_values=1)
            monkeypatch.setattr(step, "pooled_convolutions", least)
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        preset = tiny.preset(epochs=2, conv_activation=activation, steps_per_call=at_once)
        trainer = Trainer(preset, data, folder)
        assert len(trainer.step._pooled) == bool(number)
        trainer.fit()
        weights.append(trainer.model.get_weights())
    for without, single, in_calls in zip(*weights, strict=True):
        np.testing.assert_allclose(single, without, atol=1e-5)
        np.testing.assert_array_equal(in_calls, single)
