"""The training set in the device's memory, and several steps in one call.

A fast card takes a step of 100 samples in some milliseconds, about as long as it takes the host to
read, copy and launch one; a CPU shares its cores with the thread that does so. Here the packed rows
lie on the device (1.35 GB of DeepSEA's), the order of an epoch is copied once, and a call takes
many steps; the batches, and so the results, are those of `pipeline.epoch_batches`, bit for bit.
Measured with `danq-fitted` at 101 bp on two cores: 2,500 samples a second in place of 1,780.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from danq_keras.data.store import Split
from danq_keras.recipes.config import TrainConfig
from danq_keras.system.errors import InputError
from danq_keras.training.pipeline import Order
from danq_keras.training.step import TrainingStep

_MOST_ON_A_GPU = 2 << 30  # bytes, which a card has left beside any network of ours
_MOST_ON_A_CPU = 512 << 20  # larger data train large networks, whose steps take long anyway
_ON_A_GPU = 50  # steps a call: half a second at most, in which signals wait
_SECONDS = 0.3  # of a call on a CPU, where the steps of the first calls tell how many it takes
_MOST_STEPS = 50


def resident_steps(step: TrainingStep, config: TrainConfig, split: Split) -> "ResidentSteps | None":
    """The steps of a training on resident rows; None where its rows come from the host.

    Args:
        step: of the training.
        config: with `steps_per_call`: 0 for what suits device and data, 1 for rows from the host.
        split: the training split.

    Raises:
        InputError: several steps a call, and several devices.
    """
    wanted = config.steps_per_call
    if wanted > 1 and step.replicas > 1:
        raise InputError(
            f"steps_per_call: {wanted} steps a call are for one device, here are {step.replicas}. "
            "Leave it out, or `distribute`."
        )
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    fits = _n_bytes(split) <= (_MOST_ON_A_GPU if on_gpu else _MOST_ON_A_CPU)
    if wanted == 1 or step.replicas > 1 or not (wanted or fits):
        return None
    at_once = wanted or (_ON_A_GPU if on_gpu else None)
    return ResidentSteps(step, split, batch_size=config.batch_size, at_once=at_once)


def _n_bytes(split: Split) -> int:
    parts = (split.sequence, split.labels, split.ignore)
    return sum(part.nbytes for part in parts if part is not None)


class ResidentSteps:
    """Steps of a network on rows that lie in its device's memory.

    Args:
        step: the network's step, of one device.
        split: the training split, whose rows are copied.
        batch_size: samples of a step.
        at_once: steps a call; None for as many as take 0.3 seconds.
    """

    def __init__(
        self, step: TrainingStep, split: Split, *, batch_size: int, at_once: int | None
    ) -> None:
        self._step, self._batch_size = step, batch_size
        self._adapts, self._at_once = at_once is None, at_once or 1
        parts = (split.sequence, split.labels, split.ignore)
        every = np.arange(
            split.n_windows
        )  # `take` sees a file that was cut short; a map would crash
        self._rows = [tf.identity(part.take(every, axis=0)) for part in parts if part is not None]
        self._compiled: dict[tuple[int, bool], Any] = {}  # by batch size, and what is frozen

    def epoch(
        self, order: Order, epoch: int, *, first_step: int, rate: Callable[[int], float]
    ) -> Iterator[tuple[int, tf.Tensor]]:
        """The steps of an epoch from `first_step` on, a call at a time.

        Args:
            order: which samples in which order.
            epoch: 0-based number of the epoch.
            first_step: 0-based step of the epoch to begin with.
            rate: learning rate of a step, by how many steps come before it in this epoch.

        Yields:
            How many steps n the call took, and (n, 4 or 4 + B) float32 of them, on the device.
        """
        rows, reverse = order.rows(order.permutation(epoch))
        on_device = tf.identity(rows.astype(np.int32)), tf.identity(reverse)
        size, n_samples = self._batch_size, order.epoch_samples
        step, whole = first_step, n_samples // size
        while step < order.steps(size):
            n = max(1, min(self._at_once, whole - step))
            rates = tf.constant([rate(step + number) for number in range(n)], tf.float32)
            begin = tf.constant(step * size, tf.int32)
            call = self._call(size if step < whole else n_samples - whole * size)
            started = time.monotonic()
            figures = call(*on_device, begin, rates)
            self._adapt(n, time.monotonic() - started)
            yield n, figures
            step += n

    def _adapt(self, n_steps: int, seconds: float) -> None:
        """Take more steps in the next call, or fewer; twice as many at most."""
        if self._adapts:
            suits = int(_SECONDS * n_steps / max(seconds, 1e-6))
            self._at_once = max(1, min(suits, 2 * n_steps, _MOST_STEPS))

    def _call(self, size: int) -> Any:
        key = size, self._step.frozen
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                lambda *given: self._loop(*given, size=key[0], frozen=key[1]),
                input_signature=[
                    tf.TensorSpec((None,), tf.int32),
                    tf.TensorSpec((None,), tf.bool),
                    tf.TensorSpec((), tf.int32),
                    tf.TensorSpec((None,), tf.float32),
                ],
                autograph=False,
            )
        return self._compiled[key]

    def _loop(
        self,
        rows: tf.Tensor,
        reverse: tf.Tensor,
        begin: tf.Tensor,
        rates: tf.Tensor,
        *,
        size: int,
        frozen: bool,
    ) -> tf.Tensor:
        n = tf.shape(rates)[0]
        n_figures = 4 + (size if self._step.scored else 0)

        def take(number: tf.Tensor, figures: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            at = [begin + number * size]
            chosen, turned = tf.slice(rows, at, [size]), tf.slice(reverse, at, [size])
            batch = tuple(tf.gather(part, chosen) for part in self._rows)
            self._step.set_learning_rate(rates[number])
            result = tf.ensure_shape(self._step.take(batch, frozen, turned), [n_figures])
            return number + 1, figures.write(number, result)

        _, figures = tf.while_loop(
            lambda number, _: number < n,
            take,
            (tf.constant(0), tf.TensorArray(tf.float32, n, element_shape=[n_figures])),
            parallel_iterations=1,
        )
        return figures.stack()
