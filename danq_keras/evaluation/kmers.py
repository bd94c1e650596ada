"""K-mer counts of windows, and the logistic regression on them that networks must beat."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.data import store
from danq_keras.evaluation import metrics
from danq_keras.genome import dna
from danq_keras.system.terminal import progress
from danq_keras.system.threads import n_threads

Matrix: TypeAlias = npt.NDArray[np.float32]


MAXIMUM_K = 5  # Source: Quang & Xie 2016, the logistic regression baseline


DEFAULT_PENALTY = 0.03


PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # strong to weak


_ON_BOTH_STRANDS = 692  # features: a word and its reverse complement are one


_ROWS = 2048


_ITERATIONS = 60


_TOLERANCE = 1e-7


_ROUNDING = 1e-6


_QUIET = 20_000


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
        counts.append(known.reshape(n_windows, 4 ** (words.ndim - 1)))
        words = words.sum(axis=-1)
    return counts[::-1]


def reverse_complement_kmers(k: int) -> npt.NDArray[np.int64]:
    """Number (4**k,) of each k-mer's reverse complement."""
    place = 4 ** np.arange(k)
    digits = np.arange(4**k)[:, None] // place[::-1] % 4
    partner: npt.NDArray[np.int64] = (3 - digits) @ place  # reading backwards: lowest place first
    return partner


def kmer_features(packed: dna.Bytes, *, window: int, both_strands: bool) -> Matrix:
    """Counts of all 1- to 5-mers of packed windows.

    Args:
        packed: (N, ceil(L/2)) uint8 packed windows.
        window: bases L of a window.
        both_strands: count on both strands; a k-mer and its reverse complement are one feature.

    Returns:
        (N, 1364) float32, or (N, 692) with both strands.
    """
    parts = []
    for begin in range(0, max(1, len(packed)), _ROWS):
        codes = dna.unpack_codes(packed[begin : begin + _ROWS], window)
        counts = count_kmers(codes, MAXIMUM_K)
        if both_strands:
            counts = [_both_strands(part, k) for k, part in enumerate(counts, start=1)]
        parts.append(np.concatenate(counts, axis=1).astype(np.float32))
    return np.concatenate(parts)


