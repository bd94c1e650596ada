"""Optimizers, learning rates and the geometry of steps, against float64 NumPy and by hand."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from danq_keras.recipes.config import Preset, TrainConfig
from danq_keras.recipes.presets import PRESETS
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError
from danq_keras.training.optimizers import (
    OPTIMIZERS,
    describe_gradients,
    describe_steps,
    global_norm,
    inner,
    learning_rate_at,
    linear_rule,
    make_optimizer,
    share_above_epsilon,
    warn_of_few_steps,
    warn_of_scaling,
    warn_of_warmup,
)

DANQ = PRESETS["danq"]


def described(config):
    return describe_steps(config, make_optimizer(config))


def bare(**settings: Any) -> TrainConfig:
    """Training settings without RMSprop's own numbers."""
    return TrainConfig(**{"rho": None, "epsilon": None, **settings})


# ── making one ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_by_its_name(name: str) -> None:
    optimizer = make_optimizer(bare(optimizer=name, learning_rate=0.25))
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate.numpy()) == 0.25


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_has_an_optimizer(preset: Preset) -> None:
    assert optimizer_settings(preset.train) <= optimizer_config(make_optimizer(preset.train))


def optimizer_settings(config: TrainConfig) -> set[tuple[str, float]]:
    names = ("rho", "epsilon", "momentum")
    return {(name, getattr(config, name)) for name in names if getattr(config, name) is not None}


def optimizer_config(optimizer: keras.optimizers.Optimizer) -> set[tuple[str, float]]:
    config = optimizer.get_config()
    return {(name, config[name]) for name in ("rho", "epsilon", "momentum") if name in config}


def test_names_are_case_insensitive() -> None:
    assert isinstance(make_optimizer(TrainConfig(optimizer="RMSprop")), keras.optimizers.RMSprop)


def test_settings_reach_the_optimizer() -> None:
    config = make_optimizer(
        TrainConfig(rho=0.8, epsilon=1e-3, momentum=0.5, weight_decay=0.01)
    ).get_config()
    assert (config["rho"], config["epsilon"], config["momentum"], config["weight_decay"]) == (
        0.8,
        1e-3,
        0.5,
        0.01,
    )


def test_half_precision_scales_the_loss() -> None:
    optimizer = make_optimizer(TrainConfig(precision="mixed_float16"))
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(inner(optimizer), keras.optimizers.RMSprop)
    plain = make_optimizer(TrainConfig(precision="mixed_bfloat16"))
    assert inner(plain) is plain


def test_unknown_optimizer_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"one of rmsprop, sgd, .*Received: 'adamm'"):
        make_optimizer(TrainConfig(optimizer="adamm"))


@pytest.mark.parametrize(("optimizer", "key"), [("adam", "rho"), ("sgd", "epsilon")])
def test_settings_an_optimizer_lacks_are_refused(optimizer: str, key: str) -> None:
    with pytest.raises(InputError, match=f"{key}: the optimizer {optimizer} has no such setting"):
        make_optimizer(bare(optimizer=optimizer, **{key: 0.5}))


# ── the step of RMSprop ─────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 1.0])
def test_rmsprop_is_the_original_formula(scale: float) -> None:
    """a ← rho a + (1 - rho) g²; p ← p - lr g / sqrt(a + eps), below, at and above epsilon."""
    rng = np.random.default_rng(2)
    start = rng.standard_normal(50)
    gradients = scale * rng.standard_normal((20, 50))
    variable = keras.Variable(start.astype(np.float32))
    optimizer = make_optimizer(DANQ.train)
    optimizer.build([variable])
    mean, expected = np.zeros(50), start.copy()
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
        mean = 0.9 * mean + 0.1 * gradient**2
        expected -= 0.001 * gradient / np.sqrt(mean + 1e-6)
    np.testing.assert_allclose(variable.numpy() - start, expected - start, rtol=1e-4, atol=2e-6)
    share = share_above_epsilon(optimizer)
    assert share == pytest.approx((mean > 1e-6).mean(), abs=0.021)  # one weight in rounding
    assert (share == 0) == (scale == 1e-5)


def test_small_gradients_give_plain_descent_of_step_one() -> None:
    """lr / sqrt(eps) = 0.001 / 0.001: a weight moves by its gradient."""
    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer = make_optimizer(DANQ.train)
    optimizer.build([variable])
    optimizer.apply([tf.constant([4e-6])], [variable])
    assert variable.numpy()[0] == pytest.approx(-4e-6, rel=1e-5)


# ── shares and norms ────────────────────────────────────────────────────────


def filled(config: TrainConfig, *means: list[float]) -> keras.optimizers.Optimizer:
    """An optimizer whose mean squared gradients are these."""
    optimizer = make_optimizer(config)
    variables = [keras.Variable(np.zeros(len(mean), np.float32)) for mean in means]
    optimizer.build(variables)
    for variable, mean in zip(inner(optimizer)._velocities, means, strict=True):
        variable.assign(mean)
    return optimizer


