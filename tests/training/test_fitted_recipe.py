"""The recipe for data that are not DeepSEA's: its choice, its sizes, its averages and its moves."""

import signal
from typing import Any

import numpy as np
import pytest
import tiny

from danq_keras.genome import dna
from danq_keras.models.layers import unpack_windows
from danq_keras.recipes import fit
from danq_keras.recipes.fit import fit_to_data, fitted_sizes
from danq_keras.recipes.presets import FITTED, get_preset
from danq_keras.recipes.settings import apply_settings, changed_settings
from danq_keras.system.signals import Terminated
from danq_keras.training import plan as plans
from danq_keras.training.plan import make_plan, request_of
from danq_keras.training.request import TrainRequest
from danq_keras.training.trainer import Trainer

AVERAGED = {
    "weight_average": 0.9,
    "shift": 4,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "output_bias": "prevalence",
}
USUAL: dict[str, Any] = {"prevalence": 0.05, "batch_size": 100}


def test_sizes_follow_the_data() -> None:
    yeast = fitted_sizes(window=1000, n_targets=150, samples=32_220, **USUAL)
    assert (yeast["pool_size"], yeast["shift"], yeast["warmup_steps"]) == (13, 60, 107)
    assert (yeast["epochs"], yeast["dense_units"]) == (40, 150)
    short = fitted_sizes(window=101, n_targets=1, samples=10_000, **USUAL)
    assert (101 - short["kernel_size"] + 1) // short["pool_size"] >= 20
    assert (short["epochs"], short["dense_units"], short["shift"]) == (40, 96, 6)
    large = fitted_sizes(window=1000, n_targets=2000, samples=1_000_000, **USUAL)
    assert (large["filters"], large["epochs"], large["dense_units"]) == (320, 8, 925)
    assert (yeast["dropout_pool"], yeast["dropout_lstm"], yeast["weight_decay"]) == (0.3, 0.6, 0.1)
    many = fitted_sizes(window=101, n_targets=16, samples=877_164, **USUAL)
    assert (many["filters"], many["epochs"], many["shift"]) == (128, 8, 6)  # few bases, all told


