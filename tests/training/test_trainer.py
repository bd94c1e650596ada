import csv
import dataclasses
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny

from danq_keras.genome import dna
from danq_keras.system.errors import InputError, Terminated
from danq_keras.training import trainer as trainer_module
from danq_keras.training.checkpoints import Snapshot, latest_checkpoint
from danq_keras.training.history import HISTORY_COLUMNS
from danq_keras.training.pipeline import Order, epoch_batches
from danq_keras.training.state import EpochSums, State
from danq_keras.training.step import TrainingStep
from danq_keras.training.trainer import Trainer

TIMES = ("seconds", "samples_per_second")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny")


def trained(folder, dataset, **settings):
    folder.mkdir()
    trainer = Trainer(tiny.preset(**{"epochs": 3, **settings}), dataset, folder)
    trainer.fit()
    return trainer


def figures(trainer):
    return [
        {key: value for key, value in row.items() if key not in TIMES}
        for row in trainer.state.history
    ]


def assert_same(one, other):
    assert figures(one) == figures(other)
    for a, b in zip(one.model.variables, other.model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    for a, b in zip(one.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


class StopAfter:
    """Sends this process a signal in the given step."""

    def __init__(self, trainer, step, number):
        self.step, self.at, self.number, self.trainer = trainer.step, step, number, trainer

    def __getattr__(self, name):
        return getattr(self.step, name)

    def __call__(self, batch):
        result = self.step(batch)
        if self.trainer.state.step == self.at:
            os.kill(os.getpid(), self.number)
        return result


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        pytest.param(3, {}, id="danq, within an epoch"),
        pytest.param(
            8,
            {"dropout_pool": (0.1, 0.3), "dropout_kind": "inverted"},
            id="random dropout, at the last step of an epoch",
            marks=pytest.mark.long,
        ),
        pytest.param(
            13,
            {"optimizer": "adam", "schedule": "plateau", "plateau_patience": 1, "warmup_steps": 4},
            id="adam on a plateau, in the second epoch",
            marks=pytest.mark.long,
        ),
        pytest.param(
            15,  # the first checkpoint after it is that of the signal
            {"restudy": 0.25, "schedule": "cosine", "checkpoint_steps": 100},
            id="restudy, in the second epoch",
        ),
        pytest.param(
            4,
            {
                "optimizer": "adamw",
                "freeze_conv_epochs": 2,
                "restudy": 0.3,
                "restudy_mode": "replace",
            },
            id="frozen convolution and replacing restudy, in the first epoch",
        ),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, dataset, step, settings):
    whole = trained(tmp_path / "whole", dataset, **settings)
    folder = tmp_path / "parts"
    folder.mkdir()
    first = Trainer(tiny.preset(epochs=3, steps_per_call=1, **settings), dataset, folder)
    first.step = StopAfter(first, step, signal.SIGTERM)
    with pytest.raises(Terminated):
        first.fit()
    second = Trainer(tiny.preset(epochs=3, **settings), dataset, folder)
    assert second.resume()
    assert second.state.step == step + 1
    second.fit()
    assert_same(second, whole)
    for key in ("scores", "again"):  # None without restudy
        np.testing.assert_array_equal(
            getattr(second.curriculum, key), getattr(whole.curriculum, key)
        )
    assert keras_weights(folder) == keras_weights(tmp_path / "whole")


def keras_weights(folder):
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    return [weight.tobytes() for weight in model.get_weights()]


def test_ctrl_c_saves_and_says_how_to_continue(tmp_path, dataset, caplog):
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = Trainer(tiny.preset(epochs=3, steps_per_call=1), dataset, folder)
    trainer.step = StopAfter(trainer, 4, signal.SIGINT)
    logging.getLogger("danq_keras").propagate = True
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert "--resume" in caplog.text
    assert latest_checkpoint(folder / "checkpoints").name == "step-000000005.h5"


@pytest.mark.parametrize(("minutes", "kept"), [(1e-9, "every step"), (60.0, "every epoch")])
def test_checkpoints_by_the_clock(tmp_path, dataset, monkeypatch, minutes, kept):
    written = []
    write = Snapshot.write
    monkeypatch.setattr(
        Snapshot, "write", lambda self, folder: written.append(write(self, folder).name)
    )
    settings = {"checkpoint_minutes": minutes, "checkpoint_steps": 0, "steps_per_call": 1}
    trainer = trained(tmp_path / "run", dataset, epochs=2, **settings)
    steps = trainer.state.step
    expected = range(1, steps + 1) if kept == "every step" else (steps // 2, steps)
    assert written == [f"step-{step:09d}.h5" for step in expected]


def test_a_full_disk_in_a_write_ends_the_training_and_keeps_what_was(
    tmp_path, dataset, monkeypatch
):
    """The model comes first: no checkpoint may speak of a model that is not there."""
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = Trainer(tiny.preset(epochs=3, checkpoint_steps=2), dataset, folder)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer_module, "save_model", full)
    with pytest.raises(OSError, match="No space"):
        trainer.fit()
    again = Trainer(tiny.preset(epochs=3, checkpoint_steps=2), dataset, folder)
    assert again.resume()
    assert again.state.best_epoch == 0
    assert not (folder / "model.keras").exists()


def test_training_learns_and_keeps_the_best_weights(tmp_path):
    data = tiny.make_dataset(tmp_path / "data", n_train=300, n_targets=1)
    settings = {"optimizer": "adam", "learning_rate": 0.01, "dropout_lstm": 0.0}
    config = tiny.preset(n_targets=1, filters=16, epochs=12, dropout_pool=0.0, **settings)
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = Trainer(config, data, folder)
    trainer.fit()
    history = trainer.state.history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert max(row["val_auroc"] for row in history) > 0.9
    losses = [row["val_loss"] for row in history]
    assert trainer.state.best_epoch == 1 + int(np.argmin(losses))
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [float(row["val_loss"]) for row in rows] == losses
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_sixth_epoch_without_improvement_stops_danq(tmp_path, dataset, monkeypatch):
    losses = iter([0.9, 0.8, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.1])
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5)
    monkeypatch.setattr(Trainer, "_validate", lambda *_: {**row, "val_loss": next(losses)})
    saved = []
    monkeypatch.setattr(Trainer, "_write_model", lambda *_: saved.append(1))
    trainer = trained(tmp_path / "run", dataset, epochs=60)
    assert len(saved) == 2  # strictly lower saves: the equal loss of epoch 3 does not
    assert len(trainer.state.history) == 8
    assert trainer.state.best_epoch == 2


