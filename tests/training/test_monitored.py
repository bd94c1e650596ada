"""The figure that a recipe watches: whose weights are kept, when a training ends, what is told."""

import json

import keras
import numpy as np
import pytest
import tiny

from danq_keras.runs.statistics import run_figures
from danq_keras.training.run import train
from danq_keras.training.trainer import Trainer

SCRIPT = ((0.50, 0.2), (0.60, 0.4), (0.55, 0.3), (0.40, 0.35), (0.30, 0.39), (0.2, 0.1))
FIGURES = ("val_auroc", "val_accuracy", "val_f1", "val_best_f1")


@pytest.fixture
def scripted(monkeypatch):
    """Each epoch validates at the next figures of `SCRIPT`; the weights after each epoch."""
    weights = []

    def validate(trainer, _interruption):
        weights.append([np.array(v) for v in trainer.model.trainable_variables])
        loss, auprc = SCRIPT[trainer.state.epoch]
        return {"val_loss": loss, "val_auprc": auprc} | dict.fromkeys(FIGURES, 0.5)

    monkeypatch.setattr(Trainer, "_validate", validate)
    return weights


@pytest.mark.parametrize(
    ("monitor", "trained", "best", "told"),
    [
        ("val_auprc", 4, 2, "Best validation PR AUC 0.4000 in epoch 2."),
        ("val_loss", 3, 1, "Best validation loss 0.500000 in epoch 1."),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    tmp_path, scripted, messages, monitor, trained, best, told
) -> None:
    tiny.make_dataset(tmp_path / "data")
    settings = tiny.SETTINGS | {"epochs": 6, "patience": 2, "monitor": monitor}
    train(tmp_path / "data", tmp_path / "run", preset="danq", settings=settings)
    run = tmp_path / "run"
    assert len(scripted) == trained
    kept = keras.saving.load_model(run / "model.keras", compile=False).trainable_variables
    for ours, theirs in zip(kept, scripted[best - 1], strict=True):
        np.testing.assert_array_equal(np.array(ours), theirs)
    assert told in messages.text
    assert run_figures(run, [])["best_epoch"] == best
    assert json.loads((run / "config.json").read_text())["train"]["monitor"] == monitor
    assert f"Best validation after epoch {best}:" in (run / "report.html").read_text()
