"""Restudy: which windows were hard in an epoch, and so come again in the next.

A window is hard when its loss exceeds what the network itself expects. Where it predicts the
probability p it expects the entropy of p as loss, with the variance p (1 - p) logit(p)² of the log
loss of a Bernoulli variable; the score of a sample is its excess over the sum of the entropies of
its targets, in standard deviations. A window with many positives has a high loss by its labels
alone; where the network predicts them well its score is that of any other window.

Scores are those of the training step that saw the sample (dropout on), so they cost no pass over
the data, and a window's score is the mean of its strands. Ignored labels do not count.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.console import InputError
from danq_keras.pipeline import Integers, Order
from danq_keras.presets import TrainConfig

Floats = npt.NDArray[np.float32]

_LEAST_VARIANCE = 1e-12  # a network without any doubt expects no loss, and no deviation


def excess_scores(labels: Any, logits: Any, valid: Any) -> Any:
    """How far the loss of samples exceeds what the network expects, in standard deviations.

    Args:
        labels: (B, T) float32, 0 or 1.
        logits: (B, T) float32.
        valid: (B, T) float32, 1 for labels that count, else 0.

    Returns:
        (B,) float32; minus infinity for samples without a label that counts.
    """
    probs = tf.sigmoid(logits)
    # loss - entropy of one label: -y log p - (1 - y) log(1 - p) - H(p) = (p - y) logit(p)
    excess = tf.reduce_sum((probs - labels) * logits * valid, axis=1)
    variances = probs * tf.sigmoid(-logits) * tf.square(logits)
    variance = tf.reduce_sum(variances * valid, axis=1)
    scores = excess / tf.sqrt(tf.maximum(variance, _LEAST_VARIANCE))
    return tf.where(tf.reduce_any(valid > 0, axis=1), scores, -np.inf)


def windows_to_restudy(config: TrainConfig, order: Order) -> int:
    """How many windows come again in each epoch but the first.

    Raises:
        InputError: the share is above zero and of too few windows to be one.
    """
    n_windows = order.n_samples // order.strands
    n_again = round(config.restudy * n_windows)
    if config.restudy and not n_again:
        raise InputError(
            f"restudy: {config.restudy:g} of {n_windows} windows is none. Give a larger share, or "
            "0 for no restudy."
        )
    return n_again


def hardest_windows(scores: Floats, n: int) -> Integers:
    """(n,) int64 numbers, ascending, of the windows with the highest of `scores` (n_windows,).

    Of windows with equal scores the first are taken.
    """
    return np.sort(np.argsort(-scores, kind="stable")[:n]).astype(np.int64)
