"""TrainConfig → Keras optimizer, learning rate of a step, and the geometry of its steps.

`danq` trains with RMSprop whose epsilon, inside the square root, exceeds nearly every squared
gradient: the step is then plain gradient descent times lr / sqrt(epsilon). Whether a weight is in
that regime is what `share_above_epsilon` measures.
"""

import inspect
import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from danq_keras.recipes.config import Preset, TrainConfig
from danq_keras.recipes.presets import DEEPSEA_TARGETS, FITTED
from danq_keras.system.errors import InputError


class RMSprop(keras.optimizers.RMSprop):
    """Keras' RMSprop, each weight read and written once a step and not some twenty times.

    TensorFlow has the formula as one operation: of 47 million weights it takes 0.15 s on two cores
    where the operations of Keras take 0.5 s, a seventh of a step of `danq` at batch 100 (measured
    with 150 GFLOP/s in matrix products). Results differ in rounding.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the running means, and what the operation leaves behind: the last steps."""
        if self.built:
            return
        super().build(variables)
        # Without momentum nothing reads them, so they are no state and in no checkpoint.
        self._last_steps = [
            tf.Variable(tf.zeros(each.shape, each.dtype), trainable=False)
            for each in (variables if not self.momentum else ())
        ]

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Move a variable by its gradient."""
        index = self._get_variable_index(variable)
        steps = self._momentums[index].value if self.momentum else self._last_steps[index]
        numbers = {
            "lr": learning_rate,
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "grad": gradient,
        }
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._velocities[index].value.handle,
            mom=steps.handle,
            use_locking=True,
            **{name: tf.cast(value, variable.dtype) for name, value in numbers.items()},
        )


_LARGE_EPSILON = 1e-7
_OTHER_BATCH = 1.5  # times larger or smaller, below which a step is much the same
_FEW_STEPS = 100_000  # of a whole training; the published one has up to 60 times 44,000
OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "rmsprop": RMSprop,
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "adamax": keras.optimizers.Adamax,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
    "lion": keras.optimizers.Lion,
    "lamb": keras.optimizers.Lamb,
}


def check_optimizer(config: TrainConfig) -> None:
    """Refuse an optimizer that does not exist, or that lacks a setting, without building one.

    Raises:
        InputError: there is no optimizer of that name, or it lacks a setting that was given.
    """
    _kind_and_options(config)


def make_optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    """The optimizer, wrapped for dynamic loss scaling under mixed_float16.

    Raises:
        InputError: see `check_optimizer`.
    """
    kind, options = _kind_and_options(config)
    if config.weight_average:
        options |= {"use_ema": True, "ema_momentum": config.weight_average}
    optimizer = kind(**options)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _kind_and_options(
    config: TrainConfig,
) -> tuple[type[keras.optimizers.Optimizer], dict[str, Any]]:
    kind = OPTIMIZERS.get(config.optimizer.lower())
    if kind is None:
        raise InputError(
            f"optimizer: one of {', '.join(OPTIMIZERS)}. Received: {config.optimizer!r}."
        )
    accepted = inspect.signature(kind).parameters
    options: dict[str, Any] = {"learning_rate": config.learning_rate}
    for name in ("rho", "epsilon", "momentum"):
        value = getattr(config, name)
        if value is not None and name not in accepted:
            raise InputError(
                f"{name}: the optimizer {config.optimizer} has no such setting. Leave it out."
            )
        if value is not None:
            options[name] = value
    if config.weight_decay:
        options["weight_decay"] = config.weight_decay
    return kind, options


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside a loss-scaling wrapper, or itself."""
    wrapped = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if wrapped else optimizer


