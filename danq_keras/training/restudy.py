"""Restudy: which windows were hard in an epoch, and so come again in the next.

A window is hard when its loss exceeds what the network itself expects. Where it predicts the
probability p it expects the entropy of p as loss, with the variance p (1 - p) logit(p)² of the log
loss of a Bernoulli variable; the score of a sample is its excess over the sum of the entropies of
its targets, in standard deviations. A window with many positives has a high loss by its labels
alone; where the network predicts them well its score is that of any other window.

That holds as far as the network knows how many positives to expect. Where it does not, windows
with many positives are hard, and come again; `restudy_by=matched` then ranks each window among
those with about as many positives, so that every number of positives has its share of them.

Scores are those of the training step that saw the sample (dropout on), so they cost no pass over
the data, and a window's score is the mean of its strands. Ignored labels do not count.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from danq_keras.data.store import Split, label_blocks
from danq_keras.genome.dna import unpack_labels
from danq_keras.recipes.config import TrainConfig
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.training.pipeline import Integers, Order

_MATCHED_WINDOWS = 200  # at least so many are compared with each other
_LEAST_VARIANCE = 1e-12  # a network without any doubt expects no loss, and no deviation


def excess_scores(labels: Any, logits: Any, valid: Any) -> Any:
    """How far the loss of samples exceeds what the network expects, in standard deviations.

    Args:
        labels: (B, T) float32, 0 or 1.
        logits: (B, T) float32, what the network says before the sigmoid.
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


class Curriculum:
    """Which samples an epoch has: all of them, and with restudy the hardest windows once more.

    `order` is that of the epoch under way. With restudy, `scores` (n_samples,) float32 are those of
    the samples when last seen, and `again` int64 the windows that come twice in the epoch under
    way; without, both are None.

    Args:
        config: seed, limit and restudy of the training.
        split: training split of the dataset, N windows.
        columns: numbers of the targets that count; None for all.

    Raises:
        InputError: no windows to train on, or the share to restudy is of too few to be one.
    """

    def __init__(
        self, config: TrainConfig, split: Split, *, columns: list[int] | None = None
    ) -> None:
        self._matched = config.restudy_by == "matched"
        self.order = Order.of(
            split, seed=config.seed, limit=config.train_limit, data_seed=config.data_seed
        )
        self.n_again = windows_to_restudy(config, self.order)
        self.scores: Floats | None = None
        if self.n_again:
            self.order = dataclasses.replace(self.order, replace=config.restudy_mode == "replace")
            self.scores = np.zeros(self.order.n_samples, np.float32)
            self._positives = count_positives_of_windows(split, self.order, columns)

    @property
    def again(self) -> Integers | None:
        """Windows that come twice in the epoch under way."""
        return self.order.again

    def total_steps(self, *, epochs: int, batch_size: int) -> int:
        """Optimizer steps of the whole training; the first epoch has no window twice."""
        first, later = (
            dataclasses.replace(self.order, again=again).steps(batch_size)
            for again in (None, np.arange(self.n_again))
        )
        return first + (epochs - 1) * later

    def see(self, samples: Integers, scores: Floats) -> None:
        """Keep the scores (B,) float32 of samples (B,) that a step has seen."""
        if self.scores is not None:
            self.scores[samples] = scores

    def choose(self) -> str | None:
        """Settle the order of the next epoch; what there is to say about it, None for nothing."""
        if self.scores is None:
            return None
        scores = self.scores.reshape(self.order.strands, -1).mean(axis=0)
        if self._matched:
            scores = match_positives(scores, self._positives)
        again = hardest_windows(scores, self.n_again)
        self.order = dataclasses.replace(self.order, again=again)
        return (
            f"  restudy: {self.n_again:,} windows come again; they have "
            f"{self._positives[again].mean():.1f} positives on average, all windows "
            f"{self._positives.mean():.1f}"
        )

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a checkpoint."""
        return {"scores": self.scores, "again": self.again}

    def restore(self, scores: Floats | None, again: Integers | None) -> None:
        """Go on where a checkpoint stands."""
        self.scores = scores
        self.order = dataclasses.replace(self.order, again=again)


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


def count_positives_of_windows(
    split: Split, order: Order, columns: list[int] | None = None
) -> Integers:
    """(n_windows,) int64 positives that count, of the windows of an order.

    Args:
        split: training split of the dataset, N windows.
        order: which of its windows.
        columns: numbers of the targets that count; None for all.
    """
    counts = []
    for packed, ignore in label_blocks(split, order.windows):
        counting = packed if ignore is None else packed & ~ignore
        labels = unpack_labels(counting, split.n_targets)
        counts.append((labels if columns is None else labels[:, columns]).sum(1, dtype=np.int64))
    return np.concatenate(counts)


def match_positives(scores: Floats, positives: Integers) -> Floats:
    """Scores (n_windows,) as deviations from those of windows with about as many positives.

    Windows are grouped by their number of positives; neighbouring numbers share a group until it
    has 200 windows. A score becomes its distance from the mean of its group, in the group's
    standard deviations; minus infinity stays.
    """
    at_most = np.cumsum(np.bincount(positives))  # number of positives → windows with up to so many
    group_of = np.zeros(len(at_most), np.int64)
    begin, group = 0, 0
    for number, total in enumerate(at_most):
        group_of[number] = group
        if total - begin >= _MATCHED_WINDOWS and at_most[-1] - total >= _MATCHED_WINDOWS:
            begin, group = total, group + 1
    groups = group_of[positives]
    counted = np.isfinite(scores)
    values = np.where(counted, scores, 0.0).astype(np.float64)
    n = np.maximum(1, np.bincount(groups, counted))
    mean = np.bincount(groups, values) / n
    deviations = np.where(counted, values - mean[groups], 0.0)
    spread = np.sqrt(np.bincount(groups, deviations**2) / n)
    matched = deviations / np.maximum(spread, _LEAST_VARIANCE)[groups]
    return np.where(counted, matched, -np.inf).astype(np.float32)