MEANS = ([0.0, 1e-7, 2e-6], [1e-3, 1e-13, 1e-12, 9e-7, 5.0])


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_share_above_epsilon_by_hand(precision: str) -> None:
    config = dataclasses.replace(DANQ.train, precision=precision)
    assert share_above_epsilon(filled(config, *MEANS)) == 3 / 8


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "lamb"])
def test_share_where_epsilon_is_outside_the_root(name: str) -> None:
    """sqrt(a) > 1e-6 means a > 1e-12; that value itself is left out for its rounding."""
    config = bare(optimizer=name, epsilon=1e-6)
    means = ([0.0, 1e-7, 2e-6], [1e-3, 1e-13, 1e-11, 9e-7, 5.0])
    assert share_above_epsilon(filled(config, *means)) == 6 / 8


@pytest.mark.parametrize("name", ["sgd", "lion"])
def test_share_is_nan_where_nothing_is_normalised(name: str) -> None:
    optimizer = make_optimizer(bare(optimizer=name))
    optimizer.build([keras.Variable(np.zeros(3, np.float32))])
    assert math.isnan(share_above_epsilon(optimizer))


def test_global_norm() -> None:
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0], [12.0]])]
    assert float(global_norm(gradients)) == 13.0
    half = [tf.constant([300.0] * 4, tf.float16)]  # its square is beyond float16
    assert float(global_norm(half)) == 600.0


# ── learning rates ──────────────────────────────────────────────────────────


def rates(config: TrainConfig, steps: list[int], **options: Any) -> list[float]:
    return [learning_rate_at(config, step, **{"total_steps": 12, **options}) for step in steps]


def test_constant() -> None:
    assert rates(TrainConfig(learning_rate=0.1), [0, 5, 11, 100]) == [0.1] * 4


def test_warm_up_is_linear_and_ends_at_the_rate() -> None:
    config = TrainConfig(learning_rate=0.1, warmup_steps=4)
    assert rates(config, [0, 1, 2, 3, 4, 5]) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_cosine_by_hand() -> None:
    """From 0.1 to 0.02 over the 8 steps after the warm-up: full, 3/4 π, half, end."""
    config = TrainConfig(
        learning_rate=0.1, schedule="cosine", warmup_steps=4, minimum_learning_rate=0.02
    )
    expected = [0.025, 0.1, 0.06, 0.02 + 0.08 * (1 - math.sqrt(0.5)) / 2, 0.02, 0.02]
    assert rates(config, [0, 4, 8, 10, 12, 99]) == pytest.approx(expected)


def test_cosine_without_warm_up_falls_all_the_way() -> None:
    config = TrainConfig(learning_rate=0.1, schedule="cosine")
    values = rates(config, list(range(13)))
    assert values[0] == 0.1
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-12)


def test_warm_up_longer_than_the_training() -> None:
    config = TrainConfig(learning_rate=0.1, schedule="cosine", warmup_steps=100)
    assert rates(config, [0, 11]) == pytest.approx([0.001, 0.012])


def test_plateau_multiplies_and_has_a_floor() -> None:
    config = TrainConfig(learning_rate=0.1, schedule="plateau", minimum_learning_rate=0.03)
    assert rates(config, [5]) == [0.1]
    assert rates(config, [5], plateau=0.5) == [0.05]
    assert rates(config, [5], plateau=0.25) == [0.03]


def test_reductions_are_the_plateau_schedules_alone() -> None:
    assert rates(TrainConfig(learning_rate=0.1), [5], plateau=0.5) == [0.1]


# ── what is said ────────────────────────────────────────────────────────────


def test_header_states_the_step() -> None:
    line = described(DANQ.train)
    assert "rmsprop, learning rate 0.001, epsilon 1e-06 inside the root" in line
    assert "lr/sqrt(eps) = 1 times the gradient" in line
    half = described(dataclasses.replace(DANQ.train, learning_rate=0.02, epsilon=1e-4))
    assert "lr/sqrt(eps) = 2 times" in half


def test_header_takes_the_optimizers_own_epsilon() -> None:
    line = described(dataclasses.replace(DANQ.train, epsilon=None))
    assert "epsilon 1e-07" in line
    assert "= 3.162 times" in line


def test_header_of_other_optimizers_says_no_more() -> None:
    assert described(PRESETS["demo"].train) == "adam, learning rate 0.002"


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({}, False),
        ({"batch_size": 1000}, True),
        ({"learning_rate": 0.01}, False),  # chosen
        ({"batch_size": 1000, "learning_rate": 0.003}, False),
        ({"batch_size": 99}, False),
        ({"batch_size": 50}, True),
        ({"batch_size": 1000, "epsilon": 1e-10}, False),  # steps are normalised
        ({"batch_size": 1000, "learning_rate": 0.01}, False),
        ({"batch_size": 50, "learning_rate": 0.0005}, False),
        ({"batch_size": 1000, "optimizer": "adam"}, False),
    ],
)
def test_warning_when_batch_and_rate_part(settings: dict[str, Any], warns: bool) -> None:
    changed = apply_settings(DANQ, settings)
    assert (warn_of_scaling(changed.train, DANQ) is not None) == warns


