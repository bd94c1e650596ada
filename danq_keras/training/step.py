"""One training step: network, optimizer and gradients under a precision and a device strategy.

In: batches of `pipeline.epoch_batches`, packed. Out: loss, samples, gradient norm, clipped, and
for `restudy` the score of each sample.
Loss: binary cross-entropy of the logits, mean over the labels that count.

DIFFERS: the old stack clipped probabilities to [1e-7, 1 - 1e-7] before the logarithm; the form on
logits is the same up to a logit of 16 and keeps a gradient beyond.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.models.layers import unpack, unpack_windows
from danq_keras.models.networks import build_network, logits_model
from danq_keras.recipes.config import ModelConfig, TrainConfig
from danq_keras.system.errors import InputError
from danq_keras.system.tensorflow import cluster_strategy
from danq_keras.training.conv_pool import (
    PooledConvolution,
    in_fewer_passes,
    pooled_convolutions,
)
from danq_keras.training.lstm_loop import use_loops
from danq_keras.training.optimizers import global_norm, inner, make_optimizer
from danq_keras.training.restudy import excess_scores

_APART = 1_000_003  # between the seeds of two replicas


def resolve_precision(precision: str) -> str:
    """The dtype policy that "auto" means on this machine.

    bfloat16 needs no loss scaling and is native from compute capability 8 (Ampere); float16 from 7
    (Volta); everything else trains in float32.
    """
    if precision != "auto":
        return precision
    capabilities = _capabilities()
    if not capabilities or min(capabilities) < (7, 0):
        return "float32"
    return "mixed_bfloat16" if min(capabilities) >= (8, 0) else "mixed_float16"


def _capabilities() -> list[tuple[int, int]]:
    """Of each GPU; 7.0 is Volta, 8.0 Ampere."""
    return [
        tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        for device in tf.config.list_physical_devices("GPU")
    ]


def describe_precision(config: TrainConfig) -> str:
    """The precision of the training, and where "float32" is less than it says."""
    precision = resolve_precision(config.precision)
    rounds = config.tf32 == "yes" and max(_capabilities(), default=(0, 0)) >= (8, 0)
    if precision != "float32" or not rounds:
        return precision
    return "float32 (factors of products rounded to TF32; not with --set tf32=no)"


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of a name: see `TrainConfig.distribute`.

    Raises:
        InputError: "multiworker", and the process has joined no cluster.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "multiworker":
        return cluster_strategy()
    logical = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in logical])


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step came to.

    `loss` is the mean over the labels that count, `norm` that of the gradient before clipping,
    `clipped` whether it was above the limit; `scores` (B,) float32 are those of the samples, in the
    order of the batch, where restudy asks for them, else empty.
    """

    loss: float
    n_samples: float
    norm: float
    clipped: bool
    scores: npt.NDArray[np.float32]

    @classmethod
    def several(cls, figures: tf.Tensor) -> "list[StepResult]":
        """Wait for the device and read one step, or (n, …) of them."""
        values = figures.numpy()
        results = []
        for row in values.reshape(-1, values.shape[-1]):
            loss, n_samples, norm, clipped = (float(value) for value in row[:4])
            results.append(cls(loss, n_samples, norm, bool(clipped), row[4:]))
        return results


