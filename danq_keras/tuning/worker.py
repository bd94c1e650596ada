"""A process that works on a study: trains trials until enough are finished; loads TensorFlow.

`search` starts it as `python -m danq_keras.tuning.worker OUT TRIALS NUMBER`. It says nothing but
warnings and errors: the search shows the progress of all processes.
"""

import logging
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import optuna
from optuna.trial import TrialState

from danq_keras.data.store import Dataset, open_store
from danq_keras.recipes.config import Preset
from danq_keras.system.claims import claimed_folder
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import EXIT_TERMINATE, InputError, Terminated
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import log, set_up_logging
from danq_keras.tuning.space import apply_values, count_parameters, suggest
from danq_keras.tuning.study import (
    DIRECTIONS,
    EPOCH_FIGURES,
    Search,
    n_finished,
    open_study,
    read_search,
    requeue,
    requeue_stale,
    state_of,
    told_by_name,
    trial_folder,
)

POLL_SECONDS = 2.0
MOST_SKIPPED = 500  # points in a row above the cap
_KEPT = "history.csv"  # of a trial's folder: checkpoints and weights are large


class _Paused(Exception):
    """This process stops, or has one trial too many: the trial is queued again."""


@command(None, settings="--set")
def main(argv: list[str] | None = None) -> int:
    """Work on a study.

    Args:
        argv: the study's folder, how many trials to finish, the number of this process.

    Raises:
        InputError: the study is damaged, or its data are not those of its start.
    """
    folder, n_trials, number = sys.argv[1:] if argv is None else argv
    set_up_logging()
    log.setLevel(logging.WARNING)
    search = read_search(Path(folder))
    dataset = open_store(search.data)
    if dataset.fingerprints() != search.fingerprints:
        raise InputError(f"{search.data}: not the data that the search began with. Restore them.")
    start_tensorflow()
    # TensorFlow warns that a network is compiled for each trial, as it must be.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from danq_keras.training.optimizers import check_optimizer

    # An unknown one is said before any trial.
    check_optimizer(search.preset.train)
    for name in search.space["optimizer"].choices if "optimizer" in search.space else ():
        check_optimizer(apply_values(search.preset, {"optimizer": name}).train)
    try:
        with told_by_name(Path(folder), "Was the folder removed, or is the disk full?"):
            Worker(Path(folder), search, dataset, number=int(number)).work(int(n_trials))
    except Terminated:  # by the session, which says why
        return EXIT_TERMINATE
    return 0


