"""What a replication of DanQ on DeepSEA's data should reach on its way; light.

The paper gives no losses. These are values that this project expects and has not measured yet: a
run that is far above them will hardly come to the paper's mean PR AUC of 0.371.
"""

from collections.abc import Mapping
from typing import Any

TRAIN_SAMPLES = 4_400_000  # Source: DeepSEA's train.mat, both strands
EPOCH, LOSS = 10, 0.0535
FINAL_LOSS, FINAL_AUPRC = 0.0495, 0.371


def is_replication(preset: str, n_samples: int) -> bool:
    """Whether the milestones are meant for a run.

    Args:
        preset: name of the recipe.
        n_samples: samples of an epoch, both strands.
    """
    return preset == "danq" and n_samples == TRAIN_SAMPLES


def milestone(row: Mapping[str, Any], *, best_loss: float, finished: bool) -> str | None:
    """The line that an epoch's figures deserve; None for most epochs.

    Args:
        row: of history.csv: `epoch`, `val_loss`.
        best_loss: the lowest validation loss so far.
        finished: whether this was the last epoch.
    """
    if finished:
        return (
            f"Milestone: the best validation loss is {best_loss:.4f}; about {FINAL_LOSS} goes with "
            f"the paper's mean PR AUC of {FINAL_AUPRC}."
        )
    if row["epoch"] != EPOCH:
        return None
    where = "on its way" if best_loss < LOSS else "not on its way to the paper's figures"
    return (
        f"Milestone: validation loss {best_loss:.4f} by epoch {EPOCH}; a replication is below "
        f"{LOSS} by then. This run is {where}."
    )