def learning_rate_at(
    config: TrainConfig, step: int, *, total_steps: int, plateau: float = 1.0
) -> float:
    """Learning rate of a 0-based optimizer step: linear warm-up, then the schedule.

    Args:
        config: schedule and its numbers.
        step: counted over all epochs.
        total_steps: of the whole training, the length of the cosine.
        plateau: product of the reductions so far (schedule "plateau").
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        done = max(0, step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
        span = rate - config.minimum_learning_rate
        rate = config.minimum_learning_rate + span * (1 + math.cos(math.pi * min(1.0, done))) / 2
    elif config.schedule == "plateau":
        rate = max(config.minimum_learning_rate, rate * plateau)
    if step < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate


def mean_squares(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[keras.Variable], float]:
    """Its running mean squares of the gradient, and the value above which it normalises steps.

    Where epsilon stands outside the root (all but RMSprop) that value is its square. No variables
    and NaN for optimizers without such a mean.
    """
    optimizer = inner(optimizer)
    means = getattr(optimizer, "_velocities", None)
    epsilon = getattr(optimizer, "epsilon", None)
    if means is None or epsilon is None:
        return [], math.nan
    inside = isinstance(optimizer, keras.optimizers.RMSprop)
    return list(means), epsilon if inside else epsilon**2


def share_above_epsilon(optimizer: keras.optimizers.Optimizer) -> float:
    """Share of the weights whose mean squared gradient exceeds epsilon.

    Those are the weights whose steps the optimizer normalises. NaN for optimizers without such a
    mean (see `mean_squares`).
    """
    means, bound = mean_squares(optimizer)
    if not means:
        return math.nan
    above = sum(int(_count_above(mean.value, bound)) for mean in means)
    return float(above / sum(math.prod(mean.shape) for mean in means))


def _count_above(values: tf.Tensor, bound: float) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(values > bound, tf.int64))


def linear_step(optimizer: keras.optimizers.Optimizer) -> float | None:
    """RMSprop's lr/sqrt(eps): its step over the gradient where epsilon outweighs its square.

    None for other optimizers, and without an epsilon.
    """
    optimizer = inner(optimizer)
    if not isinstance(optimizer, keras.optimizers.RMSprop) or not optimizer.epsilon:
        return None
    return float(optimizer.learning_rate.numpy()) / math.sqrt(optimizer.epsilon)


def describe_gradients(
    config: TrainConfig,
    optimizer: keras.optimizers.Optimizer,
    *,
    share_above: float,
    norm: float,
    clipped: int,
) -> str:
    """What the line of an epoch says of its steps: only what this optimizer has.

    Args:
        config: its settings.
        optimizer: the built optimizer.
        share_above: of `share_above_epsilon`.
        norm: mean gradient norm of the steps.
        clipped: steps whose gradient was clipped.
    """
    step = linear_step(optimizer)
    parts = [] if step is None else [f"lr/sqrt(eps) {step:.4g}"]
    if not math.isnan(share_above):
        parts.append(f"above epsilon {100 * share_above:.3g} %")
    parts.append(f"gradient norm {norm:.3g}")
    if config.global_clipnorm is not None:
        parts.append(f"clipped {clipped}")
    return ", ".join(parts)


def describe_steps(config: TrainConfig, optimizer: keras.optimizers.Optimizer) -> str:
    """The line of the run's header that says what a step of the built optimizer is."""
    line = f"{config.optimizer}, learning rate {config.learning_rate:g}"
    step = linear_step(optimizer)
    if step is not None:
        line += (
            f", epsilon {inner(optimizer).epsilon:g} inside the root: where the mean squared "
            f"gradient is below epsilon a step is lr/sqrt(eps) = {step:.4g} times the gradient"
        )
    return line


