"""`history.csv` of a run: a row an epoch."""

import csv
import math
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
