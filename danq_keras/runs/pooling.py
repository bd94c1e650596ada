"""The test predictions of all folds as one: no model ever saw the chromosome that it predicts.

In: the fold runs' `test_predictions.h5` and `test_aucs.tsv` (for their thresholds), and the folds'
datasets. Out: one AUC table over all windows, exact, its summary, and one file of predictions.

Probabilities of different models are ranked together, so that a pooled AUC also pays for models
that are calibrated differently; the mean over folds (`run_sets`) does not.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.store import Split, open_split
from danq_keras.evaluation import bootstrap, metrics
from danq_keras.evaluation.auc_tables import auc_table, read_auc_table, summarise
from danq_keras.evaluation.resamples import bootstrap_summary
from danq_keras.genome.dna import unpack_labels
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, read_json
from danq_keras.system.hdf5 import array, new_hdf5, open_hdf5, read_array

PREDICTIONS = "test_predictions.h5"
_KIND = "file of predictions", "Delete it, and continue with `resume=True`."


@dataclass(frozen=True, eq=False)
class FoldTest:
    """The test of one fold.

    `probs` (n, T) float32; `labels` and `ignore` (n, T) uint8, `ignore` or None; `called` (n, T)
    float32, 1 where the probability reaches the threshold that the fold's validation split chose;
    `loss` mean cross-entropy of the labels that count.
    """

    split: Split
    probs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    ignore: npt.NDArray[np.uint8] | None
    called: npt.NDArray[np.float32]
    loss: float


@dataclass(frozen=True)
class Pooling:
    """How to judge the pooled predictions: bootstrap resamples (0 for none), and their seed.

    `numbers` are the numbers of the dataset's targets that the networks predict, and targets with
    fewer than `min_positives` positives do not count in averages.
    """

    numbers: Sequence[int]
    min_positives: int = 1
    bootstrap: int = 0
    seed: int = 0


def read_fold_test(run: Path, data: Path, numbers: Sequence[int]) -> FoldTest:
    """What a fold's run says of its test split.

    Args:
        run: the fold's run folder.
        data: the fold's dataset folder.
        numbers: of the dataset's targets that were trained.

    Raises:
        InputError: predictions are missing, or are not of this split.
    """
    path, split = run / PREDICTIONS, open_split(data / "test.h5")
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Continue with `resume=True`, which makes it again."
        )
    with open_hdf5(path, *_KIND) as file:
        probs = read_array(file, "pred", kinds="f")
    if probs.shape != (split.n_windows, len(numbers)):
        raise InputError(
            f"{path}: predictions {probs.shape} for {split.n_windows} windows and {len(numbers)} "
            "targets. Delete it, and continue with `resume=True`."
        )
    labels, ignore = (
        None if bits is None else unpack_labels(bits, split.n_targets)[:, list(numbers)]
        for bits in (split.labels, split.ignore)
    )
    assert labels is not None
    thresholds = read_auc_table(run / "test_aucs.tsv")["threshold"].to_numpy(np.float64)
    loss = read_json(run / "test_summary.json")["overall"]["loss"]
    called = (probs >= thresholds).astype(np.float32)
    return FoldTest(split, probs, labels, ignore, called, float(loss))


def pool(tests: Sequence[FoldTest], how: Pooling) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The AUC table over the windows of all folds, and its summary.

    `threshold` is NaN: each fold has its own, and `f1_at_threshold` applies them.
    """
    labels, probs, called = (
        np.concatenate([getattr(test, name) for test in tests])
        for name in ("labels", "probs", "called")
    )
    ignore = None
    if tests[0].ignore is not None:
        ignore = np.concatenate([test.ignore for test in tests if test.ignore is not None])
    halves = np.full(len(how.numbers), 0.5)
    intervals = _bootstrap(tests, how, labels, probs, ignore) if how.bootstrap else None
    table = auc_table(
        tests[0].split.header.targets.subset(how.numbers),
        how.numbers,
        metrics=metrics.evaluate(labels, probs, ignore=ignore),
        f1_at_threshold=metrics.f1_at(labels, called, halves, ignore=ignore),
        bootstrap=intervals,
    )
    weights = [
        test.labels.size - (0 if test.ignore is None else int(test.ignore.sum())) for test in tests
    ]
    loss = float(np.average([test.loss for test in tests], weights=weights))
    summary = summarise(table, min_positives=how.min_positives, loss=loss)
    pooled = metrics.evaluate_pooled(labels, probs, ignore=ignore)
    summary["split"] = f"test splits of {len(tests)} folds, pooled"
    for name in ("accuracy", "f1"):
        value = float(getattr(pooled, name)[0])
        summary["overall"][f"{name}_pooled"] = None if math.isnan(value) else value
    if intervals is not None and intervals.resamples is not None:
        summary["bootstrap"] = bootstrap_summary(
            intervals.resamples, table, min_positives=how.min_positives
        )
    return table, summary


def _bootstrap(
    tests: Sequence[FoldTest], how: Pooling, labels: Any, probs: Any, ignore: Any
) -> bootstrap.BootstrapIntervals:
    chrom = np.concatenate([test.split.chrom for test in tests if test.split.chrom is not None])
    start = np.concatenate([test.split.start for test in tests if test.split.start is not None])
    blocks = bootstrap.genome_blocks(chrom, start)
    return bootstrap.bootstrap(
        labels, probs, blocks=blocks, n=how.bootstrap, seed=how.seed, ignore=ignore
    )


def join_predictions(paths: Sequence[Path], out: Path) -> None:
    """Write the predictions of all folds below one another, in place of an earlier file."""
    with atomic_output(out, overwrite=True) as temporary, new_hdf5(temporary) as joined:
        for name in ("pred", "chrom", "start", "end"):
            parts = list(_read_each(paths, name))
            # text of each fold is as wide as its longest name: UTF-8 of no fixed width fits all
            kind = h5py.string_dtype("utf-8") if name == "chrom" else parts[0].dtype
            joined.create_dataset(name, data=np.concatenate(parts), dtype=kind)
        with open_hdf5(paths[0], *_KIND) as first:
            first.copy("targets", joined)
            for key in ("strands", "package_version"):
                joined.attrs[key] = first.attrs[key]
        joined.attrs["model"] = "for each window the fold's model that did not see its chromosome"


def _read_each(paths: Sequence[Path], name: str) -> Iterator[npt.NDArray[Any]]:
    for path in paths:
        with open_hdf5(path, *_KIND) as file:
            data = array(file, name)
            yield data.asstr()[:].astype(object) if name == "chrom" else data[:]
