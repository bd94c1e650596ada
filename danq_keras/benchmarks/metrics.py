"""`benchmark.py metrics`: the exact per-target metrics against a loop over scikit-learn."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danq_keras.benchmarks.options import option
from danq_keras.evaluation import metrics
from danq_keras.system.errors import InputError
from danq_keras.system.terminal import progress
from danq_keras.system.threads import n_threads

# Source: DeepSEA's test split, 227,512 windows x 919 targets, about 2 % positive.
N_WINDOWS = 227_512
N_TARGETS = 919
PREVALENCE = 0.02


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    windows: int = option(N_WINDOWS, "simulated windows")
    targets: int = option(N_TARGETS, "simulated targets")
    yardstick_targets: int = option(
        100, "targets that scikit-learn is timed on; its time is scaled to all of them"
    )
    seed: int = option(0, "of the data")


def run(options: Options) -> int:
    """Print both times, their ratio and the largest difference of the values.

    Raises:
        InputError: a size is below 1.
    """
    for name in ("windows", "targets", "yardstick_targets"):
        if getattr(options, name) < 1:
            raise InputError(f"`{name}`: must be at least 1. Received: {getattr(options, name)}.")
    labels, probs = simulate(options.windows, options.targets, seed=options.seed)
    begin = time.perf_counter()
    ours = metrics.evaluate(labels, probs)
    seconds = time.perf_counter() - begin

    n_timed = min(options.yardstick_targets, options.targets)
    begin = time.perf_counter()
    theirs = scikit_learn(labels[:, :n_timed], probs[:, :n_timed])
    yardstick = (time.perf_counter() - begin) * options.targets / n_timed

    differences = np.abs(theirs - np.array([ours.auroc[:n_timed], ours.auprc[:n_timed]]))
    largest = np.max(differences[~np.isnan(differences)], initial=0)
    scaled = "" if n_timed == options.targets else f" (scaled from {n_timed} targets)"
    print(
        f"{options.targets:,} targets x {options.windows:,} windows, simulated, "
        f"{PREVALENCE:.0%} positive, scores of four digits; {n_threads()} threads"
    )
    print(f"danq_keras.evaluation.metrics.evaluate, all figures:        {seconds:8.2f} s")
    print(f"scikit-learn, ROC AUC and average precision:     {yardstick:8.2f} s{scaled}")
    print(f"ratio:                                           {yardstick / seconds:8.1f} x faster")
    print(f"largest difference of the areas:                 {largest:8.1e}")
    return 0


def simulate(
    n_windows: int, n_targets: int, *, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Labels and scores (N, T) with many ties; positives score higher on average."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n_windows, n_targets), dtype=np.float32) < PREVALENCE).view(np.uint8)
    probs = rng.random((n_windows, n_targets), dtype=np.float32)
    probs *= probs
    probs += labels * np.float32(0.3)
    probs /= 1.3
    np.round(probs, 4, out=probs)
    return labels, probs


def scikit_learn(
    labels: npt.NDArray[np.uint8], probs: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """ROC AUC and average precision (2, T) of scikit-learn; NaN where a label is missing."""
    # Imported here: scikit-learn takes a second to import, which `--help` need not wait for.
    from sklearn.metrics import average_precision_score, roc_auc_score

    areas = np.full((2, labels.shape[1]), np.nan)
    with progress(total=labels.shape[1], desc="scikit-learn", unit="target") as bar:
        for target in range(labels.shape[1]):
            y, p = labels[:, target], probs[:, target]
            if 0 < y.sum() < len(y):
                areas[:, target] = roc_auc_score(y, p), average_precision_score(y, p)
            bar.update()
    return areas
