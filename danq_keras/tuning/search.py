"""A search: begins or joins a study, works on it, and writes what it found.

The trials run in processes of their own (`worker`); here their progress is shown. Loads
Optuna, not TensorFlow.
"""

import contextlib
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from danq_keras.data.bundle import open_dataset
from danq_keras.data.store import Dataset
from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fit_to_data, preset_for
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.claims import CLAIM, claimed_folder, remove
from danq_keras.system.errors import EXIT_INPUT, ChildFailedError, InputError
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.terminal import log, progress
from danq_keras.system.threads import n_threads
from danq_keras.tuning.plot import search_png
from danq_keras.tuning.space import (
    DEFAULT_SPACE,
    Space,
    check_space,
    count_parameters,
    preset_values,
    read_space,
    widened,
    without_fixed,
)
from danq_keras.tuning.study import (
    SESSIONS,
    Search,
    best_preset,
    best_trial,
    count_states,
    has_begun,
    importances,
    is_free,
    is_study,
    n_finished,
    open_study,
    read_search,
    reference_trial,
    session_number,
    state_of,
    told_by_name,
    trials_table,
    write_best,
    write_search,
    write_trials,
)

N_TRIALS = 50
POLL_SECONDS = 1.0
_MOST_JOBS = 1000  # of a session
STOP_SECONDS = 120  # for a step and for the checkpoint of a large network
_SEEN = ("complete", "pruned", "failed")
_SUMMARY = ("loss", "val_loss", "gap", "val_auroc", "val_auprc")


@dataclass(frozen=True)
class TuneRequest:
    """What a user asks a search for; None is the usual, or what the resumed search began with.

    Args:
        out: folder of the study.
        data: folder of the dataset, or of a DeepSEA bundle.
        store: folder for the dataset that a bundle is converted to.
        preset: name of the recipe to start from; None for "danq" with DeepSEA's targets or a
            bundle, "danq-fitted" with other data.
        settings: settings that are fixed, and not searched.
        space: JSON file of the ranges that are searched.
        objective: "val_loss" (lowest) or "val_auprc" (highest mean) of any epoch; "val_loss".
        max_parameters: largest number of weights of a network.
        pruner: "median", "hyperband" or "none"; "median".
    """

    out: Path
    data: Path | None = None
    store: Path | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: Path | None = None
    objective: str | None = None
    max_parameters: int | None = None
    pruner: str | None = None


@dataclass(frozen=True, eq=False)
class TunedSearch:
    """What a search has found: its folder, the best recipe, and a table with one row a trial."""

    folder: Path
    best: Preset
    trials: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """One row a trial: its settings, figures and state."""
        return self.trials


@dataclass(frozen=True)
class Work:
    """How much to do: trials in all, processes, and the seconds after which to end."""

    trials: int
    jobs: int = 1
    timeout: float | None = None


def tune(
    data: Dataset | PathLike | None,
    out: PathLike,
    *,
    trials: int = N_TRIALS,
    jobs: int = 1,
    timeout: float | None = None,
    resume: bool = False,
    **options: Any,
) -> TunedSearch:
    """Search network sizes, dropout and step sizes on the validation split.

    Args:
        data: an open dataset, or the folder of one; None for that of the resumed search.
        out: folder of the study, new unless `resume` is given.
        trials: trials of the study, pruned ones included; the first is the preset itself.
        jobs: processes, which share the CPU's cores.
        timeout: seconds after which to end; None for no end.
        resume: whether to continue the study in `out`, or to join it.
        **options: fields of `TuneRequest`: `preset`, `settings`, `space`, `objective`,
            `max_parameters`, `pruner`, `store`.

    Returns:
        The best recipe and the table of trials.

    Raises:
        InputError: a user's mistake, or no trial was finished.
        ChildFailedError: a process met a user's mistake, which it has said.
    """
    place = data.folder if isinstance(data, Dataset) else data
    request = TuneRequest(Path(out), None if place is None else Path(place), **options)
    for name, value in (
        ("trials", trials),
        ("jobs", jobs),
        ("max_parameters", request.max_parameters),
    ):
        if value is not None and value < 1:
            raise InputError(f"`{name}`: at least 1. Received: {value}.")
    how = Work(trials, jobs, timeout)
    if resume:
        search = read_search(request.out)
        _require_same(request, search)
    else:
        search = _new_search(request)
    with (
        told_by_name(request.out, "Was the folder removed, or is the disk full?"),
        contextlib.ExitStack() as stack,
    ):
        status = _run_session(request.out, search, how, begin=not resume, stack=stack)
    if status:
        raise ChildFailedError(request.out, status)
    return finish(request.out, search)


