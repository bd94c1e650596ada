"""`history.csv` of a run: a row an epoch."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danq_keras.system.files import atomic_output

VALIDATION_COLUMNS = (
    "val_loss",
    "val_auroc",
    "val_auprc",
    "val_accuracy",
    "val_f1",
    "val_best_f1",
)
HISTORY_COLUMNS = (
    "epoch",
    "loss",
    *VALIDATION_COLUMNS,
    "learning_rate",
    "gradient_norm",
    "clipped_steps",
    "share_above_epsilon",
    "seconds",
    "samples_per_second",
)
RESTUDY_COLUMNS = ("samples", "restudied")  # samples of the epoch, and which of them came again


def epoch_line(row: Mapping[str, Any], steps: str, *, best: bool) -> str:
    """What the terminal says of an epoch.

    Args:
        row: of the history.
        steps: of its gradients, see `optimizers.describe_gradients`.
        best: whether its validation is the best so far.
    """
    return (
        f"epoch {row['epoch']}: loss {row['loss']:.5f}, val_loss {row['val_loss']:.5f}"
        f"{'*' if best else ''}, ROC AUC {row['val_auroc']:.4f}, PR AUC {row['val_auprc']:.4f}, "
        f"F1 {row['val_f1']:.3f} (best {row['val_best_f1']:.3f})\n"
        f"  steps: {steps}; {row['seconds']:.0f} s, {row['samples_per_second']:.0f} samples/s"
    )


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write `history.csv` anew, so that a repeated epoch never stands there twice."""
    with (
        atomic_output(path, overwrite=True) as temporary,
        temporary.open("w", newline="") as file,
    ):
        rows = csv.DictWriter(file, list(history[0]))
        rows.writeheader()
        for row in history:
            rows.writerow({key: "NA" if _is_nan(value) else value for key, value in row.items()})


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
