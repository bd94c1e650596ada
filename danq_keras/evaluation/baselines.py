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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from danq_keras.data import store
from danq_keras.evaluation import metrics
from danq_keras.genome import dna
from danq_keras.system.command import atomic_output, log, progress

Matrix: TypeAlias = npt.NDArray[np.float32]

MAXIMUM_K = 5  # Source: Quang & Xie 2016, the logistic regression baseline
TRAIN_CAP = 50_000
DEFAULT_PENALTY = 0.03
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # strong to weak
VERSION = 1
NAMES = {
    "kmer": "k-mer logistic regression",
    "hotness": "hotness (reads the labels of the other targets)",
    "gc": "GC content",
}
_ROWS = 2048
_ITERATIONS = 60
_TOLERANCE = 1e-7
_ROUNDING = 1e-6
_QUIET = 20_000


@dataclass(frozen=True, eq=False)
class Baselines:
    """Figures of the baselines on one split.

    `figures` and `notes` have the keys of `NAMES`; a baseline that could not be computed is only
    in `notes`, which say how each was made. `fingerprints` are those of the dataset's splits.
    """

    split: str
    figures: dict[str, metrics.TargetMetrics]
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
        counts.append(known.reshape(n_windows, 4 ** (words.ndim - 1)))
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
        with ThreadPoolExecutor(metrics.n_threads()) as pool:
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


def compute_baselines(
    dataset: store.Dataset,
    *,
    split: str = "test",
    train_limit: int | None = None,
    seed: int = 0,
) -> Baselines:
    """Train and score the baselines.

    Args:
        dataset: the open dataset.
        split: the split that is scored; the notes say so when it is the training split itself.
        train_limit: the most training windows used, drawn with `seed`; None means 50,000.
        seed: of that draw.
    """
    scored = dataset.split(split)
    limit = TRAIN_CAP if train_limit is None else train_limit
    rows = np.arange(dataset.train.n_windows)
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    labels = dna.unpack_labels(scored.labels, scored.n_targets)
    ignore = None if scored.ignore is None else dna.unpack_labels(scored.ignore, scored.n_targets)
    probs: dict[str, Matrix] = {"hotness": hotness(labels, ignore=ignore)}
    notes = {"hotness": "share of the other targets with label 1 in the scored window itself"}
    drawn = f"{len(rows):,} of {dataset.train.n_windows:,} training windows"
    if len(rows) < dataset.train.n_windows:
        drawn += f" (drawn with seed {seed})"
    if len(rows):
        train = Examples.read(dataset.train, rows)
        # One BLAS thread each in threads of ours: on a busy machine OpenBLAS's own wait for each
        # other, and a decomposition of a tenth of a second was seen to take six.
        with threadpool_limits(1, "blas"):
            regression, chosen = fit_kmers(train, dataset.valid, n_targets=scored.n_targets)
            probs["kmer"] = _predict(regression, scored)
        own = "; scored on the rows it was trained on" if split == "train" else ""
        notes["kmer"] = f"counts of all 1- to 5-mers; trained on {drawn}; {chosen}{own}"
        probs["gc"] = _gc_scores(train, dataset.train.sequence[rows], scored.sequence)
        notes["gc"] = f"share of G and C; its direction from {drawn}"
    else:
        notes |= dict.fromkeys(("kmer", "gc"), "left out: the training split has no rows")
    return Baselines(
        split=split,
        figures={
            name: metrics.evaluate(labels, probs[name], ignore=ignore)
            for name in NAMES
            if name in probs
        },
        notes={name: notes[name] for name in NAMES},
        fingerprints=dataset.fingerprints(),
    )


def hotness(labels: dna.Bytes, *, ignore: dna.Bytes | None = None) -> Matrix:
    """Share of the other targets that are positive in the same window.

    Args:
        labels: (N, T) uint8.
        ignore: (N, T) uint8, not zero where a label does not count.

    Returns:
        (N, T) float32 in 0 … 1.
    """
    known = labels if ignore is None else labels * (ignore == 0)
    others = known.sum(axis=1, dtype=np.int32)[:, None] - known
    share: Matrix = others.astype(np.float32) / np.float32(max(1, labels.shape[1] - 1))
    return share