def _run_session(
    out: Path, search: Search, how: Work, *, begin: bool, stack: contextlib.ExitStack
) -> int:
    """Begin a study where that is asked for, and work on it as a session of its own number."""
    if not begin:
        return _work(out, search, how, session=stack.enter_context(session_number(out)))
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        _require_free(out)  # another process may have begun a moment ago
        session = stack.enter_context(session_number(out))
        _begin(out, search)
    try:
        return _work(out, search, how, session=session)
    finally:
        if out.is_dir() and not has_begun(out, search):  # the processes could not start
            shutil.rmtree(out)


def _new_search(request: TuneRequest) -> Search:
    """The search that is asked for.

    Raises:
        InputError: a user's mistake; nothing has been written.
    """
    _require_free(request.out)
    if request.data is None:
        raise InputError("`data`: say which dataset the networks are trained on.")
    recipe = get_preset(request.preset or preset_for(request.data))
    preset = apply_settings(recipe, request.settings)
    chosen = DEFAULT_SPACE if request.space is None else read_space(request.space)
    preset_values(chosen, preset)  # a preset of another kind is said before data are converted
    dataset = open_dataset(request.data, store=request.store)
    preset, columns = fit_to_data(preset, dataset, request.settings)
    space, changed = _fitted(chosen, request.settings, preset)
    check_space(space, preset, max_parameters=request.max_parameters)
    for split in (dataset.train, dataset.valid):
        if split.n_windows == 0:
            raise InputError(f"{split.path}: no windows. Build the dataset with this split.")
    dataset.verify()
    if changed:
        log.info("Ranges widened to hold the preset: %s", ", ".join(changed))
    return Search(
        preset=preset,
        space=space,
        data=dataset.folder.resolve(),
        fingerprints=dataset.fingerprints(),
        columns=columns,
        objective=request.objective or "val_loss",
        max_parameters=request.max_parameters,
        pruner=request.pruner or "median",
    )


def _require_free(out: Path) -> None:
    """Make sure that a search may begin in a folder.

    Raises:
        InputError: something is there that would be lost, or another process is at work.
    """
    if is_free(out):
        return
    if is_study(out):
        raise InputError(
            f"{out}: holds a search. Continue with `resume=True`, or choose another name."
        )
    raise InputError(f"{out}: already exists. Choose another name.")


def _fitted(space: Space, settings: Mapping[str, Any], preset: Preset) -> tuple[Space, list[str]]:
    """A space less what is fixed, wide enough for the preset; the names of widened ranges."""
    return widened(without_fixed(space, settings), preset)


def _require_same(request: TuneRequest, search: Search) -> None:
    """Make sure that what is said again with `resume` is what the study began with.

    Raises:
        InputError: one is another.
    """
    settings = request.settings
    space = search.space if request.space is None else read_space(request.space)
    data = search.data
    if request.data is not None:
        data = open_dataset(request.data, store=request.store).folder
    same = {
        "`data`": data.resolve() == search.data,
        "`preset`": request.preset in (None, search.preset.name),
        "`epochs`, `seed` or `settings`": apply_settings(search.preset, settings) == search.preset,
        "`objective`": request.objective in (None, search.objective),
        "`max_parameters`": request.max_parameters in (None, search.max_parameters),
        "`pruner`": request.pruner in (None, search.pruner),
        "`space`": _fitted(space, settings, search.preset)[0] == search.space,
    }
    for name, agrees in same.items():
        if not agrees:
            raise InputError(
                f"{request.out}: `resume` continues a search as it began; {name} was another then. "
                "Leave it out, or start a new search."
            )


