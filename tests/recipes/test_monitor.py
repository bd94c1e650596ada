"""Which epoch of a history is the best, by the loss or by PR AUC."""

import math

import pytest

from danq_keras.recipes.config import TrainConfig
from danq_keras.recipes.monitor import best_epoch, monitor_of
from danq_keras.system.errors import InputError


def rows(*figures):
    return [{"val_loss": loss, "val_auprc": auprc} for loss, auprc in figures]


@pytest.mark.parametrize(
    ("history", "by_loss", "by_auprc"),
    [
        (rows((0.5, 0.1), (0.4, 0.2), (0.45, 0.3)), 1, 2),
        (rows((0.4, 0.2), (0.4, 0.2)), 0, 0),  # the first of equal ones
        (rows((0.5, 0.2), (0.4, 0.2)), 1, 1),  # PR AUC ties: the loss
        (rows((0.5, math.nan), (0.4, math.nan)), 1, 1),  # no positives anywhere
        (rows((0.3, math.nan), (0.4, 0.1)), 0, 1),
        (rows((math.nan, 0.9), (math.inf, 0.9), (0.4, 0.1)), 2, 2),
        (rows((math.nan, 0.9)), None, None),
        ([], None, None),
        ([{"val_loss": 0.2}, {"val_loss": 0.1}], 1, 1),
    ],
)
def test_the_best_epoch(history, by_loss, by_auprc) -> None:
    assert best_epoch(history, "val_loss") == by_loss
    assert best_epoch(history, "val_auprc") == by_auprc


def test_early_runs_watched_the_loss() -> None:
    assert monitor_of({}) == monitor_of({"train": {}}) == TrainConfig().monitor == "val_loss"
    assert monitor_of({"train": {"monitor": "val_auprc"}}) == "val_auprc"


def test_another_monitor_is_refused() -> None:
    with pytest.raises(InputError, match="monitor: one of val_loss, val_auprc"):
        TrainConfig(monitor="auprc")
