"""Folders of runs that were never trained: files with figures to compare and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras.data.targets import Targets
from danq_keras.evaluation import auc_tables
from danq_keras.evaluation.metrics import TargetMetrics
from danq_keras.runs.sets import FOLDS, REPEATS, RunSet


def config(**train: Any) -> dict[str, Any]:
    return {
        "preset": "danq",
        "source": "a <small> network",
        "synthetic": True,
        "dataset": {"path": "/data", "fingerprints": {"train": "a", "valid": "b", "test": "c"}},
        "model": {"filters": 4},
        "train": {"epochs": 3, "seed": 0, **train},
        "targets": ["one", "two"],
    }


def figures(auroc: np.ndarray, positives: int) -> TargetMetrics:
    n = len(auroc)
    return TargetMetrics(
        positives=np.where(np.isnan(auroc), 0, positives),
        negatives=np.full(n, 100),
        auroc=auroc,
        auprc=auroc / 2,
        auprc_interpolated=auroc / 2,
        accuracy=np.full(n, 0.9),
        f1=auroc / 3,
        best_f1=auroc / 2.5,
        best_threshold=np.full(n, 0.2),
    )


def write_run(
    run: Path, description: dict[str, Any], aucs: list[float], losses: list[float]
) -> None:
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(description))
    (run / "report.html").write_text("complete")
    n = len(losses)
    history = {"epoch": range(1, n + 1), "loss": losses, "val_loss": losses}
    history |= {"val_auroc": [0.7] * n, "val_auprc": [np.nan] * n, "seconds": [2.0] * n}
    pd.DataFrame(history).to_csv(run / "history.csv", index=False, na_rep="NA")
    targets = Targets(tuple(description["targets"]), group=("TF",) * len(aucs))
    table = auc_tables.auc_table(
        targets, range(len(aucs)), metrics=figures(np.array(aucs), positives=20)
    )
    auc_tables.write_auc_table(run / "test_aucs.tsv", table)
    summary = auc_tables.summarise(table, loss=0.25)
    (run / "test_summary.json").write_text(json.dumps(summary))


def make_set(
    folder: Path,
    aucs: list[list[float]],
    losses: list[list[float]] | None = None,
    *,
    folds: bool = False,
    description: dict[str, Any] | None = None,
) -> RunSet:
    """A complete set with a run for each list of (two) target AUCs."""
    description = description or config()
    chromosomes = [{"chromosomes": [f"chr{i}"], "windows": 9} for i in range(len(aucs))]
    kind = FOLDS if folds else REPEATS
    numbers = tuple(range(len(aucs)))
    found = RunSet(folder, kind, numbers, description, folds=chromosomes if folds else [])
    losses = losses or [[0.4, 0.3, 0.35]] * len(aucs)
    for run, values, course in zip(found.runs.values(), aucs, losses, strict=True):
        write_run(run, description, values, course)
    (folder / kind.record).write_text(json.dumps(found.record()))
    return found