def _begin(out: Path, search: Search) -> None:
    """Make the study, with the preset itself as the first trial, in place of an earlier start."""
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        if path.name not in (SESSIONS, CLAIM):
            remove(path)
    study = open_study(out, search)
    values = preset_values(search.space, search.preset)
    study.enqueue_trial(values, user_attrs={"reference": True})
    write_search(out, search)  # last: it marks a folder that can be resumed


def _work(out: Path, search: Search, how: Work, *, session: int) -> int:
    """Run processes until enough trials are finished or the time is up.

    Raises:
        InputError: all processes were killed.
    """
    study = open_study(out, search)
    before = study.get_trials(deepcopy=False)
    jobs = min(how.jobs, how.trials - n_finished(before))
    if jobs <= 0:
        return 0
    _print_header(out, search, how.trials, jobs)
    deadline = time.monotonic() + (math.inf if how.timeout is None else how.timeout)
    first = session * _MOST_JOBS  # by its number a process chooses its points
    workers = [_start_worker(out, how.trials, first + job, jobs) for job in range(jobs)]
    try:
        shown = {trial.number for trial in before if state_of(trial) in _SEEN}
        with progress(total=how.trials, initial=len(shown), desc="trials", unit="trial") as bar:
            while time.monotonic() < deadline and _watch(
                study, search, workers=workers, shown=shown, bar=bar
            ):
                time.sleep(POLL_SECONDS)
    except BaseException:
        log.info("Stopping. Continue with: tune_danq.py %s --resume", out)
        raise
    finally:
        _stop(workers)
    if time.monotonic() >= deadline:
        log.info("Time is up. Continue with: tune_danq.py %s --resume", out)
        return 0
    if any(worker.returncode == EXIT_INPUT for worker in workers):
        return EXIT_INPUT
    killed = [worker for worker in workers if worker.returncode < 0]
    if killed:
        log.warning(
            "%d of %d processes were killed (signal %d).", len(killed), jobs, -killed[0].returncode
        )
    if n_finished(study.get_trials(deepcopy=False)) < how.trials:
        raise InputError(
            f"{out}: every process was killed, perhaps for want of memory. Continue with "
            "`resume=True` and fewer `jobs`, or set `max_parameters` in a new search."
        )
    return 0