class Worker:
    """Trains trials of one study, one after another.

    Args:
        out: folder of the study.
        search: recipe, space and objective of the study.
        dataset: open dataset that the trials are trained on.
        number: of this process among those of its session.
    """

    def __init__(self, out: Path, search: Search, dataset: Dataset, *, number: int = 0) -> None:
        self.out, self.search, self.dataset = out, search, dataset
        # A session of one process proposes the same points in every run; several never do.
        seeds = np.random.SeedSequence([search.preset.train.seed, _n_trials(out, search), number])
        self.study = open_study(out, search, sampler_seed=int(seeds.generate_state(1)[0]))
        self.n_trials = 0
        self._parent = os.getppid()
        self._stopped: BaseException | None = None

    def work(self, n_trials: int) -> None:
        """Train until `n_trials` are finished, by whichever process.

        Raises:
            InputError: hardly any point keeps to the cap on parameters.
            KeyboardInterrupt: Ctrl-C; the trial is queued again and keeps its checkpoint.
            Terminated: SIGTERM, likewise.
        """
        self.n_trials = n_trials
        while not self._orphaned():
            requeue_stale(self.study)
            trials = self.study.get_trials(deepcopy=False)
            if {state_of(trial) for trial in trials[-MOST_SKIPPED:]} == {"skipped"}:
                raise InputError(
                    f"`max_parameters`: the last {MOST_SKIPPED} points were above "
                    f"{self.search.max_parameters:,}. Raise it, or narrow the space with `space`."
                )
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            finished = n_finished(trials)
            if finished >= n_trials:
                return
            if finished + running >= n_trials:  # one of them may yet be killed
                time.sleep(POLL_SECONDS)
                continue
            self.study.optimize(self._objective, n_trials=1, catch=_Paused)
            if self._stopped is not None:
                raise self._stopped

    def _orphaned(self) -> bool:
        """Whether the session is gone without having said so (killed)."""
        return os.getppid() != self._parent

    def _objective(self, trial: optuna.Trial) -> float:
        try:
            self._require_place(trial)
            return self._train(trial)
        except (_Paused, KeyboardInterrupt, Terminated, InputError, OSError) as error:
            if not isinstance(error, _Paused):
                self._stopped = error
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            requeue(self.study, frozen, kills=frozen.user_attrs.get("kills", 0))
            raise _Paused from None

    def _require_place(self, trial: optuna.Trial) -> None:
        """Give a trial back that began at the same moment as the last one wanted."""
        earlier = self.study.get_trials(deepcopy=False)[: trial.number]
        running = sum(each.state == TrialState.RUNNING for each in earlier)
        if n_finished(earlier) + running >= self.n_trials:
            raise _Paused

    def _train(self, trial: optuna.Trial) -> float:
        """Train the network of a trial and note its figures.

        Raises:
            optuna.TrialPruned: it was stopped as hopeless, too large, or failed.
        """
        preset = apply_values(self.search.preset, suggest(self.search.space, trial))
        n_parameters = count_parameters(preset.model)
        trial.set_user_attr("parameters", n_parameters)
        cap = self.search.max_parameters
        if cap is not None and n_parameters > cap and not _is_reference(trial):
            _end(trial, "skipped", f"{n_parameters:,} parameters, more than {cap:,}")
        folder = trial_folder(self.out, trial)
        folder.mkdir(parents=True, exist_ok=True)
        with claimed_folder(folder):
            value = self._fit(trial, preset, folder)
            _clean(folder)
        if value is None:
            _end(trial, "failed", f"{self.search.objective} is not a number in any epoch")
        return value

    def _fit(self, trial: optuna.Trial, preset: Preset, folder: Path) -> float | None:
        """Train one network, from its checkpoint if there is one, and give its objective.

        Raises:
            optuna.TrialPruned: see `_train`.
            _Paused: the session is gone; the state is saved.
        """
        import keras
        import tensorflow as tf

        from danq_keras.training.trainer import Trainer

        keras.backend.clear_session()  # the networks of earlier trials
        history: list[dict[str, Any]] = []

        def report(row: dict[str, Any]) -> None:
            history.append(row)
            value = row[self.search.objective]
            if math.isfinite(value):
                trial.report(value, row["epoch"])
            _note(trial, history, self.search.objective)

        def after_epoch(row: dict[str, Any]) -> None:
            report(row)
            if self._orphaned():
                raise _Paused
            if not (trainer.state.finished or _is_reference(trial)) and trial.should_prune():
                raise optuna.TrialPruned

        try:
            trainer = Trainer(preset, self.dataset, folder, columns=self.search.columns)
            trainer.resume()
            for row in trainer.state.history:
                report(row)
            trainer.fit(after_epoch)
        except optuna.TrialPruned:
            _clean(folder)
            raise
        except (InputError, tf.errors.ResourceExhaustedError) as error:
            _clean(folder)
            _end(trial, "failed", str(error).splitlines()[0])
        return _note(trial, history, self.search.objective)


def _n_trials(out: Path, search: Search) -> int:
    return len(open_study(out, search).get_trials(deepcopy=False))


def _is_reference(trial: optuna.Trial) -> bool:
    return bool(trial.user_attrs.get("reference"))


def _note(trial: optuna.Trial, history: list[dict[str, Any]], objective: str) -> float | None:
    """Store the figures of the best epoch so far, and give its objective."""
    seconds = sum(row["seconds"] for row in history) / len(history)
    figures = {"epochs": len(history), "seconds_per_epoch": round(seconds, 3)}
    judged = [row for row in history if math.isfinite(row[objective])]
    best = None
    if judged:
        choose = min if DIRECTIONS[objective] == "minimize" else max
        row = choose(judged, key=lambda each: each[objective])
        finite = {name: row[name] if math.isfinite(row[name]) else None for name in EPOCH_FIGURES}
        figures |= {"best_epoch": row["epoch"], **finite}
        best = float(row[objective])
    trial.set_user_attr("figures", figures)
    return best


def _end(trial: optuna.Trial, outcome: str, reason: str) -> NoReturn:
    """End a trial that gives no figure.

    Raises:
        optuna.TrialPruned: always.
    """
    trial.set_user_attr("outcome", outcome)
    trial.set_user_attr("reason", reason)
    raise optuna.TrialPruned


def _clean(folder: Path) -> None:
    """Remove what is large from the folder of a finished trial."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _KEPT:
            path.unlink()


if __name__ == "__main__":
    sys.exit(run_command(main))
