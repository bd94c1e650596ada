"""The old stack's forward pass in NumPy float64, from the arrays of its weight file.

Nothing of Keras is used, so that an error in a layer or in the import of weights shows.

Source: Keras 0.2.0 and Theano 0.8.2, read and run.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.system.arrays import Doubles, Floats

PARTS = ("W", "U", "b")


def forward_float64(
    arrays: dict[str, Floats],
    onehot: npt.NDArray[Any],
    *,
    pool_size: int,
    wrapper: str = "time",
    keep: tuple[float, float] = (0.8, 0.5),
) -> Doubles:
    """The old stack's prediction, written out in NumPy from the arrays of the file.

    Args:
        arrays: name → float32 array in the old layout, as `legacy.read_old_weights` gives them.
        onehot: (N, L, 4) windows, channels A,G,C,T.
        pool_size: positions of the convolution that the max-pooling joins.
        wrapper: what the second LSTM reads: "time" backward, "seya" forward like the first.
        keep: factors of the two classic dropouts outside training, 1 - their rates.

    Returns:
        (N, T) float64 probabilities.
    """
    old = {name: array.astype(np.float64) for name, array in arrays.items()}
    kernel = old["conv.W"][:, :, :, 0]
    width = kernel.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.asarray(onehot, np.float64), width, axis=1
    )
    # True convolution: base i + j meets the kernel's column width - 1 - j.
    flat = np.ascontiguousarray(windows[..., ::-1]).reshape(*windows.shape[:2], -1)
    conv = flat @ kernel.reshape(len(kernel), -1).T + old["conv.b"]
    steps = conv.shape[1] // pool_size
    conv = conv[:, : steps * pool_size].reshape(len(conv), steps, pool_size, -1)
    pooled = np.maximum(conv.max(axis=2), 0.0) * keep[0]
    forward = _lstm_float64(old, "forward", pooled)
    if wrapper == "time":
        backward = _lstm_float64(old, "backward", pooled[:, ::-1])[:, ::-1]
    else:
        backward = _lstm_float64(old, "backward", pooled)
    hidden = np.concatenate([forward, backward], axis=2).reshape(len(pooled), -1) * keep[1]
    hidden = np.maximum(hidden @ old["dense.W"] + old["dense.b"], 0.0)
    probabilities: Doubles = 1 / (1 + np.exp(-(hidden @ old["output.W"] + old["output.b"])))
    return probabilities


def _lstm_float64(old: dict[str, Doubles], direction: str, inputs: Doubles) -> Doubles:
    """An LSTM with the old hard gates; returns the whole sequence (N, steps, units)."""

    def gate(name: str, x: Doubles, state: Doubles) -> Doubles:
        own = {part: old[f"{direction}.{part}_{name}"] for part in PARTS}
        total: Doubles = x @ own["W"] + state @ own["U"] + own["b"]
        return total

    def hard(x: Doubles) -> Doubles:
        clipped: Doubles = np.clip(0.2 * x + 0.5, 0.0, 1.0)
        return clipped

    units = old[f"{direction}.b_i"].shape[0]
    state, cell = np.zeros((len(inputs), units)), np.zeros((len(inputs), units))
    outputs = np.empty((len(inputs), inputs.shape[1], units))
    for step in range(inputs.shape[1]):
        x = inputs[:, step]
        i, f, o = (hard(gate(name, x, state)) for name in "ifo")
        cell = f * cell + i * np.tanh(gate("c", x, state))
        state = o * np.tanh(cell)
        outputs[:, step] = state
    return outputs
