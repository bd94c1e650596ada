"""Several steps a call on rows in the device's memory: the same steps, bit for bit."""

import os
import signal

import numpy as np
import pytest
import tiny
from test_trainer import assert_same, keras_weights, trained

from danq_keras.recipes.config import TrainConfig
from danq_keras.system.errors import InputError, Terminated
from danq_keras.training import resident
from danq_keras.training.resident import ResidentSteps, resident_steps
from danq_keras.training.step import TrainingStep
from danq_keras.training.trainer import Trainer

SETTINGS = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup_steps": 7,
    "global_clipnorm": 0.5,
    "weight_average": 0.9,
    "shift": 3,
    "freeze_conv_epochs": 1,
    "restudy": 0.2,
    "dropout_pool": (0.1, 0.3),
    "dropout_kind": "inverted",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny", ignore=True)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """Trained with single steps, whose rows come from the host."""
    return trained(tmp_path_factory.mktemp("whole") / "run", dataset, steps_per_call=1, **SETTINGS)


@pytest.mark.parametrize("at_once", [0, 4, 100])
def test_steps_in_calls_are_the_steps(dataset, whole, tmp_path, at_once):
    """86 samples an epoch: eight steps of ten, and one of six; more in later epochs."""
    in_calls = trained(tmp_path / "run", dataset, steps_per_call=at_once, **SETTINGS)
    assert_same(in_calls, whole)
    np.testing.assert_array_equal(in_calls.curriculum.scores, whole.curriculum.scores)


def test_stopped_between_calls_and_resumed(dataset, whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    epoch = ResidentSteps.epoch

    def stopping(self, *args, **options):
        for number, call in enumerate(epoch(self, *args, **options)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield call

    preset = tiny.preset(epochs=3, steps_per_call=3, **SETTINGS)
    first = Trainer(preset, dataset, folder)
    with monkeypatch.context() as patched:
        patched.setattr(ResidentSteps, "epoch", stopping)
        with pytest.raises(Terminated):
            first.fit()
    second = Trainer(preset, dataset, folder)
    assert second.resume()
    assert second.state.step == 6
    second.fit()
    assert_same(second, whole)
    assert keras_weights(folder) == keras_weights(whole.run)


def test_some_of_the_windows(tmp_path):
    data = tiny.make_dataset(tmp_path / "data")
    runs = [
        trained(tmp_path / str(at_once), data, steps_per_call=at_once, epochs=1, train_limit=25)
        for at_once in (1, 5)
    ]
    assert_same(*runs)


@pytest.fixture
def step():
    config = tiny.preset()
    return TrainingStep(config.model, config.train)


def test_where_the_rows_lie(dataset, step, monkeypatch):
    """On the device if they fit, else on the host."""
    assert resident_steps(step, TrainConfig(), dataset.train) is not None
    assert resident_steps(step, TrainConfig(steps_per_call=1), dataset.train) is None
    monkeypatch.setattr(resident, "_MOST_ON_A_CPU", 1000)
    assert resident_steps(step, TrainConfig(), dataset.train) is None
    assert resident_steps(step, TrainConfig(steps_per_call=7), dataset.train)._at_once == 7
    monkeypatch.setattr(resident.tf.config, "list_physical_devices", lambda _kind: ["a GPU"])
    assert resident_steps(step, TrainConfig(), dataset.train)._at_once == 50
    monkeypatch.setattr(TrainingStep, "replicas", 2)
    assert resident_steps(step, TrainConfig(), dataset.train) is None
    with pytest.raises(InputError, match="7 steps a call are for one device, here are 2"):
        resident_steps(step, TrainConfig(steps_per_call=7), dataset.train)


def test_a_call_grows_until_it_takes_long_enough(dataset, step):
    steps = resident_steps(step, TrainConfig(), dataset.train)
    taken = []
    for seconds in (5.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.4, 1e-9, 1e-9):
        taken.append(steps._at_once)
        steps._adapt(steps._at_once, seconds)
    assert taken == [1, 1, 2, 4, 8, 16, 30, 22, 44]
    assert steps._at_once == 50
