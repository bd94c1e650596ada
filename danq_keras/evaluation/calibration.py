"""Calibration: whether labels with probability p are positive in a share p of cases.

In: `labels` (N, T) uint8 or bool, `probs` (N, T) float32 or float64 in [0, 1], `ignore` (N, T)
optional. The labels of all targets are pooled and binned by their probability; bins are fine where
most labels of a genome lie, near 0, and even above 0.1. Nothing is recalibrated here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.evaluation.metrics import Flags, Ints, Scores
from danq_keras.system.arrays import Doubles
from danq_keras.system.terminal import progress

EDGES = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_BLOCK = 1 << 22  # labels at once


@dataclass(frozen=True, eq=False)
class Calibration:
    """Pooled labels by predicted probability, in B bins (low, high] (the first holds 0 too).

    Attributes:
        edges: (B + 1,) float64, rising from 0 to 1.
        counts: (B,) int64 labels.
        positives: (B,) int64 of them that are positive.
        mean_probability: (B,) float64, NaN for an empty bin.
        brier: mean squared difference of probability and label; NaN without labels.
    """

    edges: Doubles
    counts: Ints
    positives: Ints
    mean_probability: Doubles
    brier: float

    @property
    def positive_share(self) -> Doubles:
        """(B,) share of positives, NaN for an empty bin."""
        return _ratio(self.positives, self.counts)

    @property
    def expected_error(self) -> float:
        """Mean over labels of |mean probability − share of positives| of their bin; NaN without."""
        if not self.counts.sum():
            return math.nan
        gaps = np.abs(self.mean_probability - self.positive_share)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())


def _ratio(part: npt.NDArray[Any], whole: Ints) -> Doubles:
    share = np.full(len(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def calibrate(
    labels: Flags,
    probs: Scores,
    *,
    ignore: Flags | None = None,
    edges: Sequence[float] | Doubles = EDGES,
) -> Calibration:
    """Bin pooled labels by probability; one on an edge belongs to the bin below.

    Args:
        labels: (N, T) uint8 or bool, 0 or 1.
        probs: (N, T) float32 or float64, from 0 to 1.
        ignore: (N, T), not zero where a label does not count.
        edges: of the bins, rising from 0 to 1.

    Raises:
        ValueError: the shapes differ, or a value is not in [0, 1].
    """
    if labels.shape != probs.shape or (ignore is not None and ignore.shape != probs.shape):
        shapes = [None if part is None else part.shape for part in (labels, probs, ignore)]
        raise ValueError(f"labels, probs and ignore have one shape. Received: {shapes}.")
    bounds = np.asarray(edges, np.float64)
    n_bins = len(bounds) - 1
    counts, positives = np.zeros(n_bins, np.int64), np.zeros(n_bins, np.int64)
    sums, squares = np.zeros(n_bins), 0.0
    step = max(1, _BLOCK // max(1, math.prod(probs.shape[1:])))
    with progress(total=len(probs), desc="calibration", unit="windows") as bar:
        for begin in range(0, len(probs), step):
            rows = slice(begin, begin + step)
            keep = slice(None) if ignore is None else ignore[rows].ravel() == 0
            p = probs[rows].ravel()[keep].astype(np.float64)
            y = labels[rows].ravel()[keep].astype(bool)
            if not ((p >= 0) & (p <= 1)).all():
                raise ValueError("probs are from 0 to 1. Received others, or NaN.")
            number = np.searchsorted(bounds[1:-1], p)
            counts += np.bincount(number, minlength=n_bins)
            positives += np.bincount(number[y], minlength=n_bins)
            sums += np.bincount(number, p, minlength=n_bins)
            squares += float(np.sum((p - y) ** 2))
            bar.update(len(probs[rows]))
    total = int(counts.sum())
    brier = squares / total if total else math.nan
    return Calibration(bounds, counts, positives, _ratio(sums, counts), brier)


def calibration_summary(found: Calibration, *, unlabelled_share: float) -> dict[str, Any]:
    """What `test_summary.json` holds, JSON-ready; None where there is no figure.

    Args:
        found: of the split that was tested.
        unlabelled_share: share of its windows without a positive label of any target.
    """
    total, positives = int(found.counts.sum()), int(found.positives.sum())
    rate = positives / total if total else math.nan
    columns = zip(
        found.edges[:-1],
        found.edges[1:],
        found.counts,
        found.mean_probability,
        found.positive_share,
        strict=True,
    )
    names = ("low", "high", "labels", "mean_probability", "positive_share")
    return {
        "labels": total,
        "positives": positives,
        "expected_calibration_error": _number(found.expected_error),
        "brier": _number(found.brier),
        "brier_of_base_rate": _number(rate * (1 - rate)),  # what one constant answer would reach
        "note": conditional_note(unlabelled_share),
        "bins": [dict(zip(names, map(_number, row), strict=True)) for row in columns],
    }


def conditional_note(unlabelled_share: float) -> str:
    """What the probabilities are conditional on, from how the windows were kept."""
    if unlabelled_share == 0:
        return (
            "Every window of this split has a peak of some target. The probabilities are "
            "conditional on that, P(target | some peak): over the whole genome they are too high."
        )
    return (
        f"{100 * unlabelled_share:.3g} % of the windows of this split have no peak of any target. "
        "The probabilities hold for windows that are kept in the same way, and no other."
    )


def _number(value: Any) -> float | int | None:
    number = value.item() if isinstance(value, np.generic) else value
    return None if math.isnan(number) else number
