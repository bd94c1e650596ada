"""What a network must beat: k-mer logistic regression, "hotness" and GC content.

- `kmer`: the paper's baseline, a logistic regression for each target on the counts of all 1- to
  5-mers of the window. Where rows stand for both strands, a k-mer and its reverse complement are
  one feature. Trained on the training split, its penalty chosen on the validation split.
- `hotness`: the share of the *other* targets that are positive in the very window that is scored.
  It reads labels of the test split, which no network sees: a yardstick, not a predictor.
- `gc`: the share of G and C, or of A and T where the training positives have less G and C.

All are scored on one split with `metrics.evaluate`. `load_or_compute` keeps the result in a small
JSON file, valid as long as the fingerprints of the store's splits stay the same.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras import dna, metrics, store
from danq_keras.console import atomic_output, log, progress

Matrix: TypeAlias = npt.NDArray[np.float32]

MAXIMUM_K = 5  # Source: Quang & Xie 2016, the logistic regression baseline
TRAIN_CAP = 50_000
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01)
VERSION = 1
NAMES = {
    "kmer": "k-mer logistic regression",
    "hotness": "hotness (reads the labels of the other targets)",
    "gc": "GC content",
}
_ROWS = 2048
_ITERATIONS = 60
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Baselines:
    """Figures of the baselines on one split.

    `metrics` and `notes` have the keys of `NAMES`; a baseline that could not be computed is only
    in `notes`, which say how each was made. `fingerprints` are those of the dataset's splits.
    """

    split: str
    metrics: dict[str, metrics.TargetMetrics]
    notes: dict[str, str]
    fingerprints: dict[str, str]


def count_kmers(codes: dna.Bytes, maximum_k: int) -> list[npt.NDArray[np.int64]]:
    """Count the 1-mers, 2-mers, … of each window.

    Args:
        codes: (N, L) uint8; an unknown base breaks every k-mer that holds it.
        maximum_k: the longest k-mers counted.

    Returns:
        For each k an array (N, 4**k); the number of a k-mer reads its codes as digits of base 4,
        the first base highest.
    """
    n_windows, length = codes.shape
    # "Unknown" is a fifth letter, and each window ends in unknown bases. So every position starts
    # one word of the greatest length, and adding up over a word's last letter shortens it.
    ending = np.full((n_windows, maximum_k - 1), dna.UNKNOWN, np.uint8)
    padded = np.concatenate([codes, ending], axis=1)
    number = np.zeros((n_windows, length), np.int64)
    for offset in range(maximum_k):
        number *= 5
        number += padded[:, offset : offset + length]
    n_words = 5**maximum_k
    number += np.arange(n_windows)[:, None] * n_words
    words = np.bincount(number.ravel(), minlength=n_windows * n_words)
    words = words.reshape(n_windows, *(5,) * maximum_k)
    counts = []
    for _ in range(maximum_k):
        known = words[(slice(None), *(slice(4),) * (words.ndim - 1))]
        counts.append(known.reshape(n_windows, -1))
        words = words.sum(axis=-1)
    return counts[::-1]


def reverse_complement_kmers(k: int) -> npt.NDArray[np.int64]:
    """Number (4**k,) of each k-mer's reverse complement."""
    place = 4 ** np.arange(k)
    digits = np.arange(4**k)[:, None] // place[::-1] % 4
    partner: npt.NDArray[np.int64] = (3 - digits) @ place  # reading backwards: lowest place first
    return partner


def kmer_features(packed: dna.Bytes, *, both_strands: bool) -> Matrix:
    """Counts of all 1- to 5-mers of packed windows.

    Args:
        packed: (N, L/2) uint8.
        both_strands: count on both strands; a k-mer and its reverse complement are one feature.

    Returns:
        (N, 1364) float32, or (N, 692) with both strands.
    """
    parts = []
    for begin in range(0, max(1, len(packed)), _ROWS):
        counts = count_kmers(dna.unpack_codes(packed[begin : begin + _ROWS]), MAXIMUM_K)
        if both_strands:
            counts = [_both_strands(part, k) for k, part in enumerate(counts, start=1)]
        parts.append(np.concatenate(counts, axis=1).astype(np.float32))
    return np.concatenate(parts)


