"""Training: the step, the epochs, validation, early stopping, checkpoints, resuming.

A loop over `tf.function` steps instead of `Model.fit`: it stops at any step and continues there
with bit-identical results, counts clipped steps and measures gradients, and runs the same under
`tf.distribute` strategies. It writes `checkpoints/`, `history.csv`, `model.keras` and
`tensorboard/` of a run folder; `experiment` does the rest of the run.
"""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from danq_keras.data.prevalence import prevalences
from danq_keras.data.store import Dataset
from danq_keras.data.unchanged import DatasetWatch
from danq_keras.evaluation import metrics
from danq_keras.models.backend import without_tf32
from danq_keras.models.initial_weights import start_at_prevalences
from danq_keras.models.networks import build_network
from danq_keras.models.trained import describe_network, save_model
from danq_keras.prediction.predictor import SplitPredictor
from danq_keras.recipes.config import ModelConfig, Preset
from danq_keras.recipes.monitor import is_better
from danq_keras.system.errors import InputError, Terminated, one_line
from danq_keras.system.signals import Interruption, check_stop
from danq_keras.system.terminal import log, progress
from danq_keras.system.threads import WriteBehind
from danq_keras.training.checkpoints import (
    Snapshot,
    checkpoint_path,
    checkpoint_step,
    latest_checkpoint,
    load_checkpoint,
)
from danq_keras.training.history import (
    HISTORY_COLUMNS,
    RESTUDY_COLUMNS,
    VALIDATION_COLUMNS,
    epoch_line,
    write_history,
)
from danq_keras.training.optimizers import describe_gradients, learning_rate_at, share_above_epsilon
from danq_keras.training.pipeline import Integers, Order, epoch_batches
from danq_keras.training.resident import resident_steps
from danq_keras.training.restudy import Curriculum
from danq_keras.training.run_folder import SameFolder
from danq_keras.training.state import EpochSums, State
from danq_keras.training.step import StepResult, TrainingStep
from danq_keras.training.workers import Workers

AfterEpoch = Callable[[dict[str, Any]], None]

_DRAIN_EVERY = 20  # steps between two looks at their losses, which wait for the device