def test_rare_positives_get_weaker_dropout_and_decay(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    common, _ = fit_to_data(get_preset(FITTED), dataset, {})
    assert (common.train.weight_decay, common.model.dropout_lstm) == (0.1, 0.6)
    rare = tiny.make_dataset(tmp_path / "rare", positive=0.01)
    fitted, _ = fit_to_data(get_preset(FITTED), rare, {})
    assert (fitted.train.weight_decay, fitted.model.dropout_pool) == (0.01, 0.2)
    assert {"dropout_pool", "dropout_lstm", "weight_decay"} <= set(fitted.fitted)
    preset = apply_settings(get_preset(FITTED), {"dropout_lstm": 0.3})
    fitted, _ = fit_to_data(preset, rare, {"dropout_lstm": 0.3})
    assert (fitted.model.dropout_lstm, fitted.model.dropout_pool) == (0.3, 0.2)


@pytest.mark.parametrize("window", [1, 2, 5, 19, 20, 40, 101])
def test_every_window_gets_a_network(window: int) -> None:
    sizes = fitted_sizes(window=window, n_targets=1, samples=10, **USUAL)
    assert (window - sizes["kernel_size"] + 1) // sizes["pool_size"] >= 1


def test_chosen_where_nothing_is_named(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    plan = make_plan(request_of(dataset, tmp_path / "run"), out=tmp_path / "run", config=None)
    assert plan.preset.name == FITTED
    assert changed_settings(plan.preset) == {}
    assert plan.description["fitted"] == list(plan.preset.fitted)
    named = request_of(dataset, tmp_path / "run", settings={"filters": 7})
    plan = make_plan(named, out=tmp_path / "run", config=None)
    assert plan.preset.model.filters == 7
    assert "filters" in changed_settings(plan.preset)
    again = request_of(dataset, tmp_path / "run", resume=True)
    resumed = make_plan(again, out=tmp_path / "run", config=plan.description)
    assert resumed.preset == plan.preset


def test_the_data_are_opened_once(tmp_path, monkeypatch) -> None:
    """For the recipe's name one split's header is read, however often the name is needed."""
    dataset = tiny.make_dataset(tmp_path / "data")
    opened = []
    monkeypatch.setattr(plans, "open_dataset", lambda path, **_: opened.append(path) or dataset)
    header = dataset.train.header
    monkeypatch.setattr(fit, "read_header", lambda path: opened.append(path) or header)
    request = plans.with_preset(TrainRequest(data=dataset.folder))
    out = plans.run_folder(request)
    assert str(out) == f"runs/{FITTED}-data"
    plans.make_plan(request, out=tmp_path / "run", config=None)
    assert opened == [dataset.folder / "train.h5", dataset.folder]
    resumed = TrainRequest(data=dataset.folder, resume=True)
    assert plans.with_preset(resumed) is resumed


def test_the_strand_as_given_is_one_sample(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data", n_train=2000)
    fitted, _ = fit_to_data(get_preset(FITTED), dataset, {})
    assert fitted.train.warmup_steps == 13
    fitted, _ = fit_to_data(get_preset(FITTED), dataset, {"epochs": 3})
    assert (fitted.train.epochs, "epochs" in fitted.fitted) == (40, False)


def test_the_average_is_validated_and_kept(tmp_path) -> None:
    """The file holds the averages computed here by hand; the weights in training stay their own."""
    dataset = tiny.make_dataset(tmp_path / "data")
    preset = tiny.preset(epochs=1, steps_per_call=1, **AVERAGED)
    trainer = Trainer(preset, dataset, tmp_path)
    seen, step = [], trainer.step._compiled

    def watched(batch, frozen):
        result = step(batch, frozen)
        seen.append([each.numpy() for each in trainer.model.trainable_variables])
        return result

    trainer.step._compiled = watched
    trainer.fit()
    average = seen[0]
    for weights in seen[1:]:
        average = [0.9 * old + 0.1 * new for old, new in zip(average, weights, strict=True)]
    with trainer.step.averaged_weights():
        for variable, value in zip(trainer.model.trainable_variables, average, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=0, atol=1e-6)
    for variable, value in zip(trainer.model.trainable_variables, seen[-1], strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_resumed_is_bit_for_bit_the_whole(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    preset = tiny.preset(epochs=2, steps_per_call=1, **AVERAGED)
    trainers = []
    for name, stopped in (("whole", False), ("parts", True)):
        (tmp_path / name).mkdir()
        trainer = Trainer(preset, dataset, tmp_path / name)
        if stopped:
            step, calls = trainer.step._compiled, []

            def interrupted(batch, frozen, step=step, calls=calls):
                calls.append(1)
                if len(calls) == 5:
                    signal.raise_signal(signal.SIGTERM)
                return step(batch, frozen)

            trainer.step._compiled = interrupted
            with pytest.raises(Terminated):
                trainer.fit()
            trainer = Trainer(preset, dataset, tmp_path / name)
            assert trainer.resume()
        trainer.fit()
        trainers.append(trainer)
    whole, parts = trainers
    for one, other in zip(whole.optimizer.variables, parts.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for one, other in zip(whole.model.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_windows_move_and_unknown_bases_come_in(tmp_path, rng) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    step = Trainer(tiny.preset(**AVERAGED), dataset, tmp_path).step
    codes = rng.integers(0, 4, (50, tiny.WINDOW), dtype=np.uint8)
    windows = unpack_windows(dna.pack_codes(codes), tiny.WINDOW)
    moved = step._move(windows).numpy()
    whole = np.pad(np.asarray(windows), [(0, 0), (4, 4), (0, 0)])
    found = [
        [by for by in range(9) if np.array_equal(row, whole[number, by : by + tiny.WINDOW])]
        for number, row in enumerate(moved)
    ]
    assert all(len(each) == 1 for each in found)
    assert {each[0] for each in found} == set(range(9))