class TrainingStep:
    """A network and its optimizer, and the function that takes one step on a batch.

    Args:
        model_config: sizes, gates and dropout of the network.
        config: optimizer, precision, clipping, distribution, seed.
        n_labels: label bits of a row; None when they are the network's targets.
        columns: which of them the network predicts; None for all.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainConfig,
        *,
        n_labels: int | None = None,
        columns: list[int] | None = None,
    ) -> None:
        self.precision = resolve_precision(config.precision)
        self.clipnorm = config.global_clipnorm
        self.scored = config.restudy > 0
        self._window = model_config.window
        self._shift = min(config.shift, model_config.window)
        self._seed = config.seed
        self.n_labels = n_labels or model_config.n_targets
        self.columns = columns
        self._parts = config.accumulate
        self.strategy = make_strategy(config.distribute)
        if config.batch_size < self.replicas * self._parts:
            raise InputError(
                f"batch_size: {config.batch_size} samples for {self.replicas} devices in "
                f"{self._parts} parts each (`accumulate`). Take at least one sample a part."
            )
        with self.strategy.scope():
            self.model = build_network(model_config, seed=config.seed, precision=self.precision)
            self._pooled: tuple[PooledConvolution, ...] = ()
            if self.precision == "float32" and not tf.config.list_physical_devices("GPU"):
                use_loops(self.model)  # on a GPU Keras calls cuDNN
                if self.replicas == 1:
                    self._pooled = pooled_convolutions(self.model, batch_size=config.batch_size)
            self._logits = logits_model(self.model)
            self.optimizer = make_optimizer(dataclasses.replace(config, precision=self.precision))
            self.optimizer.build(self.model.trainable_variables)
        self._convolutions = {
            variable.path
            for layer in self.model.layers
            if isinstance(layer, keras.layers.Conv1D)
            for variable in layer.trainable_variables
        }
        if self.replicas > 1:
            self._separate_replicas()
        self.frozen = False
        self._scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        self._compiled = tf.function(self.take, autograph=False, reduce_retracing=True)

    def _separate_replicas(self) -> None:
        """Let each replica draw its own dropout masks, and gradients be added once.

        The state of a seed generator is the same in all replicas, and Keras has no other. Its
        optimizer adds the gradients of the replicas, which `_replica_step` has done to clip them.
        """
        for layer in self.model.layers:
            if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator):
                _draw_by_replica(layer.seed_generator)
        inner(self.optimizer)._all_reduce_sum_gradients = lambda pairs: pairs

    @property
    def replicas(self) -> int:
        """Devices that share a batch, of all machines."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(inner(self.optimizer).learning_rate.numpy())

    def set_learning_rate(self, rate: float | tf.Tensor) -> None:
        """Change the learning rate of the steps to come; inside a graph the rate is a tensor."""
        inner(self.optimizer).learning_rate.assign(rate)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The model with the moving averages of its weights, for validation and for its file.

        Without `weight_average` the weights stay as they are.
        """
        optimizer = inner(self.optimizer)
        if not optimizer.use_ema:
            yield
            return
        variables = self.model.trainable_variables
        averages = optimizer._model_variables_moving_average
        kept = [tf.identity(variable.value) for variable in variables]
        try:
            for variable, average in zip(variables, averages, strict=True):
                variable.assign(average.value)
            yield
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)

    def freeze_convolutions(self, frozen: bool) -> None:
        """Keep the weights of all convolution layers in the steps to come, or move them again.

        The optimizer goes on to gather their means of the gradients: without these the first steps
        after the thaw would be several times too long (Adam's correction counts the steps of all).
        """
        self.frozen = frozen

    def __call__(self, batch: tuple[Any, ...]) -> tf.Tensor:
        """Take a step.

        Args:
            batch: packed sequence, labels and (optional) ignore bits; with several replicas an
                element of a distributed dataset.

        Returns:
            (4,) float32, with restudy (4 + B,), on the device; `StepResult.several` reads it.
        """
        return self._compiled(batch, self.frozen)

    def take(
        self, batch: tuple[Any, ...], frozen: bool, reverse: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Take a step inside a graph: see `__call__`.

        Args:
            batch: packed sequence, labels and (optional) ignore bits.
            frozen: whether the convolutions keep their weights.
            reverse: (B,) bool, which windows stand for their reverse complement; None where the
                rows are turned already.
        """
        kept = [each for each in self.model.trainable_variables if self._is_kept(each, frozen)]
        before = [tf.identity(variable.value) for variable in kept]
        results = self.strategy.run(self._replica_step, args=(batch, frozen, reverse))
        for variable, value in zip(kept, before, strict=True):
            variable.assign(value)
        return self.strategy.experimental_local_results(results)[0]

    def _is_kept(self, variable: keras.Variable, frozen: bool) -> bool:
        return frozen and variable.path in self._convolutions

    def _replica_step(
        self, batch: tuple[Any, ...], frozen: bool, reverse: tf.Tensor | None
    ) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        sequence, labels, valid = self._unpack_batch(batch, reverse)
        n_samples = replica.all_reduce("SUM", tf.cast(tf.shape(labels)[0], tf.float32))
        n_counted = tf.maximum(replica.all_reduce("SUM", tf.reduce_sum(valid)), 1.0)
        variables = self.model.trainable_variables
        with in_fewer_passes(self._pooled):  # around all parts, so that each loop is compiled once
            loss, gradients, scores = self._gradients(sequence, labels, valid, n_counted)
        gradients = replica.all_reduce("SUM", gradients)
        scale = tf.cast(self.optimizer.dynamic_scale.value, tf.float32) if self._scaled else 1.0
        moving = [
            gradient
            for gradient, variable in zip(gradients, variables, strict=True)
            if not self._is_kept(variable, frozen)
        ]
        norm = global_norm(moving) / scale
        if self.clipnorm is not None:
            factor = tf.minimum(1.0, self.clipnorm / norm)
            gradients = [gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]
        self.optimizer.apply(gradients, variables)
        clipped = 0.0 if self.clipnorm is None else tf.cast(norm > self.clipnorm, tf.float32)
        figures = tf.stack([replica.all_reduce("SUM", loss), n_samples, norm, clipped])
        if not self.scored:
            return figures
        if self.replicas > 1:
            scores = replica.all_gather(scores, axis=0)
        return tf.concat([figures, scores], 0)

    def _gradients(
        self, sequence: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor, n_counted: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        """This replica's share of the loss, of the gradients, and its scores, part by part."""
        variables = self.model.trainable_variables
        n_rows = tf.shape(labels)[0]
        loss, scores = 0.0, []
        gradients: list[tf.Tensor] = []
        for number in range(self._parts):
            if self._parts == 1:
                x, y, counts = sequence, labels, valid
            else:
                begin, end = (n_rows * at // self._parts for at in (number, number + 1))
                x, y, counts = (each[begin:end] for each in (sequence, labels, valid))
            with tf.GradientTape() as tape:
                logits = self._logits(x, training=True)
                entropies = tf.nn.sigmoid_cross_entropy_with_logits(y, logits)
                part = tf.reduce_sum(entropies * counts) / n_counted
                objective = self.optimizer.scale_loss(part) if self._scaled else part
            found = tape.gradient(objective, [variable.value for variable in variables])
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if number else found
            loss += part
            if self.scored:
                scores.append(excess_scores(y, logits, counts))
        return loss, gradients, tf.concat(scores, 0) if scores else tf.zeros(0)

    def _unpack_batch(
        self, batch: tuple[Any, ...], reverse: tf.Tensor | None = None
    ) -> tuple[Any, Any, Any]:
        """One-hot windows, labels and which labels count (1 or 0), float32."""
        sequence, *bits = batch
        labels, *ignore = (unpack(part, self.n_labels) for part in bits)
        valid = 1.0 - ignore[0] if ignore else tf.ones_like(labels)
        if self.columns is not None:
            labels = tf.gather(labels, self.columns, axis=1)
            valid = tf.gather(valid, self.columns, axis=1)
        windows = unpack_windows(sequence, self._window)
        if reverse is not None:  # channels A,G,C,T from behind are those of the other strand
            turned = tf.reverse(windows, [1, 2])
            windows = tf.where(reverse[:, None, None], turned, windows)
        return self._move(windows) if self._shift else windows, labels, valid

    def _move(self, windows: tf.Tensor) -> tf.Tensor:
        """Windows (B, L, 4) moved by up to `shift` bases each; zeros (N) come in.

        The draw depends on seed, step and replica alone, so that a resumed run draws the same.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = tf.cast(inner(self.optimizer).iterations.value, tf.int32)
        seed = tf.stack([step, tf.cast(replica, tf.int32) + 1009 * self._seed])
        furthest = self._shift
        moves = tf.random.stateless_uniform(
            [tf.shape(windows)[0]], seed, 0, 2 * furthest + 1, dtype=tf.int32
        )
        padded = tf.pad(windows, [[0, 0], [furthest, furthest], [0, 0]])
        places = moves[:, None] + tf.range(self._window)[None, :]
        return tf.gather(padded, places, batch_dims=1)


def _draw_by_replica(generator: keras.random.SeedGenerator) -> None:
    """Let a seed generator give each replica seeds of its own; replica 0 has those of one device.

    An own class would not do: layers, and so saved networks, know this one.
    """
    draw = generator.next

    def draw_own(ordered: bool = True) -> tf.Tensor:
        seed = draw(ordered)
        replica = tf.distribute.get_replica_context()
        if replica is None:
            return seed
        own = tf.cast(replica.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([own * tf.constant(_APART, seed.dtype), tf.zeros_like(own)])

    generator.next = draw_own
