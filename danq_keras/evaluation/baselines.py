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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from danq_keras.data import store
from danq_keras.evaluation import metrics
from danq_keras.evaluation.kmers import Examples, Matrix, fit_kmers, predict_linear
from danq_keras.genome import dna
from danq_keras.system.files import atomic_output
from danq_keras.system.terminal import log

TRAIN_CAP = 50_000
VERSION = 1
NAMES = {
    "kmer": "k-mer logistic regression",
    "hotness": "hotness (reads the labels of the other targets)",
    "gc": "GC content",
}


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


def compute_baselines(
    dataset: store.Dataset,
    *,
    split: str = "test",
    train_limit: int | None = None,
    seed: int = 0,
) -> Baselines:
    """Train and score the baselines.

    Args:
        dataset: open dataset whose training and test windows are used.
        split: the split that is scored; the notes say so when it is the training split itself.
        train_limit: the most training windows used, drawn with `seed`; None means 50,000.
        seed: number from which the sample of training windows is drawn.
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
            probs["kmer"] = predict_linear(regression, scored)
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
        labels: (N, T) uint8, 0 or 1, the labels of the windows.
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


def cache_path(dataset: store.Dataset, split: str = "test") -> Path:
    """Where the baselines of a dataset are kept, beside its splits."""
    return dataset.folder / f"baselines_{split}.json"


def load_or_compute(
    dataset: store.Dataset, cache: Path | None, *, split: str = "test"
) -> Baselines:
    """The baselines of a dataset, computed at most once.

    They are kept beside the dataset's splits, or at `cache` where that folder cannot be written.
    A file of other data, or of another version of the baselines, is replaced.

    Args:
        dataset: open dataset whose baselines are wanted.
        cache: file to use where the dataset's folder is read-only, such as one in the run folder;
            None for none.
        split: the split that is scored.
    """
    beside = cache_path(dataset, split)
    for path in (beside, cache):
        found = None if path is None else _read(path, dataset.fingerprints())
        if found is not None and found.split == split:
            return found
    computed = compute_baselines(dataset, split=split)
    path = beside if os.access(dataset.folder, os.W_OK) else cache
    if path is None:
        return computed
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
