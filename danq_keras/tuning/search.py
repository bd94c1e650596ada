"""What `tune_danq.py` does once its arguments are parsed: begins or joins a study and works on it.

The trials run in processes of their own (`tune_worker`); here their progress is shown. Loads
Optuna, not TensorFlow.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from danq_keras.commands.options import read_pairs
from danq_keras.data.bundle import open_or_convert
from danq_keras.data.store import open_store
from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fit_to_data
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import EXIT_INPUT, InputError
from danq_keras.system.files import atomic_output
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
    Search,
    best_preset,
    best_trial,
    count_states,
    importances,
    is_study,
    n_finished,
    open_study,
    read_search,
    reference_trial,
    state_of,
    trials_table,
    write_best,
    write_search,
    write_trials,
)

POLL_SECONDS = 1.0
STOP_SECONDS = 120  # for a step and for the checkpoint of a large network
_SEEN = ("complete", "pruned", "failed")
_SUMMARY = ("loss", "val_loss", "gap", "val_auroc", "val_auprc")


def run(args: argparse.Namespace, timeout: float | None) -> int:
    """Begin or join a study, work on it, and write what it found.

    Returns:
        The exit status: 2 when a process met a user's mistake, which it has said.

    Raises:
        InputError: a user's mistake, or no trial was finished.
    """
    out = args.out
    if args.resume:
        search = read_search(out)
        _require_same(args, search)
        status = _work(args, out, search, timeout=timeout)
    else:
        search = _new_search(args)
        _begin(out, search)
        try:
            status = _work(args, out, search, timeout=timeout)
        finally:
            if not _has_begun(out, search):  # the processes could not start: nothing is left
                shutil.rmtree(out)
    return status or finish(out, search)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line fixes, as text."""
    flags = {name: getattr(args, name) for name in ("epochs", "seed")}
    given = {name: value for name, value in flags.items() if value is not None}
    return read_pairs((pair for group in args.pairs for pair in group), given)


def _new_search(args: argparse.Namespace) -> Search:
    """The search that the command line describes.

    Raises:
        InputError: a user's mistake; nothing has been written.
    """
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        if is_study(args.out):
            raise InputError(
                f"{args.out}: holds a search. Continue with --resume, or choose another name."
            )
        raise InputError(f"{args.out}: already exists. Choose another name.")
    if args.data is None:
        raise InputError("--data: say which dataset the networks are trained on.")
    settings = _settings(args)
    preset = apply_settings(get_preset(args.preset or "danq"), settings)
    chosen = DEFAULT_SPACE if args.space is None else read_space(args.space)
    preset_values(chosen, preset)  # a preset of another kind is said before data are converted
    dataset = open_store(open_or_convert(args.data, args.store))
    preset, columns = fit_to_data(preset, dataset, settings)
    space, changed = _fitted(chosen, settings, preset)
    check_space(space, preset, max_parameters=args.max_parameters)
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
        objective=args.objective or "val_loss",
        max_parameters=args.max_parameters,
        pruner=args.pruner or "median",
    )


def _fitted(space: Space, settings: dict[str, Any], preset: Preset) -> tuple[Space, list[str]]:
    """A space less what is fixed, wide enough for the preset; the names of widened ranges."""
    return widened(without_fixed(space, settings), preset)


def _require_same(args: argparse.Namespace, search: Search) -> None:
    """Make sure that flags which are repeated with --resume are those of the study's beginning.

    Raises:
        InputError: one is another.
    """
    settings = _settings(args)
    space = search.space if args.space is None else read_space(args.space)
    data = search.data if args.data is None else open_or_convert(args.data, args.store)
    same = {
        "--data": data.resolve() == search.data,
        "--preset": args.preset in (None, search.preset.name),
        "--epochs, --seed or --set": apply_settings(search.preset, settings) == search.preset,
        "--objective": args.objective in (None, search.objective),
        "--max-parameters": args.max_parameters in (None, search.max_parameters),
        "--pruner": args.pruner in (None, search.pruner),
        "--space": _fitted(space, settings, search.preset)[0] == search.space,
    }
    for flag, agrees in same.items():
        if not agrees:
            raise InputError(
                f"{args.out}: --resume continues a search as it began; {flag} was another then. "
                "Leave it out, or start a new search."
            )


def _begin(out: Path, search: Search) -> None:
    """Make the study folder, with the preset itself as the first trial."""
    out.mkdir(parents=True, exist_ok=True)
    study = open_study(out, search)
    values = preset_values(search.space, search.preset)
    study.enqueue_trial(values, user_attrs={"reference": True})
    write_search(out, search)  # last: it marks a folder that can be resumed


def _has_begun(out: Path, search: Search) -> bool:
    trials = open_study(out, search).get_trials(deepcopy=False)
    return any(state_of(trial) != "waiting" for trial in trials)


def _work(args: argparse.Namespace, out: Path, search: Search, *, timeout: float | None) -> int:
    """Run processes until enough trials are finished or the time is up.

    Raises:
        InputError: all processes were killed.
    """
    study = open_study(out, search)
    before = study.get_trials(deepcopy=False)
    jobs = min(args.jobs, args.trials - n_finished(before))
    if jobs <= 0:
        return 0
    _print_header(out, search, args.trials, jobs)
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    workers = [_start_worker(out, args.trials, number, jobs) for number in range(jobs)]
    try:
        shown = {trial.number for trial in before if state_of(trial) in _SEEN}
        with progress(total=args.trials, initial=len(shown), desc="trials", unit="trial") as bar:
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
    if n_finished(study.get_trials(deepcopy=False)) < args.trials:
        raise InputError(
            f"{out}: every process was killed, perhaps for want of memory. Continue with --resume "
            "and fewer --jobs, or set --max-parameters in a new search."
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


def finish(out: Path, search: Search) -> int:
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
            f"{out}: no trial is complete yet ({counts}). Continue with --resume and more time."
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
    return 0


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
