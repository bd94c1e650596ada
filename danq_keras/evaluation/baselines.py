"""What a network must beat: k-mer logistic regression, "hotness" and GC content.

- `kmer`: the paper's baseline, a logistic regression for each target on the counts of all 1- to
  5-mers of the window. Where rows stand for both strands, a k-mer and its reverse complement are
  one feature. Trained on the training split, its penalty chosen on the validation split.
- `hotness`: the share of the *other* targets that are positive in the very window that is scored.
  It reads labels of the test split, which no network sees: a yardstick, not a predictor.
- `gc`: the share of G and C, or of A and T where the training positives have less G and C.

All are trained once and scored on any split with `metrics.evaluate`. `load_or_compute` keeps the
figures in a small JSON file a split, valid as long as the fingerprints of the store's splits stay
the same and the file is what its checksum says.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from danq_keras.data import store
from danq_keras.evaluation import metrics
from danq_keras.evaluation.kmers import (
    Examples,
    LogisticRegression,
    Matrix,
    fit_kmers,
    predict_linear,
)
from danq_keras.genome import dna
from danq_keras.system.files import atomic_output, load_json
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


@dataclass(frozen=True, eq=False)
class FittedBaselines:
    """Baselines trained on a dataset, ready to be scored on its splits.

    `regression` is None, and `notes` say why, where there was nothing to train on.
    """

    dataset: store.Dataset
    regression: LogisticRegression | None
    rich_in_gc: npt.NDArray[np.bool_] | None
    notes: dict[str, str]

    def score(self, split: str) -> Baselines:
        """Figures on a split; the notes say so when it is the training split itself."""
        scored = self.dataset.split(split)
        labels = dna.unpack_labels(scored.labels, scored.n_targets)
        hidden = scored.ignore
        ignore = None if hidden is None else dna.unpack_labels(hidden, scored.n_targets)
        notes, figures = dict(self.notes), {}
        for name, scores in self._scores(scored, labels, ignore).items():
            # One at a time: the scores of DeepSEA's test split are 0.8 GB a baseline.
            figures[name] = metrics.evaluate(labels, scores(), ignore=ignore)
        if "kmer" in figures and split == "train":
            notes["kmer"] += "; scored on the rows it was trained on"
        return Baselines(
            split=split,
            figures={name: figures[name] for name in NAMES if name in figures},
            notes={name: notes[name] for name in NAMES},
            fingerprints=self.dataset.fingerprints(),
        )

    def _scores(
        self, split: store.Split, labels: dna.Bytes, ignore: dna.Bytes | None
    ) -> dict[str, Callable[[], Matrix]]:
        """What makes the scores (N, T) of each baseline that there is."""
        regression, rich = self.regression, self.rich_in_gc
        scores: dict[str, Callable[[], Matrix]] = {
            "hotness": lambda: hotness(labels, ignore=ignore)
        }
        if regression is None or rich is None:
            return scores

        def kmer() -> Matrix:
            # One BLAS thread each in threads of ours: on a busy machine OpenBLAS's own wait for
            # each other, and a decomposition of a tenth of a second was seen to take six.
            with threadpool_limits(1, "blas"):
                return predict_linear(regression, split)

        def gc() -> Matrix:
            share = _gc_share(split.sequence)[:, None]
            return np.where(rich, share, np.float32(1) - share)

        return scores | {"kmer": kmer, "gc": gc}


def fit_baselines(
    dataset: store.Dataset, *, train_limit: int | None = None, seed: int = 0
) -> FittedBaselines:
    """Train the baselines on the training split, the k-mer penalty chosen on the validation split.

    Args:
        dataset: open dataset whose training windows are used, at most 50,000 of them.
        train_limit: windows of a training run, which the baselines share; None for all.
        seed: number from which the sample of training windows is drawn, `data_seed` of a run.
    """
    rows = dataset.train.draw(train_limit, seed)
    if len(rows) > TRAIN_CAP:
        rows = np.sort(np.random.default_rng(seed).choice(rows, TRAIN_CAP, replace=False))
    notes = {"hotness": "share of the other targets with label 1 in the scored window itself"}
    drawn = f"{len(rows):,} of {dataset.train.n_windows:,} training windows"
    if len(rows) < dataset.train.n_windows:
        drawn += f" (drawn with seed {seed})"
    if not len(rows):
        notes |= dict.fromkeys(("kmer", "gc"), "left out: the training split has no rows")
        return FittedBaselines(dataset, None, None, notes)
    train = Examples.read(dataset.train, rows)
    with threadpool_limits(1, "blas"):
        regression, chosen = fit_kmers(train, dataset.valid, n_targets=dataset.train.n_targets)
    notes["kmer"] = f"counts of all 1- to 5-mers; trained on {drawn}; {chosen}"
    notes["gc"] = f"share of G and C; its direction from {drawn}"
    rich_in_gc = _rich_in_gc(train, dataset.train.sequence[rows])
    return FittedBaselines(dataset, regression, rich_in_gc, notes)


def compute_baselines(
    dataset: store.Dataset,
    *,
    split: str = "test",
    train_limit: int | None = None,
    seed: int = 0,
) -> Baselines:
    """Train the baselines and score them on one split; the arguments are those of both."""
    return fit_baselines(dataset, train_limit=train_limit, seed=seed).score(split)


def hotness(labels: dna.Bytes, *, ignore: dna.Bytes | None = None) -> Matrix:
    """Share of the other targets that are positive in the same window.

    Args:
        labels: (N, T) uint8, 0 or 1, the labels of the windows.
        ignore: (N, T) uint8, not zero where a label does not count.

    Returns:
        (N, T) float32 in 0 … 1.
    """
    known = labels if ignore is None else labels * (ignore == 0)
    share: Matrix = np.empty(labels.shape, np.float32)
    np.subtract(known.sum(axis=1, dtype=np.float32)[:, None], known, out=share)
    share /= np.float32(max(1, labels.shape[1] - 1))
    return share


def _gc_share(packed: dna.Bytes) -> Matrix:
    """Share (N,) float32 of G and C among the known bases; 0 where none is known."""
    # Bits of a byte: A G C T A G C T.
    g_or_c = np.bitwise_count(packed & 0b01100110).sum(axis=1, dtype=np.float32)
    known = np.bitwise_count(packed).sum(axis=1, dtype=np.float32)
    share: Matrix = g_or_c / np.maximum(known, 1)
    return share


def _rich_in_gc(train: Examples, packed: dna.Bytes) -> npt.NDArray[np.bool_]:
    """Whether the training positives (T,) have as much G and C as all training windows, or more."""
    share = _gc_share(packed)[:, None]
    counts = np.ones_like(train.labels) if train.keep is None else train.keep
    positives = train.labels * counts
    mean = (share * positives).sum(axis=0) / np.maximum(positives.sum(axis=0), 1)
    background = (share * counts).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    rich: npt.NDArray[np.bool_] = mean >= background
    return rich


def cache_path(dataset: store.Dataset, split: str = "test") -> Path:
    """Where the baselines of a dataset are kept, beside its splits."""
    return dataset.folder / cache_name(split)


def cache_name(split: str) -> str:
    """The file in which the baselines of a split are kept."""
    return f"baselines_{split}.json"


def load_or_compute(
    dataset: store.Dataset,
    folder: Path | None,
    *,
    splits: Sequence[str] = ("test",),
    train_limit: int | None = None,
    seed: int = 0,
) -> dict[str, Baselines]:
    """The baselines of a dataset on some splits, trained once for all of them.

    They are kept beside the dataset's splits, or in `folder` where that place cannot be written or
    the training windows were limited. A file of other data, or of another version of the
    baselines, is replaced.

    Args:
        dataset: open dataset whose baselines are wanted.
        folder: a second place to keep them, such as the run's folder; None for none.
        splits: names of the splits that are scored.
        train_limit: windows of the training run, which the baselines share; None for all.
        seed: number from which those windows are drawn; without a limit it does not count.

    Returns:
        Split → baselines.
    """
    if train_limit is None:
        seed = 0  # every run on all windows has the same baselines
    limit = None if train_limit is None else [train_limit, seed]
    found: dict[str, Baselines] = {}
    fitted: FittedBaselines | None = None
    for split in splits:
        beside = cache_path(dataset, split) if limit is None else None
        second = None if folder is None else folder / cache_name(split)
        kept = [_read(path, dataset.fingerprints(), limit) for path in (beside, second) if path]
        usable = [each for each in kept if each is not None and each.split == split]
        if usable:
            found[split] = usable[0]
            continue
        if fitted is None:
            fitted = fit_baselines(dataset, train_limit=train_limit, seed=seed)
        found[split] = fitted.score(split)
        path = beside if os.access(dataset.folder, os.W_OK) and beside else second
        if path is not None:
            with atomic_output(path, overwrite=True) as temporary:
                content = _to_json(found[split]) | {"train_limit": limit}
                content |= {"sha256": _digest(content)}
                temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return found


def kmer_validation(run: Path, config: Mapping[str, Any]) -> dict[str, float]:
    """What counting k-mers reaches on a run's validation split, where `load_or_compute` kept it.

    Args:
        run: the run folder.
        config: its config.json.

    Returns:
        Column of the run's history → mean over its targets; nothing where it is not known.
    """
    try:
        data, train = config["dataset"], config["train"]
        limit = [train["train_limit"], train["data_seed"]] if train["train_limit"] else None
        for folder in (run, Path(data["path"])):
            found = _read(folder / cache_name("valid"), data["fingerprints"], limit)
            if found is not None and "kmer" in found.figures:
                break
        else:
            return {}
        kmer = found.figures["kmer"].subset(config["target_numbers"])
        figures = metrics.macro(kmer, train["min_positives"])
    except (KeyError, TypeError, IndexError):  # settings of another version, or written by hand
        return {}
    means = {"val_auroc": figures.auroc_mean, "val_auprc": figures.auprc_mean}
    return {name: value for name, value in means.items() if not np.isnan(value)}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


def _read(path: Path, fingerprints: dict[str, str], limit: list[int] | None) -> Baselines | None:
    """Baselines kept at `path`; None when there are none or they are not of these windows."""
    if not path.is_file():
        return None
    try:
        content = load_json(path)
        expected = content.pop("sha256", None)  # an early version wrote none
        if expected not in (None, _digest(content)):
            raise ValueError("wrong checksum")
        windows = content["fingerprints"], content.get("train_limit")
        if content["version"] != VERSION or windows != (fingerprints, limit):
            log.info(f"{path}: baselines of other data; computing them again.")
            return None
        found = {name: _metrics(columns) for name, columns in content["figures"].items()}
        return Baselines(content["split"], found, content["notes"], content["fingerprints"])
    except (ValueError, LookupError, TypeError, AttributeError):
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