def _both_strands(counts: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    partner = reverse_complement_kmers(k)
    first = np.flatnonzero(np.arange(4**k) <= partner)
    return counts[:, first] + counts[:, partner[first]]


@dataclass(frozen=True)
class _Examples:
    """Features (N, D) float32, labels (N, T) float32 and what counts (N, T) or None."""

    features: Matrix
    labels: Matrix
    keep: npt.NDArray[np.bool_] | None

    @classmethod
    def read(cls, split: store.Split, rows: npt.NDArray[np.int64]) -> "_Examples":
        packed = split.sequence[rows]
        labels = dna.unpack_labels(split.labels[rows], split.n_targets)
        ignore = None if split.ignore is None else split.ignore[rows]
        keep = None if ignore is None else dna.unpack_labels(ignore, split.n_targets) == 0
        features = kmer_features(packed, both_strands=split.both_strands)
        return cls(features, labels.astype(np.float32), keep)


@dataclass(frozen=True)
class LogisticRegression:
    """Independent logistic regressions that share their features: `features @ weights + bias`.

    `mean` (D,), `weights` (D, T) and `bias` (T,) float32.
    """

    mean: Matrix
    weights: Matrix
    bias: Matrix

    def logits(self, features: Matrix) -> Matrix:
        """Log-odds (N, T) float32 of features (N, D)."""
        return (features - self.mean) @ self.weights + self.bias


class _Problem:
    """Penalised logistic regressions of all targets at once, in well-conditioned coordinates.

    For each target the mean cross-entropy plus `penalty`/2 times the squared weights of the
    standardised features is minimised; the bias is free. All targets share the features, so
    their Gram matrix is diagonalised once; along its axes the curvature of target t is about
    prevalence (1 - prevalence) times the eigenvalue, and dividing by its root leaves a problem
    that L-BFGS solves in few steps, whatever the features' correlations.
    """

    def __init__(self, data: _Examples) -> None:
        x = data.features
        self.mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = x.std(axis=0, dtype=np.float64).astype(np.float32)
        self.scale = np.where(deviation > 0, deviation, 1).astype(np.float32)
        x = (x - self.mean) / self.scale
        values, vectors = np.linalg.eigh((x.T @ x / len(x)).astype(np.float64))
        axes = values > _ROUNDING * values[-1]
        self.axes = vectors[:, axes].astype(np.float32)
        self.values = values[axes]
        self.features = x @ self.axes
        self.data = data
        counted = np.ones_like(data.labels) if data.keep is None else data.keep
        self.n_counted = np.maximum(counted.sum(axis=0, dtype=np.float64), 1)
        positives = (data.labels * counted).sum(axis=0, dtype=np.float64)
        # A target with one label only keeps the flat score of its prevalence.
        self.constant = (positives == 0) | (positives == self.n_counted)
        self.prevalence = np.clip(positives, 0.5, self.n_counted - 0.5) / self.n_counted
        self.weights = np.zeros((len(self.values), len(positives)))
        self.bias = np.log(self.prevalence / (1 - self.prevalence))

    def solve(self, penalty: float) -> LogisticRegression:
        """The regressions at `penalty`, starting from those of the call before."""
        from scipy import optimize  # here: SciPy's optimizers take 0.4 s to import

        variance = self.prevalence * (1 - self.prevalence)
        scale = np.sqrt(np.vstack([self.values[:, None] * variance + penalty, variance[None]]))
        start = np.vstack([self.weights, self.bias]) * scale

        def function(point: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            value, gradient = self._objective(point.reshape(scale.shape) / scale, penalty)
            return value, (gradient / scale).ravel()

        options = {"maxiter": _ITERATIONS, "ftol": 1e-7, "gtol": 1e-7, "maxcor": 8}
        found = optimize.minimize(
            function, start.ravel(), jac=True, method="L-BFGS-B", options=options
        )
        solution = found.x.reshape(scale.shape) / scale
        self.weights, self.bias = solution[:-1], solution[-1]
        weights = (self.axes @ self.weights.astype(np.float32)) / self.scale[:, None]
        return LogisticRegression(self.mean, weights, self.bias.astype(np.float32))

    def _objective(
        self, parameters: npt.NDArray[np.float64], penalty: float
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Sum over targets of the penalised mean loss, and its gradient (D+1, T)."""
        weights, bias = parameters[:-1].astype(np.float32), parameters[-1].astype(np.float32)
        gradient = np.zeros(parameters.shape)
        loss = np.zeros(len(bias))
        for begin in range(0, len(self.features), _ROWS):
            part = slice(begin, begin + _ROWS)
            x, y = self.features[part], self.data.labels[part]
            logits = x @ weights + bias
            small = np.exp(-np.abs(logits))
            losses = np.log(1 + small) + np.maximum(logits, 0) - y * logits
            residual = np.where(logits >= 0, 1, small) / (1 + small) - y
            if self.data.keep is not None:
                losses *= self.data.keep[part]
                residual *= self.data.keep[part]
            loss += losses.sum(axis=0, dtype=np.float64)
            gradient[:-1] += x.T @ residual
            gradient[-1] += residual.sum(axis=0, dtype=np.float64)
        gradient /= self.n_counted
        gradient[:-1] += penalty * parameters[:-1]
        gradient[:, self.constant] = 0
        penalties = penalty / 2 * np.sum(parameters[:-1] ** 2)
        return float(np.sum((loss / self.n_counted)[~self.constant]) + penalties), gradient
