"""Which epoch of a training is the best: by the figure that its recipe watches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def is_better(row: Mapping[str, Any], best: Mapping[str, Any] | None, monitor: str) -> bool:
    """Whether the validation figures of an epoch are strictly better than the best so far.

    Args:
        row: `val_loss` and `val_auprc` of the epoch, numbers or NaN.
        best: those of the best epoch before, None for no epoch.
        monitor: which of them decides, one of `config.MONITORS`. Of equal ones the loss decides,
            and where there is no PR AUC, as without positives, the loss alone.
    """
    if not np.isfinite(row["val_loss"]):
        return False
    return best is None or _rank(row, monitor) < _rank(best, monitor)


def best_epoch(rows: Sequence[Mapping[str, Any]], monitor: str) -> int | None:
    """Index of the best of a history's rows, the first of equal ones; None if none has a loss."""
    best: int | None = None
    for index, row in enumerate(rows):
        if is_better(row, None if best is None else rows[best], monitor):
            best = index
    return best


def monitor_of(config: Mapping[str, Any]) -> str:
    """What a run watched, by its config.json; those of early versions watched the loss."""
    return str(config.get("train", {}).get("monitor", "val_loss"))


def _rank(row: Mapping[str, Any], monitor: str) -> tuple[float, float]:
    """Lower is better."""
    auprc = float(row.get("val_auprc", np.nan)) if monitor == "val_auprc" else 0.0
    return (np.inf if np.isnan(auprc) else -auprc, float(row["val_loss"]))