def _start_worker(out: Path, n_trials: int, number: int, jobs: int) -> subprocess.Popen[bytes]:
    # Small networks do not gain from more threads: processes with few threads each do.
    threads = str(max(1, n_threads() // jobs))
    variables = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    module = "danq_keras.tuning.worker"
    return subprocess.Popen(
        # -P: the folder that a user stands in is no place to import from
        [sys.executable, "-P", "-m", module, str(out), str(n_trials), str(number)],
        env={**os.environ, **dict.fromkeys(variables, threads), "TQDM_DISABLE": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the session, which passes it on once
    )


def _watch(
    study: optuna.Study,
    search: Search,
    *,
    workers: list[subprocess.Popen[bytes]],
    shown: set[int],
    bar: Any,
) -> bool:
    """Show the trials that ended since the last look; say whether to go on watching.

    The end has come when no process is left, or one has met a mistake and said so.
    """
    codes = [worker.poll() for worker in workers]  # before the trials: none is missed at the end
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.number not in shown and state_of(trial) in _SEEN:
            shown.add(trial.number)
            log.info("%s", _describe(search, trial, best_trial(search, trials)))
    bar.update(n_finished(trials) - bar.n)
    return None in codes and EXIT_INPUT not in codes


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    """End processes: they save their checkpoints; after a while, or when asked again, at once."""
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    try:
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.warning("A process does not stop and is killed; its trial will begin again.")
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


def _print_header(out: Path, search: Search, n_trials: int, jobs: int) -> None:
    preset = search.preset
    log.info("Search %s: from preset %s, %d trials in all", out, preset.name, n_trials)
    log.info(
        "Data %s; at most %d epochs a trial; objective %s; pruner %s",
        search.data,
        preset.train.epochs,
        search.objective,
        search.pruner,
    )
    log.info("Searched: %s", ", ".join(search.space))
    threads = max(1, n_threads() // jobs)
    log.info(
        "%d %s with %d %s each; preset: %s parameters%s",
        jobs,
        "process" if jobs == 1 else "processes",
        threads,
        "thread" if threads == 1 else "threads",
        f"{count_parameters(preset.model):,}",
        "" if search.max_parameters is None else f", others at most {search.max_parameters:,}",
    )


def _describe(search: Search, trial: FrozenTrial, best: FrozenTrial | None) -> str:
    """One line of a trial that ended."""
    attrs, state = trial.user_attrs, state_of(trial)
    name = "the preset" if attrs.get("reference") else f"{attrs.get('parameters', 0):,} parameters"
    if state == "failed":
        return f"trial {trial.number} ({name}) failed: {attrs.get('reason')}"
    figures = attrs["figures"]
    line = f"trial {trial.number} ({name}): {search.objective} {figures[search.objective]:.5g}"
    line += f", {figures['seconds_per_epoch']:.3g} s an epoch"
    if state == "pruned":
        line += f", pruned after epoch {figures['epochs']}"
    if best is not None:
        line += f"; best {best.value:.5g} (trial {best.number})"
    return line


def finish(out: Path, search: Search) -> TunedSearch:
    """Write trials.tsv, best.json and search.png, and print the best beside the preset.

    Raises:
        InputError: no trial is complete yet.
    """
    study = open_study(out, search)
    trials = study.get_trials(deepcopy=False)
    table = trials_table(search, trials)
    write_trials(out / "trials.tsv", table)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(count_states(trials).items()))
    best = best_trial(search, trials)
    if best is None:
        raise InputError(
            f"{out}: no trial is complete yet ({counts}). Continue with `resume=True` and more "
            "time."
        )
    write_best(out / "best.json", search, best)
    with atomic_output(out / "search.png", overwrite=True) as temporary:
        search_png(temporary, table, importances(study), objective=search.objective)
    log.info("%d trials (%s), plots: %s", len(trials), counts, out / "search.png")
    _print_summary(table, reference_trial(trials), best)
    if not best.user_attrs.get("reference"):
        log.info("Changed: %s", ", ".join(_changes(search, best)))
    log.info(
        "Train with: bin/train_danq.py --config %s --data %s --out RUN",
        out / "best.json",
        search.data,
    )
    return TunedSearch(out, best_preset(search, best), table)


def _print_summary(table: Any, reference: FrozenTrial | None, best: FrozenTrial) -> None:
    """The preset beside the best trial."""
    columns = ("trial", "parameters", "s/epoch", "epoch", *_SUMMARY)
    log.info("%-8s" + "%13s" * len(columns), "", *columns)
    for name, trial in (("preset", reference), ("best", best)):
        if trial is None:
            log.info("%-8s%13s", name, "not complete")
            continue
        row = table.loc[trial.number]
        log.info(
            "%-8s%13d%13s%13.3g%13d" + "%13.5f" * len(_SUMMARY),
            name,
            trial.number,
            f"{int(row['parameters']):,}",
            row["seconds_per_epoch"],
            int(row["best_epoch"]),
            *(math.nan if row[column] is None else row[column] for column in _SUMMARY),
        )
    log.info("(loss: training, with dropout; gap: val_loss - loss; of the best epoch)")


def _changes(search: Search, best: FrozenTrial) -> list[str]:
    """The settings in which the best recipe differs from the preset."""
    old, new = search.preset, best_preset(search, best)
    changes = []
    for before, after in ((old.model, new.model), (old.train, new.train)):
        for name, value in vars(after).items():
            if value != getattr(before, name):
                changes.append(f"{name} {_text(getattr(before, name))} to {_text(value)}")
    return changes


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(_text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