def test_infinite_loss_names_the_step(tmp_path, dataset):
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = Trainer(tiny.preset(epochs=1, learning_rate=1e30), dataset, folder)
    with pytest.raises(InputError, match=r"loss became (nan|inf) in step \d+ \(epoch 1\)"):
        trainer.fit()


def test_one_step_is_the_formula_of_the_original(dataset):
    """a ← 0.9 a + 0.1 g²; p ← p - 0.001 g / sqrt(a + 1e-6), the gradient taken numerically."""
    settings = {"dropout_pool": 0.0, "dropout_lstm": 0.0}
    config = tiny.preset(**settings)
    step = TrainingStep(config.model, config.train)
    order = Order.of(dataset.train, seed=0)
    batch = next(iter(epoch_batches(dataset.train, order, 0, batch_size=10)))
    x = dna.unpack_onehot(batch[0].numpy(), dataset.window).astype("f4")
    y = dna.unpack_labels(batch[1].numpy(), 3)
    before = step.model.get_layer("logits").get_weights()[1].astype(float)
    probs = step.model.predict(x, verbose=0).astype(float)
    gradient = (probs - y).mean(0) / 3  # of the output bias: mean over samples and targets
    loss = -(y * np.log(probs) + (1 - y) * np.log1p(-probs)).mean()
    result = step(batch).numpy()
    assert result[0] == pytest.approx(loss, rel=1e-5)
    assert result[1] == 10
    expected = before - 0.001 * gradient / np.sqrt(0.1 * gradient**2 + 1e-6)
    after = step.model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_ignored_labels_change_neither_loss_nor_step(tmp_path):
    data = tiny.make_dataset(tmp_path / "ignore", ignore=True)
    order = Order.of(data.train, seed=0)
    batch = next(iter(epoch_batches(data.train, order, 0, batch_size=10)))
    flipped = batch[1] ^ batch[2]  # the other label wherever it does not count
    assert not np.array_equal(batch[1], flipped)
    config = tiny.preset()
    results, weights = [], []
    for labels in (batch[1], flipped):
        step = TrainingStep(config.model, config.train)
        results.append(step((batch[0], labels, batch[2])).numpy())
        weights.append(step.model.get_weights())
    np.testing.assert_array_equal(*results)
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_clipping_scales_the_gradient_and_is_counted(tmp_path, dataset):
    common = {"optimizer": "sgd", "learning_rate": 1.0, "dropout_pool": 0.0, "dropout_lstm": 0.0}
    batch = next(
        iter(epoch_batches(dataset.train, Order.of(dataset.train, seed=0), 0, batch_size=10))
    )
    moves = []
    for clip in (None, 0.01):
        config = tiny.preset(global_clipnorm=clip, **common)
        step = TrainingStep(config.model, config.train)
        before = step.model.get_weights()
        norm = float(step(batch)[2])
        moves.append(
            math.sqrt(
                sum(
                    ((a - b) ** 2).sum()
                    for a, b in zip(before, step.model.get_weights(), strict=True)
                )
            )
        )
        assert norm == pytest.approx(moves[0], rel=1e-4)
    assert moves[0] > 0.02
    assert moves[1] == pytest.approx(0.01, rel=1e-3)
    trainer = trained(tmp_path / "run", dataset, epochs=1, global_clipnorm=0.01, **common)
    assert trainer.state.history[0]["clipped_steps"] == 9