class Trainer:
    """Trains one network on one dataset into one run folder.

    Args:
        preset: network and training settings in force; the network has the data's window and number
            of targets, see `recipes.fit.fit_to_data`.
        dataset: the data, of which the splits train and valid are used.
        run: folder of the run, which exists.
        columns: numbers of the dataset's targets to train; None for all.

    Raises:
        InputError: the network does not fit the data, or there are no windows to train or validate
            on.
    """

    def __init__(
        self, preset: Preset, dataset: Dataset, run: Path, *, columns: list[int] | None = None
    ) -> None:
        targets = dataset.targets if columns is None else dataset.targets.subset(columns)
        _require_fit(preset.model, dataset, len(targets))
        self.config = preset.train
        self.model_config = preset.model
        self.about = describe_network(
            preset.model,
            targets,
            preset=preset.name,
            one_strand=dataset.train.header.one_strand,
        )
        self.dataset = dataset
        self.run = run
        self.state = State()
        self.place, self._data = SameFolder(run), DatasetWatch(dataset)
        self._rate: float | None = None  # as last set
        self._told = False
        self._files, self._saved = WriteBehind(), time.monotonic()
        self._exported: keras.Model | None = None
        self.curriculum = Curriculum(self.config, dataset.train, columns=columns)
        if dataset.valid.n_windows == 0:
            raise InputError(
                f"{dataset.valid.path}: no windows to validate on. Build the dataset with a "
                "validation region."
            )
        self.step = TrainingStep(
            preset.model, preset.train, n_labels=dataset.train.n_targets, columns=columns
        )
        self.model, self.optimizer = self.step.model, self.step.optimizer
        if self.config.output_bias == "prevalence":
            shares = prevalences(dataset.train, self.order.windows, columns)
            start_at_prevalences(self.model, shares)
        self.workers = Workers(self.step.strategy)
        self._resident = resident_steps(self.step, preset.train, dataset.train)
        self._drain_every = _DRAIN_EVERY if self._resident is None else 2
        self.total_steps = self.curriculum.total_steps(
            epochs=self.config.epochs, batch_size=self.config.batch_size
        )
        self.predictor = SplitPredictor(
            self.model, batch_size=max(100, self.config.batch_size), columns=columns
        )

    @property
    def order(self) -> Order:
        """The samples of the epoch under way."""
        return self.curriculum.order

    @property
    def steps_per_epoch(self) -> int:
        """Of the epoch under way."""
        return self.order.steps(self.config.batch_size)

    def resume(self) -> bool:
        """Load the latest checkpoint, if there is one."""
        path = self._latest_checkpoint()
        if path is None:
            return False
        state = load_checkpoint(path, self.model, self.optimizer)
        try:
            self.curriculum.restore(state.pop("scores", None), state.pop("again", None))
            self.state = State(**state | {"sums": EpochSums(*state["sums"])})
        except (TypeError, LookupError, ValueError) as error:
            raise InputError(
                f"{path}: its state is damaged ({one_line(error)}). Delete it, or start anew with "
                "`overwrite=True`."
            ) from error
        self._reopen_when_longer()
        log.info(
            "Resuming at step %d (epoch %d, step %d of %d).",
            self.state.step,
            self.state.epoch + 1,
            self.state.step_in_epoch,
            self.steps_per_epoch,
        )
        return True

    def _latest_checkpoint(self) -> Path | None:
        """The checkpoint that the chief names, None for none.

        Raises:
            InputError: a worker does not see it.
        """
        folder = self.run / "checkpoints"
        path = latest_checkpoint(folder) if self.workers.is_chief else None
        if not self.workers.several:
            return path
        (step,) = self.workers.of_chief([-1 if path is None else checkpoint_step(path)])
        path = None if step < 0 else checkpoint_path(folder, int(step))
        if self.workers.any(path is not None and not path.is_file()):
            raise InputError(
                f"{path}: not every worker has this checkpoint of the chief's. The folder of the "
                "run must be one that all machines see."
            )
        return path

    def _reopen_when_longer(self) -> None:
        stopped_early = self._out_of_patience()
        if self.state.finished and self.state.epoch < self.config.epochs and not stopped_early:
            self.state.finished = False

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience is not None and self.state.without_improvement >= patience

    def fit(self, after_epoch: AfterEpoch | None = None) -> None:
        """Train to the last epoch or until patience is spent.

        Args:
            after_epoch: called with each new row of the history, while the state is being written;
                what it raises ends the training.

        Raises:
            InputError: the loss became NaN or infinite, which names the step; the run folder is
                gone, or the data were changed meanwhile.
            KeyboardInterrupt: Ctrl-C, after saving.
            Terminated: SIGTERM or SIGHUP, after saving.
        """
        writer: Any = tf.summary.create_noop_writer()
        if self.workers.is_chief:
            self.place.require()
            writer = tf.summary.create_file_writer(str(self.run / "tensorboard"))
        exact = without_tf32() if self.config.tf32 == "no" else contextlib.nullcontext()
        with (
            Interruption() as interruption,
            writer.as_default(),
            exact,
            self.workers.lost_named(),
            self._files,
        ):
            while not self.state.finished:
                self._run_epoch(interruption)
                row = self._validate(interruption)
                self._finish_epoch(row)
                self.save()
                if after_epoch is not None:
                    after_epoch(self.state.history[-1])
            if self.workers.any(bool(interruption.signal)):  # it came after the last step
                self._stop(interruption)
        writer.close()
        best = f"loss {self.state.best_loss:.6f}"
        if self.config.monitor == "val_auprc":
            best = f"PR AUC {self.state.best_auprc:.4f}"
        log.info("Best validation %s in epoch %d.", best, self.state.best_epoch)

    def save(self, *, wait: bool = False) -> None:
        """Copy what a checkpoint of this very step holds; it is written while training goes on.

        Args:
            wait: whether to return only when it is on the disk.

        Raises:
            InputError: the run folder is gone, or the data were changed; nothing is written.
            OSError: the disk is full or fails, in this write or in one before.
        """
        if not self.workers.is_chief:
            return
        self.place.require()
        self._data.require_unchanged()
        sums = {"sums": list(dataclasses.astuple(self.state.sums))}
        state = dataclasses.asdict(self.state) | sums | self.curriculum.state()
        snapshot = Snapshot.of(self.model, self.optimizer, state)
        self._files.submit(lambda: snapshot.write(self.run / "checkpoints"))
        self._saved = time.monotonic()
        if wait:
            self._files.wait()

    def _is_due(self, n_steps: int) -> bool:
        """Whether the last steps have brought a checkpoint's number of steps, or its minutes."""
        steps, minutes = self.config.checkpoint_steps, self.config.checkpoint_minutes
        if steps and self.state.step // steps > (self.state.step - n_steps) // steps:
            return True
        return bool(minutes) and time.monotonic() - self._saved >= 60 * minutes

    def _stop(self, interruption: Interruption) -> None:
        self.save(wait=True)
        log.info(
            "Saved at step %d. Continue with: train_danq.py --out %s --resume and the same data.",
            self.state.step,
            self.run,
        )
        interruption.signal = interruption.signal or signal.SIGTERM  # another worker's
        interruption.raise_error()

    def _run_epoch(self, interruption: Interruption) -> None:
        state = self.state
        if state.step_in_epoch == self.steps_per_epoch:
            return
        self.step.freeze_convolutions(state.epoch < self.config.freeze_conv_epochs)
        samples = self.order.permutation(state.epoch) if self.curriculum.n_again else None
        pending: list[tuple[int, tf.Tensor]] = []
        started = time.monotonic()
        bar, clock, first = None, started, state.step
        for call, (n_steps, figures) in enumerate(self._calls(), 1):
            pending.append((state.step, figures))
            state.step += n_steps
            state.step_in_epoch += n_steps
            due = self._is_due(n_steps)
            last = state.step_in_epoch == self.steps_per_epoch
            if bar is None:  # the first call compiles: the bar's clock starts after it
                bar = self._progress_bar()
                clock, first = time.monotonic(), state.step
            together = last or call % self._drain_every == 0  # the same with all workers
            stop = bool(interruption.signal) and not self.workers.several
            if due or stop or together:
                # The figures of the last call are left until another one is under way.
                ahead = n_steps > 1 and not (due or stop or last)
                self._drain(pending, samples, keep=1 if ahead else 0)
                self._files.check()
                bar.set_postfix(loss=f"{state.sums.mean_loss:.4f}", refresh=False)
                if self.workers.several and together:
                    stop = self.workers.any(bool(interruption.signal))
            self._tell_duration(clock, since=first)
            bar.update(min(self.config.batch_size * n_steps, self.order.epoch_samples - bar.n))
            if (due and not last) or stop:
                state.seconds += time.monotonic() - started
                started = time.monotonic()
                if stop:
                    bar.close()
                    self._stop(interruption)
                self.save()
        state.seconds += time.monotonic() - started
        if bar is not None:
            bar.close()

    def _calls(self) -> Iterator[tuple[int, tf.Tensor]]:
        """Take the steps of the epoch that are left: how many with a call, and their figures."""
        if self._resident is None:
            for batch in self._checked_batches():
                self._set_learning_rate()
                yield 1, self.step(batch)
            return
        before = self.state.step - self.state.step_in_epoch
        yield from self._resident.epoch(
            self.order,
            self.state.epoch,
            first_step=self.state.step_in_epoch,
            rate=lambda step: self._rate_at(before + step),
        )

    def _checked_batches(self) -> Iterator[Any]:
        """The batches; a file that was cut short meanwhile is named, which TensorFlow does not."""
        try:
            yield from self._batches()
        except tf.errors.OpError:
            self.dataset.train.require_whole()
            raise

    def _batches(self) -> Any:
        batches = epoch_batches(
            self.dataset.train,
            self.order,
            self.state.epoch,
            batch_size=self.config.batch_size,
            first_step=self.state.step_in_epoch,
            replicas=self.step.replicas,
            local=self.workers.local_replicas,
        )
        return batches if self.step.replicas == 1 else self.workers.distributed(batches)

    def _tell_duration(self, clock: float, *, since: int) -> None:
        """Say once how long the epochs will take, from the steps after the compiled one."""
        steps = self.state.step - since
        if self._told or steps < 2 * _DRAIN_EVERY:
            return
        self._told = True
        each = (time.monotonic() - clock) / steps * self.steps_per_epoch / 60
        epochs = self.config.epochs - self.state.epoch
        if each * epochs > 1:
            log.info(
                "An epoch takes about %.1f min without its validation: the %d to come at most "
                "%.0f min.",
                each,
                epochs,
                each * epochs,
            )

    def _progress_bar(self) -> Any:
        total = self.order.epoch_samples
        return progress(
            disable=None if self.workers.is_chief else True,
            total=total,
            initial=min((self.state.step_in_epoch - 1) * self.config.batch_size, total),
            desc=f"epoch {self.state.epoch + 1}/{self.config.epochs}",
            unit="samples",
        )

    def _rate_at(self, step: int) -> float:
        return learning_rate_at(
            self.config, step, total_steps=self.total_steps, plateau=self.state.plateau
        )

    def _set_learning_rate(self) -> None:
        rate = self._rate_at(self.state.step)
        if rate != self._rate:
            self.step.set_learning_rate(rate)
            self._rate = rate

    def _drain(
        self, pending: list[tuple[int, tf.Tensor]], samples: Integers | None, *, keep: int = 0
    ) -> None:
        """Add the results of finished calls to the epoch's sums, and keep the scores of samples.

        `keep` of the last calls stay pending.
        """
        finished = pending[: len(pending) - keep]
        del pending[: len(finished)]
        for first, figures in finished:
            for step, result in enumerate(StepResult.several(figures), first):
                self._count(step, result, samples)

    def _count(self, step: int, result: StepResult, samples: Integers | None) -> None:
        if not math.isfinite(result.loss):
            raise InputError(
                f"The loss became {result.loss} in step {step} (epoch {self.state.epoch + 1}). "
                "Lower the learning rate, clip gradients (`global_clipnorm=1`) or train in "
                f"float32; the last good state is in {self.run / 'checkpoints'}."
            )
        self.state.sums.add(result)
        if samples is not None:
            first_step = self.state.step - self.state.step_in_epoch
            begin = (step - first_step) * self.config.batch_size
            seen = samples[begin : begin + self.config.batch_size]
            self.curriculum.see(seen, result.scores)

    def _validate(self, interruption: Interruption) -> dict[str, Any]:
        """The figures of validation, which the chief measures and all know."""
        stopped, figures = False, dict.fromkeys(VALIDATION_COLUMNS, math.nan)
        if self.workers.is_chief:
            try:
                with self.step.averaged_weights(), interruption.raised():
                    figures = self._measure()
                    check_stop()
            except (KeyboardInterrupt, Terminated):  # validation is repeated on resuming
                stopped = True
        was_stopped, *said = self.workers.of_chief([float(stopped), *figures.values()]).tolist()
        if was_stopped:
            self._stop(interruption)
        return dict(zip(figures, said, strict=True))

    def _measure(self) -> dict[str, Any]:
        prediction = self.predictor(self.dataset.valid, desc="validation")
        figures = metrics.evaluate(prediction.labels, prediction.probs, ignore=prediction.ignore)
        macro = metrics.macro(figures, self.config.min_positives)
        pooled = metrics.evaluate_pooled(
            prediction.labels, prediction.probs, ignore=prediction.ignore
        )
        values = (
            prediction.loss,
            macro.auroc_mean,
            macro.auprc_mean,
            float(pooled.accuracy[0]),
            float(pooled.f1[0]),
            float(pooled.best_f1[0]),
        )
        return dict(zip(VALIDATION_COLUMNS, values, strict=True))

    def _finish_epoch(self, validation: dict[str, Any]) -> None:
        state, sums = self.state, self.state.sums
        row = {
            "epoch": state.epoch + 1,
            "loss": sums.mean_loss,
            **validation,
            "learning_rate": self.step.learning_rate,
            "gradient_norm": sums.mean_norm,
            "clipped_steps": int(sums.clipped),
            "share_above_epsilon": share_above_epsilon(self.optimizer),
            "seconds": round(state.seconds, 3),
            "samples_per_second": round(sums.samples / max(state.seconds, 1e-9), 1),
        }
        if self.curriculum.n_again:
            row |= {"samples": self.order.epoch_samples, "restudied": self.order.n_again}
        columns = (*HISTORY_COLUMNS, *(RESTUDY_COLUMNS if self.curriculum.n_again else ()))
        if self.workers.is_chief:
            self.place.require()
        state.history.append({name: row[name] for name in columns})
        self._judge(row)
        if self.workers.is_chief:
            write_history(self.run / "history.csv", state.history)
        for name in columns[1:]:
            tf.summary.scalar(name, row[name], step=state.epoch + 1)
        self._log_epoch(row)
        state.epoch += 1
        state.step_in_epoch, state.sums, state.seconds = 0, EpochSums(), 0.0
        state.finished = state.epoch >= self.config.epochs or self._out_of_patience()
        line = self.curriculum.choose()
        if line and not state.finished:
            log.info("%s", line)

    def _judge(self, row: dict[str, Any]) -> None:
        """Keep the weights of a strictly better validation; count epochs without one."""
        state = self.state
        best = {"val_loss": state.best_loss, "val_auprc": state.best_auprc}
        if is_better(row, best if state.best_epoch else None, self.config.monitor):
            state.best_loss, state.best_auprc = row["val_loss"], row["val_auprc"]
            state.best_epoch = state.epoch + 1
            state.without_improvement = state.plateau_epochs = 0
            if self.workers.is_chief:
                with self.step.averaged_weights():
                    weights = self.model.get_weights()
                self._files.submit(lambda: self._write_model(weights))
            return
        state.without_improvement += 1
        state.plateau_epochs += 1
        if self.config.schedule == "plateau" and state.plateau_epochs >= (
            self.config.plateau_patience
        ):
            state.plateau *= self.config.plateau_factor
            state.plateau_epochs = 0

    def _log_epoch(self, row: dict[str, Any]) -> None:
        steps = describe_gradients(
            self.config,
            self.optimizer,
            share_above=row["share_above_epsilon"],
            norm=row["gradient_norm"],
            clipped=row["clipped_steps"],
        )
        log.info("%s", epoch_line(row, steps, best=self.state.best_epoch == row["epoch"]))

    def _write_model(self, weights: list[Any]) -> None:
        """Write model.keras in float32, whatever the network is trained in and on."""
        if self._exported is None:
            with tf.device("CPU:0"):
                self._exported = build_network(
                    self.model_config, seed=self.config.seed, initialise=False
                )
        self._exported.set_weights(weights)
        save_model(self._exported, self.run / "model.keras", about=self.about)


def _require_fit(config: ModelConfig, dataset: Dataset, n_targets: int) -> None:
    for name, ours, theirs in (
        ("window", config.window, dataset.window),
        ("n_targets", config.n_targets, n_targets),
    ):
        if ours != theirs:
            raise InputError(
                f"{name}: {ours} of the network, {theirs} of {dataset.folder}. Fit the recipe to "
                "the data with danq_keras.recipes.fit.fit_to_data."
            )