def linear_rule(config: TrainConfig, preset: Preset, *, total_steps: int) -> dict[str, Any]:
    """Learning rate and warm-up for another batch size than the preset's, by the linear rule.

    With RMSprop's large epsilon a step is proportional to the gradient, so a batch of k times as
    many samples takes k times the learning rate for the same way an epoch; a larger one is risky in
    the first steps and is warmed up to, over 1,000 steps or a tenth of a shorter training.

    Args:
        config: settings of the run.
        preset: the recipe that they come from.
        total_steps: of the whole training, which the warm-up must not outlast.

    Raises:
        InputError: steps of this optimizer do not grow with the gradient.
    """
    if not _is_linear(config, preset):
        raise InputError(
            "`scale_learning_rate`: the linear rule holds where a step is proportional to the "
            f"gradient, as RMSprop's with a large epsilon is. Received: {config.optimizer}, "
            f"epsilon {config.epsilon}. Give `learning_rate` instead."
        )
    if not math.isclose(config.learning_rate, preset.train.learning_rate):
        raise InputError(
            f"`scale_learning_rate` scales the preset's {preset.train.learning_rate:g}. Received: "
            f"`learning_rate={config.learning_rate:g}`. Give one of them."
        )
    factor = config.batch_size / preset.train.batch_size
    settings: dict[str, Any] = {"learning_rate": preset.train.learning_rate * factor}
    if factor > 1:
        settings["warmup_steps"] = max(1, min(1000, total_steps // 10))
    return settings


def warn_of_scaling(config: TrainConfig, preset: Preset) -> str | None:
    """What to say when the batch size alone was changed, and steps are proportional to gradients.

    So they are with RMSprop's large epsilon. Who changes the learning rate too has chosen it.

    Args:
        config: settings of the run.
        preset: the recipe that they come from.
    """
    batch = config.batch_size / preset.train.batch_size
    rate_is_kept = math.isclose(config.learning_rate, preset.train.learning_rate)
    if not _is_linear(config, preset) or not rate_is_kept or max(batch, 1 / batch) < _OTHER_BATCH:
        return None
    return (
        f"Batch size is {batch:g} times that of preset {preset.name} and the learning rate is the "
        "same. Where the mean squared gradient is below epsilon, steps scale linearly: for this "
        f"batch size consider --scale-learning-rate, which takes {batch:g} times "
        f"{preset.train.learning_rate:g}{' and warms up' if batch > 1 else ''}."
    )


def _is_linear(config: TrainConfig, preset: Preset) -> bool:
    return config.optimizer == preset.train.optimizer == "rmsprop" and _is_large(config)


def warn_of_warmup(config: TrainConfig, *, total_steps: int) -> str | None:
    """What to say when the training ends before the learning rate has come to its value."""
    if config.warmup_steps < total_steps:
        return None
    return (
        f"The learning rate rises for {config.warmup_steps:,} steps and the training has at most "
        f"{total_steps:,}: it never comes to {config.learning_rate:g}. Warm up for less, such as "
        f"--set warmup_steps={max(1, total_steps // 10)}, or train for more epochs."
    )


def _is_large(config: TrainConfig) -> bool:
    return config.epsilon is not None and config.epsilon >= _LARGE_EPSILON


def warn_of_few_steps(config: TrainConfig, *, steps_per_epoch: int, n_targets: int) -> str | None:
    """What to say when an epsilon made for DeepSEA's 44,000 steps an epoch meets a small dataset.

    With RMSprop's epsilon of 1e-6 inside the root, steps are proportional to gradients until these
    are large; with few targets and few steps the network then hardly leaves its start.
    """
    if config.optimizer != "rmsprop" or not _is_large(config) or n_targets >= DEEPSEA_TARGETS:
        return None
    if steps_per_epoch * config.epochs >= _FEW_STEPS:
        return None
    return (
        f"{steps_per_epoch:,} steps an epoch and {n_targets} targets: the published epsilon "
        f"{config.epsilon:g} was made for DeepSEA's 44,000 steps and 919 targets, and leaves most "
        f"networks of such data behind counts of k-mers. The recipe for them: --preset {FITTED}."
    )


def global_norm(gradients: list[Any]) -> Any:
    """Euclidean norm over all gradients, in float32."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients))