def test_frozen_convolutions_stay_and_the_optimizer_goes_on(tmp_path, dataset):
    """AdamW would shrink the weights without any gradient; its means must be ready at the thaw."""
    config = tiny.preset(optimizer="adamw", epochs=2, freeze_conv_epochs=5)
    (tmp_path / "run").mkdir()
    trainer = Trainer(config, dataset, tmp_path / "run")
    before = {weight.path: weight.numpy() for weight in trainer.model.trainable_variables}
    trainer.fit()
    for weight in trainer.model.trainable_variables:
        kept = np.array_equal(before[weight.path], weight.numpy())
        assert kept == weight.path.startswith("conv/"), weight.path
    means = [each.numpy() for each in trainer.optimizer.variables if "conv_kernel_vel" in each.path]
    assert len(means) == 1
    assert means[0].any()


def test_gradient_norm_and_clipping_leave_frozen_weights_out(dataset):
    config = tiny.preset(
        optimizer="sgd", learning_rate=1.0, dropout_pool=0.0, dropout_lstm=0.0, conv_init="glorot"
    )
    batch = next(
        iter(epoch_batches(dataset.train, Order.of(dataset.train, seed=0), 0, batch_size=10))
    )
    norms = []
    for frozen in (False, True):
        step = TrainingStep(config.model, config.train)
        step.freeze_convolutions(frozen)
        before = step.model.get_weights()
        norms.append(float(step(batch)[2]))
        moved = sum(
            ((a - b) ** 2).sum() for a, b in zip(before, step.model.get_weights(), strict=True)
        )
        assert norms[-1] == pytest.approx(math.sqrt(moved), rel=1e-4)
    assert norms[1] < norms[0]
    step.freeze_convolutions(False)
    before = step.model.get_layer("conv").get_weights()[0]
    step(batch)
    assert not np.array_equal(before, step.model.get_layer("conv").get_weights()[0])


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_and_saves_float32(tmp_path, dataset, precision):
    trainer = trained(tmp_path / "run", dataset, precision=precision, epochs=2)
    assert math.isfinite(trainer.state.history[-1]["loss"])
    scaled = isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    model = keras.saving.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_targets_can_be_a_part_in_any_order(tmp_path, dataset):
    folder = tmp_path / "run"
    folder.mkdir()
    trainer = Trainer(tiny.preset(n_targets=2, epochs=1), dataset, folder, columns=[2, 0])
    order = Order.of(dataset.train, seed=0)
    batch = next(iter(epoch_batches(dataset.train, order, 0, batch_size=10)))
    _, labels, _ = trainer.step._unpack_batch(batch)
    whole = dna.unpack_labels(batch[1].numpy(), 3)
    np.testing.assert_array_equal(labels, whole[:, [2, 0]])


@pytest.mark.parametrize("parts", [3, 10])
def test_a_step_in_parts_is_the_step(dataset, parts):
    """To rounding; the last batch of the epoch, of 6 samples, has empty parts."""
    settings = {"dropout_pool": 0.0, "dropout_lstm": 0.0, "restudy": 0.2, "global_clipnorm": 0.3}
    results, weights = [], []
    for accumulate in (1, parts):
        config = tiny.preset(accumulate=accumulate, **settings)
        step = TrainingStep(config.model, config.train)
        batches = epoch_batches(dataset.train, Order.of(dataset.train, seed=0), 0, batch_size=10)
        results.append([step(batch).numpy() for batch in batches])
        weights.append(step.model.get_weights())
    assert len(results[0]) == 9
    for whole, in_parts in zip(*results, strict=True):
        np.testing.assert_allclose(in_parts, whole, rtol=1e-3, atol=1e-5)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_more_parts_than_samples_are_refused():
    config = tiny.preset(accumulate=11)
    with pytest.raises(InputError, match="10 samples for 1 devices in 11 parts"):
        TrainingStep(config.model, config.train)


def test_mirrored_steps_equal_those_of_one_device():
    """In a process of its own, as TensorFlow's devices are set before it starts."""
    script = Path(__file__).with_name("mirrored_check.py")
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    assert "replicas: 2" in result.stdout


def test_state_survives_json():
    import json

    state = State(epoch=2, best_auprc=0.25, sums=EpochSums(*[0.1 + 0.2] * 5))
    content = json.loads(json.dumps(dataclasses.asdict(state)))
    assert State(**content | {"sums": EpochSums(**content["sums"])}) == state
    assert json.loads(json.dumps(math.inf)) == math.inf


def test_no_windows_is_an_error(tmp_path, dataset):
    empty = dataclasses.replace(dataset.train, sequence=dataset.train.sequence[:0])
    with pytest.raises(InputError, match="no windows to train on"):
        Trainer(tiny.preset(), dataclasses.replace(dataset, train=empty), tmp_path)