def _gc_share(packed: dna.Bytes) -> Matrix:
    """Share (N,) float32 of G and C among the known bases; 0 where none is known."""
    # Bits of a byte: A G C T A G C T.
    g_or_c = np.bitwise_count(packed & 0b01100110).sum(axis=1, dtype=np.float32)
    known = np.bitwise_count(packed).sum(axis=1, dtype=np.float32)
    share: Matrix = g_or_c / np.maximum(known, 1)
    return share


def _gc_scores(train: Examples, train_packed: dna.Bytes, packed: dna.Bytes) -> Matrix:
    """GC share (N, T), or its complement for targets whose training positives are poor in GC."""
    share = _gc_share(train_packed)[:, None]
    counts = np.ones_like(train.labels) if train.keep is None else train.keep
    positives = train.labels * counts
    mean = (share * positives).sum(axis=0) / np.maximum(positives.sum(axis=0), 1)
    background = (share * counts).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    scored = _gc_share(packed)[:, None]
    return np.where(mean >= background, scored, 1 - scored).astype(np.float32)


def _predict(regression: LogisticRegression, split: store.Split) -> Matrix:
    """Probabilities (N, T) float32 of a split, block by block."""
    probs = np.empty((split.n_windows, split.n_targets), np.float32)

    def block(begin: int) -> int:
        part = slice(begin, begin + _ROWS)
        features = kmer_features(split.sequence[part], both_strands=split.both_strands)
        logits = regression.logits(features)
        small = np.exp(-np.abs(logits))
        probs[part] = np.where(logits >= 0, 1, small) / (1 + small)
        return len(features)

    with (
        progress(
            total=len(probs), desc="k-mer scoring", unit="window", disable=len(probs) < _QUIET
        ) as bar,
        ThreadPoolExecutor(metrics.n_threads()) as pool,
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
            found = metrics.evaluate(labels, _predict(regression, valid), ignore=ignore)
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


def cache_path(dataset: store.Dataset, split: str = "test") -> Path:
    """Where the baselines of a dataset are kept, beside its splits."""
    return dataset.folder / f"baselines_{split}.json"


def load_or_compute(dataset: store.Dataset, cache: Path, *, split: str = "test") -> Baselines:
    """The baselines of a dataset, computed at most once.

    They are kept beside the dataset's splits, or at `cache` where that folder cannot be written.
    A file of other data, or of another version of the baselines, is replaced.

    Args:
        dataset: the open dataset.
        cache: file to use when the dataset's folder is read-only, such as one in the run folder.
        split: the split that is scored.
    """
    beside = cache_path(dataset, split)
    for path in (beside, cache):
        found = _read(path, dataset.fingerprints())
        if found is not None and found.split == split:
            return found
    computed = compute_baselines(dataset, split=split)
    path = beside if os.access(dataset.folder, os.W_OK) else cache
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(_to_json(computed), allow_nan=False), encoding="utf-8")
    return computed


def _to_json(baselines: Baselines) -> dict[str, Any]:
    """JSON has no NaN: those are null."""
    return {
        "version": VERSION,
        "split": baselines.split,
        "fingerprints": baselines.fingerprints,
        "notes": baselines.notes,
        "figures": {
            name: {
                item.name: [
                    None if value != value else value
                    for value in getattr(found, item.name).tolist()
                ]
                for item in dataclasses.fields(found)
            }
            for name, found in baselines.figures.items()
        },
    }


def _read(path: Path, fingerprints: dict[str, str]) -> Baselines | None:
    """Baselines kept at `path`; None when there are none or they are not of this dataset."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION or content["fingerprints"] != fingerprints:
            log.info(f"{path}: baselines of other data; computing them again.")
            return None
        found = {name: _metrics(columns) for name, columns in content["figures"].items()}
        return Baselines(content["split"], found, content["notes"], content["fingerprints"])
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning(f"{path}: not a readable file of baselines; computing them again.")
        return None


def _metrics(columns: dict[str, list[float | None]]) -> metrics.TargetMetrics:
    arrays: dict[str, Any] = {
        name: np.array([np.nan if value is None else value for value in values], np.float64)
        for name, values in columns.items()
    }
    for name in ("positives", "negatives"):
        arrays[name] = arrays[name].astype(np.int64)
    return metrics.TargetMetrics(**arrays)
