"""The LSTM's loop beside Keras' own layer: outputs and gradients, of both directions and gates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from danq_keras.models.layers import old_hard_sigmoid
from danq_keras.training.lstm_loop import use_loops


def outputs_and_gradients(model, inputs, weights):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(model(inputs, training=True) * weights)
    sources = [inputs, *(variable.value for variable in model.trainable_variables)]
    return [loss, *tape.gradient(loss, sources)]


@pytest.mark.parametrize("gates", ["sigmoid", old_hard_sigmoid])
@pytest.mark.parametrize("backwards", [False, True])
def test_it_is_the_layer_of_keras(rng, gates, backwards):
    """Large inputs too, at which hard gates are shut and open."""
    layer = keras.layers.LSTM(
        3, return_sequences=True, recurrent_activation=gates, go_backwards=backwards
    )
    inputs = keras.Input((7, 4))
    model = keras.Model(inputs, layer(inputs))
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=1.5))
    x = tf.constant(rng.normal(size=(5, 7, 4), scale=2), tf.float32)
    weights = tf.constant(rng.normal(size=(5, 7, 3)), tf.float32)
    expected = outputs_and_gradients(model, x, weights)
    predicted = model(x, training=False)
    keras_call = layer.call
    use_loops(model)
    assert layer.call is not keras_call
    found = outputs_and_gradients(model, x, weights)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(model(x, training=False), predicted)


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": False},
        {"activation": "relu"},
        {"recurrent_activation": "tanh"},
        {"dropout": 0.5},
        {"dtype": "mixed_bfloat16"},
    ],
)
def test_other_layers_stay_as_they_are(options):
    layer = keras.layers.LSTM(3, **{"return_sequences": True, **options})
    inputs = keras.Input((7, 4))
    model = keras.Model(inputs, layer(inputs))
    call = layer.call
    use_loops(model)
    assert layer.call == call
