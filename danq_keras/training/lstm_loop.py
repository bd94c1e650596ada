"""Keras' LSTM in a training step on a CPU, with its backward pass written out.

Keras multiplies the input of every time step by itself, and TensorFlow's gradient of its loop keeps
a list of every intermediate and adds the gradient of the weights up step by step. Here what needs
no recursion is done for all steps at once, in large products: the input's share of the gates before
the loop, the derivatives of the gates and the gradients of the weights after it. The layer, its
weights and what is saved are Keras'; the result differs in rounding (3e-7 of the largest value).
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from danq_keras.models.layers import old_hard_sigmoid


def use_loops(model: keras.Model) -> None:
    """Let the LSTM layers of a float32 network train by the loops of this module.

    Prediction stays Keras' own.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM) and _is_known(layer):
            layer.call = _training_call(layer, layer.call)


def _is_known(layer: keras.layers.LSTM) -> bool:
    gates = (keras.activations.sigmoid, old_hard_sigmoid)
    cell = layer.cell
    return (
        cell.recurrent_activation in gates
        and cell.activation is keras.activations.tanh
        and layer.return_sequences
        and layer.compute_dtype == "float32"
        and not (cell.dropout or cell.recurrent_dropout or layer.stateful)
    )


def _training_call(layer: keras.layers.LSTM, keras_call: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        if not training or initial_state is not None or mask is not None:
            return keras_call(sequences, initial_state=initial_state, mask=mask, training=training)
        return _outputs(layer, sequences)

    return call


def _outputs(layer: keras.layers.LSTM, sequences: tf.Tensor) -> tf.Tensor:
    """(B, P, H) hidden states of sequences (B, P, D), in the order in which Keras gives them."""
    n_steps, width, units = sequences.shape[1], sequences.shape[2], layer.units
    gate = layer.cell.recurrent_activation
    # Keras' order is input, forget, candidate, output: the three sigmoids come together.
    order = [*range(2 * units), *range(3 * units, 4 * units), *range(2 * units, 3 * units)]
    kernel, recurrent, bias = (
        tf.gather(variable.value, order, axis=-1) for variable in layer.cell.trainable_variables
    )
    inputs = tf.transpose(sequences, (1, 0, 2))
    if layer.go_backwards:
        inputs = tf.reverse(inputs, [0])
    shares = tf.matmul(tf.reshape(inputs, (-1, width)), kernel) + bias
    shares = tf.reshape(shares, (n_steps, -1, 4 * units))
    return tf.transpose(_recursion(n_steps, units, gate)(shares, recurrent), (1, 0, 2))


def _recursion(n_steps: int, units: int, gate: Callable[..., Any]) -> Callable[..., Any]:
    """From (P, B, 4H) the input's share of the gates, and (H, 4H), to (P, B, H) hidden states."""

    def array(width: int) -> tf.TensorArray:
        return tf.TensorArray(tf.float32, n_steps, element_shape=(None, width))

    def slope(gates: tf.Tensor) -> tf.Tensor:
        if gate is old_hard_sigmoid:
            return 0.2 * tf.cast((gates > 0) & (gates < 1), tf.float32)
        return gates * (1 - gates)

    @tf.custom_gradient
    def run(shares: tf.Tensor, recurrent: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        zeros = tf.zeros((tf.shape(shares)[1], units))

        def ahead(step: Any, hidden: Any, cell: Any, *arrays: Any) -> tuple[Any, ...]:
            values = shares[step] + tf.matmul(hidden, recurrent)
            gates, candidate = gate(values[:, : 3 * units]), tf.tanh(values[:, 3 * units :])
            cell = gates[:, units : 2 * units] * cell + gates[:, :units] * candidate
            hidden = gates[:, 2 * units :] * tf.tanh(cell)
            kept = (hidden, cell, gates, candidate)
            written = (each.write(step, value) for each, value in zip(arrays, kept, strict=True))
            return step + 1, hidden, cell, *written

        start = (0, zeros, zeros, array(units), array(units), array(3 * units), array(units))
        _, _, _, *arrays = tf.while_loop(
            lambda step, *_: step < n_steps, ahead, start, parallel_iterations=1
        )
        hiddens, cells, gates, candidates = (each.stack() for each in arrays)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            into, forget, out = tf.split(gates, 3, axis=2)
            squashed = tf.tanh(cells)
            before = tf.concat([zeros[None], cells[:-1]], 0)
            # What a change of the cell (three times) or of the hidden state (out) does to the sums.
            of_cell = out * (1 - squashed * squashed)
            factors = tf.concat([candidates, before, squashed], 2) * slope(gates)
            factors = tf.concat([factors, into * (1 - candidates * candidates)], 2)
            turned = tf.transpose(recurrent)

            def back(step: Any, d_hidden: Any, d_cell: Any, array: Any) -> tuple[Any, ...]:
                d_hidden = upstream[step] + d_hidden
                d_cell = d_cell + d_hidden * of_cell[step]
                d_sums = tf.concat([d_cell, d_cell, d_hidden, d_cell], 1) * factors[step]
                return (
                    step - 1,
                    tf.matmul(d_sums, turned),
                    d_cell * forget[step],
                    array.write(step, d_sums),
                )

            *_, filled = tf.while_loop(
                lambda step, *_: step >= 0,
                back,
                (n_steps - 1, zeros, zeros, array(4 * units)),
                parallel_iterations=1,
            )
            d_shares = filled.stack()
            earlier = tf.concat([zeros[None], hiddens[:-1]], 0)
            d_recurrent = tf.matmul(
                tf.reshape(earlier, (-1, units)),
                tf.reshape(d_shares, (-1, 4 * units)),
                transpose_a=True,
            )
            return d_shares, d_recurrent

        return hiddens, gradient

    return run
