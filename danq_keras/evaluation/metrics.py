"""Exact figures per target: ROC AUC, PR AUC, accuracy, F1, thresholds, loss, bootstrap intervals.

In: `labels` (N, T) uint8 or bool, 0 or 1; `probs` (N, T) float32 or float64, any finite scores;
`ignore` (N, T) bool or uint8, optional: entries that do not count. Out: arrays (T,), NaN where a
target has no positive or no negative among the entries that count.

Nothing is binned or sampled: ties count as in scikit-learn. All that these figures need is, at
each distinct score of a positive, how many positives and negatives lie above it. So a target costs
one sort of its scores by value (no indices) and two binary searches for its few positives, and
targets run in threads, since NumPy's sort releases the interpreter lock.

Averages over groups of targets, tables and files are the caller's (`report`).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.system.arrays import Doubles
from danq_keras.system.terminal import progress
from danq_keras.system.threads import n_threads

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.bool_]
Scores: TypeAlias = npt.NDArray[np.floating[Any]]  # float32 or float64

_COLUMNS = 16  # 16 float32 are one cache line of a row: fewer would read lines twice
_ROWS = 1 << 12


@dataclass(frozen=True, eq=False)
class TargetMetrics:
    """Figures of T targets; each field is an array (T,).

    Attributes:
        positives: int64, entries with label 1 that count.
        negatives: int64, entries with label 0 that count.
        auroc: float64, area under the ROC curve, a tie counting one half.
        auprc: float64, average precision.
        auprc_interpolated: float64, area under the linearly interpolated precision-recall curve,
            from (recall 0, precision 1) over all distinct scores: the published kind.
        accuracy: float64, at the threshold given to `evaluate`.
        f1: float64, at the same threshold.
        best_f1: float64, the highest F1 of any threshold, over these very data: optimistic.
        best_threshold: float64, the highest threshold that reaches it; a score equal to it is
            called positive.
    """

    positives: Ints
    negatives: Ints
    auroc: Doubles
    auprc: Doubles
    auprc_interpolated: Doubles
    accuracy: Doubles
    f1: Doubles
    best_f1: Doubles
    best_threshold: Doubles

    def __len__(self) -> int:
        return len(self.positives)

    def subset(self, indices: Sequence[int] | Ints) -> "TargetMetrics":
        """The targets at `indices`, in that order."""
        chosen = np.asarray(indices, np.intp)
        return TargetMetrics(**{item.name: getattr(self, item.name)[chosen] for item in _FIELDS})


_FIELDS = fields(TargetMetrics)


@dataclass(frozen=True)
class Macro:
    """Means and medians over the targets that count; NaN when none does.

    `n_counted` of `n_total` targets have at least `min_positives` positives and a negative.
    """

    n_counted: int
    n_total: int
    min_positives: int
    auroc_mean: float
    auroc_median: float
    auprc_mean: float
    auprc_median: float
    auprc_interpolated_mean: float
    auprc_interpolated_median: float
    accuracy_mean: float
    f1_mean: float
    best_f1_mean: float


def evaluate(
    labels: Flags, probs: Scores, *, ignore: Flags | None = None, threshold: float = 0.5
) -> TargetMetrics:
    """All figures of all targets.

    Args:
        labels: (N, T) uint8 or bool, 0 or 1.
        probs: (N, T) float32 or float64.
        ignore: (N, T), not zero where an entry does not count.
        threshold: a score at or above it is called positive, for `accuracy` and `f1`.

    Raises:
        ValueError: the shapes differ, or a score is NaN.
    """
    check_pair(labels, probs, ignore)
    results = per_target(
        lambda y, p, _: _one_target(y, p, threshold), labels, probs, ignore=ignore, desc="metrics"
    )
    columns = np.array(results, np.float64).reshape(-1, len(_FIELDS)).T
    counts = columns[:2].astype(np.int64)
    return TargetMetrics(counts[0], counts[1], *columns[2:])


def check_pair(labels: Flags, probs: Scores, ignore: Flags | None) -> None:
    """Refuse labels and probabilities of different shapes, and probabilities that are no floats."""
    if probs.ndim != 2 or labels.shape != probs.shape:
        raise ValueError(
            f"labels and probs have one shape (N, T). Received: {labels.shape}, {probs.shape}."
        )
    if ignore is not None and ignore.shape != probs.shape:
        raise ValueError(f"ignore has the shape of probs, {probs.shape}. Received: {ignore.shape}.")
    if probs.dtype not in (np.float32, np.float64):
        raise ValueError(f"probs are float32 or float64. Received: {probs.dtype}.")


def per_target(
    function: Callable[[npt.NDArray[np.bool_], Scores, Any], Any],
    labels: Flags,
    probs: Scores,
    *,
    ignore: Flags | None,
    desc: str,
) -> list[Any]:
    """`function(labels, scores, rows)` of each target, for the rows that count, in threads."""

    def columns(begin: int) -> list[Any]:
        part = slice(begin, begin + _COLUMNS)
        y = np.ascontiguousarray(labels[:, part].T).astype(bool)
        p = np.ascontiguousarray(probs[:, part].T)
        if ignore is None:
            return [function(*pair, slice(None)) for pair in zip(y, p, strict=True)]
        keep = np.ascontiguousarray(ignore[:, part].T) == 0
        return [function(y[i][keep[i]], p[i][keep[i]], keep[i]) for i in range(len(p))]

    n_targets = probs.shape[1]
    # A validation of 8,000 rows takes a fraction of a second: no bar for that.
    quiet = probs.size < 5e7 and desc == "metrics"
    results: list[Any] = []
    with (
        ThreadPoolExecutor(n_threads()) as pool,
        progress(total=n_targets, desc=desc, unit="target", disable=quiet) as bar,
    ):
        for part in pool.map(columns, range(0, n_targets, _COLUMNS)):
            results += part
            bar.update(len(part))
    return results


def _one_target(y: npt.NDArray[np.bool_], p: Scores, threshold: float) -> tuple[float, ...]:
    """The figures of one target, in the order of `TargetMetrics`."""
    positive = np.sort(p[y])
    everything = np.sort(p)
    if len(p) and np.isnan(everything[-1]):  # NumPy sorts NaN to the end
        raise ValueError("A score is NaN. Did the training diverge? Look at its loss.")
    n_positive, n_negative = len(positive), len(p) - len(positive)
    if not n_positive or not n_negative:
        return (n_positive, n_negative, *[np.nan] * (len(_FIELDS) - 2))
    # Distinct scores of positives, rising; of each, how many entries lie at and below it.
    first = np.flatnonzero(np.concatenate(([True], positive[1:] != positive[:-1])))
    score = positive[first]
    at = np.diff(first, append=n_positive)
    below = np.searchsorted(everything, score, "left")
    through = np.searchsorted(everything, score, "right")
    negatives_below = below - first
    negatives_at = through - below - at

    # Integers until the division: exact for any N.
    auroc = int(np.sum(at * (2 * negatives_below + negatives_at))) / (2 * n_positive * n_negative)

    true_positives = n_positive - first
    called = len(p) - below
    precision = true_positives / called
    auprc = float(np.sum(at * precision)) / n_positive
    f1 = 2 * true_positives / (n_positive + called)
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    true_at = n_positive - _count_below(positive, threshold)
    called_at = len(p) - _count_below(everything, threshold)
    wrong = (n_positive - true_at) + (called_at - true_at)
    return (
        n_positive,
        n_negative,
        auroc,
        auprc,
        _interpolated(at, precision, true_positives, len(p) - through),
        1 - wrong / len(p),
        2 * true_at / (n_positive + called_at),
        f1[best],
        score[best],
    )


def _count_below(values: Scores, threshold: float) -> int:
    """How many of the sorted `values` are below `threshold`, compared as float64."""
    key = values.dtype.type(threshold)
    if float(key) < threshold:  # rounding to float32 must not lower the bar
        key = np.nextafter(key, values.dtype.type(np.inf))
    return int(np.searchsorted(values, key, "left"))


def _interpolated(at: Ints, precision: Doubles, true_positives: Ints, above: Ints) -> float:
    """Area of the trapezoids between successive points of the precision-recall curve.

    Scores without a positive move the curve only up or down, at the same recall. So each distinct
    score of a positive adds one trapezoid, from the precision among the `above` entries that
    score strictly higher; where there is none, the curve starts at precision 1.
    """
    before = np.ones(len(at))
    np.divide(true_positives - at, above, out=before, where=above > 0)
    return float(np.sum(at * (before + precision)) / (2 * true_positives[0]))


def matthews(
    labels: Flags, probs: Scores, *, ignore: Flags | None = None, threshold: float = 0.5
) -> Doubles:
    """Matthews correlation of each target (T,) at a threshold; NaN where a class is missing.

    0 where every score is on one side of the threshold. The arguments are those of `evaluate`.
    """
    check_pair(labels, probs, ignore)
    counts = np.ones(labels.shape, bool) if ignore is None else ignore == 0
    positive, called = labels.astype(bool) & counts, (probs >= threshold) & counts
    n, p, c, both = (
        each.sum(axis=0, dtype=np.float64) for each in (counts, positive, called, positive & called)
    )
    product = p * (n - p) * c * (n - c)
    found = np.zeros(len(n))
    np.divide(n * both - p * c, np.sqrt(product), out=found, where=product > 0)
    return np.where((p == 0) | (p == n), np.nan, found)


def evaluate_pooled(labels: Flags, probs: Scores, *, ignore: Flags | None = None) -> TargetMetrics:
    """Figures over all labels of all targets together, as if of one target; see `evaluate`."""
    column = (-1, 1)
    return evaluate(
        labels.reshape(column),
        probs.reshape(column),
        ignore=None if ignore is None else ignore.reshape(column),
    )


def f1_at(
    labels: Flags, probs: Scores, thresholds: Doubles, *, ignore: Flags | None = None
) -> Doubles:
    """F1 of each target at its own threshold, such as one chosen on the validation split.

    Args:
        labels: (N, T) uint8 or bool.
        probs: (N, T) float32 or float64.
        thresholds: (T,) float64; a score at or above it is called positive.
        ignore: (N, T), not zero where an entry does not count.

    Returns:
        (T,) float64, NaN where the threshold is NaN or a label is missing.

    Raises:
        ValueError: the shapes differ.
    """
    check_pair(labels, probs, ignore)
    if thresholds.shape != probs.shape[1:]:
        raise ValueError(
            f"One threshold a target, {probs.shape[1:]}. Received: {thresholds.shape}."
        )

    def rows(begin: int) -> Ints:
        part = slice(begin, begin + _ROWS)
        y, called = labels[part] != 0, probs[part] >= thresholds
        keep = np.ones_like(y) if ignore is None else ignore[part] == 0
        flags = (y & called & keep, called & keep, y & keep, keep)
        return np.array([np.count_nonzero(flag, axis=0) for flag in flags], np.int64)

    counts = np.zeros((4, probs.shape[1]), np.int64)
    with ThreadPoolExecutor(n_threads()) as pool:
        for part in pool.map(rows, range(0, len(probs), _ROWS)):
            counts += part
    hits, called, positives, counted = counts
    f1 = np.full(probs.shape[1], np.nan)
    defined = (positives > 0) & (positives < counted) & ~np.isnan(thresholds)
    np.divide(2 * hits, positives + called, out=f1, where=defined)
    return f1


def macro(
    metrics: TargetMetrics, min_positives: int = 1, *, where: npt.NDArray[np.bool_] | None = None
) -> Macro:
    """Means and medians over targets with at least `min_positives` positives and a negative.

    Args:
        metrics: figures of T targets.
        min_positives: fewer positives and a target does not count; at least 1.
        where: (T,) bool, the targets of a group; all when left out.

    Raises:
        ValueError: `min_positives` is below 1.
    """
    if min_positives < 1:
        raise ValueError(f"min_positives is at least 1. Received: {min_positives}.")
    group = np.ones(len(metrics), bool) if where is None else where
    counted = group & (metrics.positives >= min_positives) & (metrics.negatives > 0)

    def summarise(function: Callable[[Doubles], Any], name: str) -> float:
        values = getattr(metrics, name)[counted]
        return float(function(values)) if len(values) else float("nan")

    areas = ("auroc", "auprc", "auprc_interpolated")
    return Macro(
        n_counted=int(counted.sum()),
        n_total=int(group.sum()),
        min_positives=min_positives,
        **{f"{name}_mean": summarise(np.mean, name) for name in (*areas, "accuracy", "f1")},
        **{f"{name}_median": summarise(np.median, name) for name in areas},
        best_f1_mean=summarise(np.mean, "best_f1"),
    )