def _both_strands(counts: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    partner = reverse_complement_kmers(k)
    first = np.flatnonzero(np.arange(4**k) <= partner)
    return counts[:, first] + counts[:, partner[first]]


def _features(split: store.Split, packed: dna.Bytes, *, both_strands: bool) -> Matrix:
    return kmer_features(packed, window=split.header.window, both_strands=both_strands)


@dataclass(frozen=True)
class Examples:
    """Features (N, D) float32, labels (N, T) float32 and what counts (N, T) or None."""

    features: Matrix
    labels: Matrix
    keep: npt.NDArray[np.bool_] | None

    @classmethod
    def read(cls, split: store.Split, rows: npt.NDArray[np.int64]) -> "Examples":
        """The rows (n,) of a split, in the order given."""
        packed = split.sequence[rows]
        labels = dna.unpack_labels(split.labels[rows], split.n_targets)
        ignore = None if split.ignore is None else split.ignore[rows]
        keep = None if ignore is None else dna.unpack_labels(ignore, split.n_targets) == 0
        features = _features(split, packed, both_strands=split.both_strands)
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
        logits = (features - self.mean) @ self.weights + self.bias
        return logits.astype(np.float32, copy=False)


class KmerProblem:
    """Penalised logistic regressions of all targets at once, in well-conditioned coordinates.

    For each target the mean cross-entropy plus `penalty`/2 times the squared weights of the
    standardised features is minimised; the bias is free. All targets share the features, so
    their Gram matrix is diagonalised once; along its axes the curvature of target t is about
    prevalence (1 - prevalence) times the eigenvalue, and dividing by its root leaves a problem
    that L-BFGS solves in few steps, whatever the features' correlations.
    """

    def __init__(self, data: Examples) -> None:
        x = data.features
        self.mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = x.std(axis=0, dtype=np.float64).astype(np.float32)
        self.scale = np.where(deviation > 0, deviation, 1).astype(np.float32)
        x = (x - self.mean) / self.scale
        gram = (x.T @ x / len(x)).astype(np.float64)
        values, vectors = np.linalg.eigh(gram)
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
            value, gradient = self._objective(point.reshape(scale.shape) / scale, penalty, pool)
            return value, (gradient / scale).ravel()

        # Threads over blocks of rows, each with single-threaded BLAS, also share out exp and log.
        options = {"maxiter": _ITERATIONS, "ftol": _TOLERANCE, "gtol": _TOLERANCE, "maxcor": 8}
        with ThreadPoolExecutor(n_threads()) as pool:
            found = optimize.minimize(
                function, start.ravel(), jac=True, method="L-BFGS-B", options=options
            )
        solution = found.x.reshape(scale.shape) / scale
        self.weights, self.bias = solution[:-1], solution[-1]
        weights = (self.axes @ self.weights.astype(np.float32)) / self.scale[:, None]
        return LogisticRegression(self.mean, weights, self.bias.astype(np.float32))

    def _objective(
        self, parameters: npt.NDArray[np.float64], penalty: float, pool: ThreadPoolExecutor
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Sum over targets of the penalised mean loss, and its gradient (D+1, T)."""
        weights, bias = parameters[:-1].astype(np.float32), parameters[-1].astype(np.float32)
        gradient = np.zeros(parameters.shape)
        loss = np.zeros(len(bias))

        def block(begin: int) -> tuple[npt.NDArray[np.float64], Matrix, npt.NDArray[np.float64]]:
            part = slice(begin, begin + _ROWS)
            x, y = self.features[part], self.data.labels[part]
            logits = x @ weights + bias
            small = np.exp(-np.abs(logits))
            losses = np.log(1 + small) + np.maximum(logits, 0) - y * logits
            residual = np.where(logits >= 0, 1, small) / (1 + small) - y
            if self.data.keep is not None:
                losses *= self.data.keep[part]
                residual *= self.data.keep[part]
            total = losses.sum(axis=0, dtype=np.float64)
            return total, x.T @ residual, residual.sum(axis=0, dtype=np.float64)

        # In the order of the rows, so that the same data give the same bits.
        for losses, slopes, residuals in pool.map(block, range(0, len(self.features), _ROWS)):
            loss += losses
            gradient[:-1] += slopes
            gradient[-1] += residuals
        gradient /= self.n_counted
        gradient[:-1] += penalty * parameters[:-1]
        gradient[:, self.constant] = 0
        penalties = penalty / 2 * np.sum(parameters[:-1] ** 2)
        return float(np.sum((loss / self.n_counted)[~self.constant]) + penalties), gradient


def predict_linear(regression: LogisticRegression, split: store.Split) -> Matrix:
    """Probabilities (N, T) float32 of a split, block by block.

    Its rows are counted as those of the training were, on one strand or on both: a bundle's splits
    may differ in that.
    """
    both = len(regression.mean) == _ON_BOTH_STRANDS
    probs = np.empty((split.n_windows, split.n_targets), np.float32)

    def block(begin: int) -> int:
        part = slice(begin, begin + _ROWS)
        features = _features(split, split.sequence[part], both_strands=both)
        logits = regression.logits(features)
        small = np.exp(-np.abs(logits))
        probs[part] = np.where(logits >= 0, 1, small) / (1 + small)
        return len(features)

    with (
        progress(
            total=len(probs), desc="k-mer scoring", unit="window", disable=len(probs) < _QUIET
        ) as bar,
        ThreadPoolExecutor(n_threads()) as pool,
    ):
        for n_done in pool.map(block, range(0, len(probs), _ROWS)):
            bar.update(n_done)
    return probs


def fit_kmers(
    train: Examples, valid: store.Split, *, n_targets: int
) -> tuple[LogisticRegression, str]:
    """The k-mer regressions at the penalty that does best on the validation split, and a note.

    Penalties are tried from strong to weak until the macro average precision falls; without
    usable validation rows the default is taken.
    """
    problem = KmerProblem(train)
    labels = dna.unpack_labels(valid.labels, n_targets)
    ignore = None if valid.ignore is None else dna.unpack_labels(valid.ignore, n_targets)
    best: tuple[float, float, LogisticRegression] | None = None
    with progress(total=len(PENALTIES), desc="k-mer baseline", unit="penalty") as bar:
        for penalty in PENALTIES:
            regression = problem.solve(penalty)
            bar.update()
            found = metrics.evaluate(labels, predict_linear(regression, valid), ignore=ignore)
            score = metrics.macro(found).auprc_mean
            if np.isnan(score):
                return problem.solve(DEFAULT_PENALTY), (
                    f"penalty {DEFAULT_PENALTY} (the validation split cannot choose one)"
                )
            if best is not None and score < best[0]:
                break
            best = (score, penalty, regression)
    assert best is not None
    return best[2], f"penalty {best[1]}, chosen on the validation split by macro average precision"