def test_warning_names_the_flag_of_the_linear_rule() -> None:
    message = warn_of_scaling(dataclasses.replace(DANQ.train, batch_size=1000), DANQ)
    assert message is not None
    assert "Batch size is 10 times that of preset danq and the learning rate is the same" in message
    assert "--scale-learning-rate, which takes 10 times 0.001 and warms up." in message


@pytest.mark.parametrize(
    ("batch", "steps", "rule"),
    [
        (1000, 100_000, {"learning_rate": 0.01, "warmup_steps": 1000}),
        (1000, 300, {"learning_rate": 0.01, "warmup_steps": 30}),
        (50, 300, {"learning_rate": 0.0005}),
    ],
)
def test_the_linear_rule(batch: int, steps: int, rule: dict[str, float]) -> None:
    config = dataclasses.replace(DANQ.train, batch_size=batch)
    assert linear_rule(config, DANQ, total_steps=steps) == pytest.approx(rule)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"optimizer": "adam"}, "proportional to the gradient.* Received: adam"),
        ({"epsilon": 1e-9}, "Received: rmsprop, epsilon 1e-09"),
        ({"learning_rate": 0.5}, "Received: `learning_rate=0.5`. Give one of them"),
    ],
)
def test_where_the_linear_rule_does_not_hold(settings: dict[str, Any], line: str) -> None:
    config = apply_settings(DANQ, settings).train
    with pytest.raises(InputError, match=line):
        linear_rule(config, DANQ, total_steps=1000)


def test_a_warm_up_that_outlasts_the_training_is_said() -> None:
    config = dataclasses.replace(DANQ.train, warmup_steps=300)
    assert warn_of_warmup(config, total_steps=301) is None
    assert warn_of_warmup(DANQ.train, total_steps=1) is None
    message = warn_of_warmup(config, total_steps=300)
    assert message is not None
    assert (
        "rises for 300 steps and the training has at most 300: it never comes to 0.001" in message
    )
    assert "--set warmup_steps=30," in message


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "lr/sqrt(eps) 1, above epsilon 25 %, gradient norm 2"),
        ({"optimizer": "adam"}, "above epsilon 25 %, gradient norm 2"),
        ({"optimizer": "sgd", "global_clipnorm": 1.0}, "gradient norm 2, clipped 3"),
    ],
)
def test_an_epoch_tells_what_its_optimizer_has(settings: dict[str, Any], line: str) -> None:
    config = apply_settings(DANQ, settings).train
    share = math.nan if config.optimizer == "sgd" else 0.25
    found = describe_gradients(
        config, make_optimizer(config), share_above=share, norm=2.0, clipped=3
    )
    assert found == line


@pytest.mark.parametrize(
    ("changes", "steps", "n_targets", "warns"),
    [
        ({}, 322, 150, True),
        ({}, 44_000, 150, False),
        ({}, 322, 919, False),
        ({"epsilon": 1e-10}, 322, 150, False),
        ({"optimizer": "adam", "rho": None, "epsilon": None}, 322, 150, False),
    ],
)
def test_a_large_epsilon_on_few_steps_is_said(changes, steps, n_targets, warns) -> None:
    config = dataclasses.replace(DANQ.train, **changes)
    line = warn_of_few_steps(config, steps_per_epoch=steps, n_targets=n_targets)
    assert (line is not None) == warns
    assert line is None or line.endswith("--preset danq-fitted.")


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_rmsprop_in_one_operation_is_that_of_keras(momentum: float | None) -> None:
    """30 steps, to rounding; a checkpoint has the same variables."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(7, 5)).astype(np.float32)
    config = dataclasses.replace(DANQ.train, momentum=momentum)
    ours = make_optimizer(config)
    theirs = keras.optimizers.RMSprop(0.001, rho=0.9, epsilon=1e-6, momentum=momentum or 0.0)
    variables = [keras.Variable(start), keras.Variable(start)]
    for optimizer, variable in zip((ours, theirs), variables, strict=True):
        optimizer.build([variable])
    for scale in np.geomspace(1e-6, 1, 30):  # from far below epsilon to far above
        gradient = keras.ops.convert_to_tensor((scale * rng.normal(size=(7, 5))).astype("float32"))
        for optimizer, variable in zip((ours, theirs), variables, strict=True):
            optimizer.apply([gradient], [variable])
    moved = np.abs(variables[1].numpy() - start)
    assert np.median(moved) > 1e-3
    np.testing.assert_allclose(variables[0].numpy(), variables[1].numpy(), atol=3e-7, rtol=0)
    assert [each.shape for each in ours.variables] == [each.shape for each in theirs.variables]
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-12)
