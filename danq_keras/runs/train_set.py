"""A set of runs: several seeds on the same data, or the folds of a cross-validation.

The set (see `sets`) is prepared and reported here; each run is a process of its own (`processes`).
Nothing is trained here. `train_repeats` and `cross_validate` are for a notebook; `train_danq.py`
calls `train_set`.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from danq_keras.data.folds import Fold, deal_dataset, split_of_fold, write_fold
from danq_keras.data.store import Dataset
from danq_keras.evaluation.auc_tables import write_auc_table
from danq_keras.evaluation.resamples import describe_intervals
from danq_keras.runs.page import set_text, write_set_report
from danq_keras.runs.pooling import PREDICTIONS, Pooling, join_predictions, pool, read_fold_test
from danq_keras.runs.processes import RunOrder, run_all
from danq_keras.runs.sets import (
    FOLDS,
    REPEATS,
    Kind,
    RunSet,
    SetTables,
    read_run_set,
    set_kind,
    write_tables,
)
from danq_keras.runs.statistics import DEFAULT_UNTIL, Until
from danq_keras.system.claims import claimed_folder
from danq_keras.system.errors import ChildFailedError, InputError
from danq_keras.system.files import PathLike, refuse_existing, write_json
from danq_keras.system.terminal import log, logged_to, set_up_logging
from danq_keras.training.place import is_used, run_folder
from danq_keras.training.plan import Plan, make_plan, request_of, with_preset
from danq_keras.training.request import TrainRequest, check_request
from danq_keras.training.run import Run
from danq_keras.training.run_folder import clear_run, is_complete
from danq_keras.training.step import TrainingStep
from danq_keras.training.trainer import Trainer

MINIMUM_REPEATS = 2


@dataclass(frozen=True)
class Several:
    """Which runs a set has.

    Args:
        repeats: seeds on the same data; None for folds, or the resumed set's number.
        folds: parts of the chromosomes, each of which is the test split once; None for repeats.
        jobs: runs at once, each with its share of the cores; None for 1.
        until_loss: losses, such as "0.21", or shares of the best, such as "2%", until which the
            epochs are counted; None for "1%".
        fewest: the smallest number of repeats that is allowed.
    """

    repeats: int | None = None
    folds: int | None = None
    jobs: int | None = None
    until_loss: tuple[str, ...] | None = None
    fewest: int = MINIMUM_REPEATS


@dataclass(frozen=True, eq=False)
class TrainedSet:
    """A complete set: its folder, its runs in order, and its tables."""

    folder: Path
    runs: tuple[Run, ...]
    tables: SetTables

    def to_frame(self) -> pd.DataFrame:
        """One row a run, one column a figure."""
        return self.tables.runs


def train_repeats(
    data: Dataset | PathLike,
    out: PathLike,
    *,
    repeats: int = 5,
    jobs: int = 1,
    until_loss: Sequence[str] | None = None,
    **options: Any,
) -> TrainedSet:
    """Train the same recipe with several seeds, to see the spread of its figures.

    Args:
        data: an open dataset, or the folder of one or of a DeepSEA bundle.
        out: folder of the set; each run goes to its folder `seed-0`, `seed-1`, …
        repeats: number of seeds, at least 2.
        jobs: runs at once, each with its share of the cores.
        until_loss: losses until which the epochs are counted, see `Several`.
        **options: `preset`, `settings`, `init`, `resume`, `overwrite`, `bootstrap`, as of
            `danq_keras.train`.

    Returns:
        The runs, and tables with mean, standard deviation and 95 % interval of every figure.

    Raises:
        InputError: see `danq_keras.train`.
        ChildFailedError: a run ended with an error, which it has shown.
    """
    several = Several(repeats=repeats, jobs=jobs, until_loss=_texts(until_loss))
    return train_set(request_of(data, out, **options), several)


def cross_validate(
    data: Dataset | PathLike,
    out: PathLike,
    *,
    folds: int = 5,
    jobs: int = 1,
    until_loss: Sequence[str] | None = None,
    **options: Any,
) -> TrainedSet:
    """Train one network a fold of the chromosomes, so that every window is tested once.

    Args:
        data: an open dataset, or the folder of one; its own splits do not count.
        out: folder of the set; each run goes to its folder `fold-0`, `fold-1`, …
        folds: number of parts that whole chromosomes are dealt to.
        jobs: runs at once, each with its share of the cores.
        until_loss: losses until which the epochs are counted, see `Several`.
        **options: `preset`, `settings`, `init`, `resume`, `overwrite`, `bootstrap`, as of
            `danq_keras.train`.

    Returns:
        The runs, tables of their spread, and in the folder the figures of all folds pooled.

    Raises:
        InputError: see `danq_keras.train`.
        ChildFailedError: a run ended with an error, which it has shown.
    """
    several = Several(folds=folds, jobs=jobs, until_loss=_texts(until_loss))
    return train_set(request_of(data, out, **options), several)


def _texts(until_loss: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if until_loss is None else tuple(until_loss)


def train_set(request: TrainRequest, several: Several) -> TrainedSet:
    """Start or resume a set of runs and take it to its report.

    Raises:
        InputError: a user's mistake, before anything is written where possible.
        ChildFailedError: a run ended with an error, which it has shown.
    """
    set_up_logging()
    check_request(request)
    _check(several)
    request = with_preset(request)
    out = _set_folder(request, several)
    request = dataclasses.replace(request, out=out)
    earlier = _earlier(request, several, out)
    plan = make_plan(request, out=out, config=earlier.config if earlier else None)
    folds = _folds(several, plan, earlier)
    runs = _run_set(out, several, plan, earlier, folds)
    plan.dataset.verify()
    _try_out(plan, folds, out)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        if request.overwrite and is_used(out):
            clear_run(out, keep=plan.dataset.folder)
        (out / "report.html").unlink(missing_ok=True)  # written last: it marks a complete set
        write_json(out / runs.kind.record, runs.record())
        with logged_to(out / "run.log"):
            _print_header(runs, plan, folds)
            status = _make_runs(several, runs, plan, folds, request.log)
            if status:
                raise ChildFailedError(out, status)
            tables = _finish(runs, plan)
    return TrainedSet(out, tuple(Run(folder) for folder in runs.runs.values()), tables)


def _check(several: Several) -> None:
    if several.repeats is not None and several.folds is not None:
        raise InputError(
            "`repeats` trains several seeds, `folds` several splits. Give one of them."
        )
    if several.repeats is not None and several.repeats < several.fewest:
        raise InputError(f"`repeats`: at least {several.fewest}. Received: {several.repeats}.")
    if several.jobs is not None and several.jobs < 1:
        raise InputError(f"`jobs`: at least 1. Received: {several.jobs}.")
    for text in several.until_loss or ():
        Until.parse(text)


def _set_folder(request: TrainRequest, several: Several) -> Path:
    """The folder that is asked for, or a name beside that of a single run."""
    out = run_folder(request)
    if request.out is not None:
        return out
    kind = REPEATS if several.repeats is not None else FOLDS
    return out.with_name(f"{out.name}-{kind.name}")


def _earlier(request: TrainRequest, several: Several, out: Path) -> RunSet | None:
    """The set that is resumed; None for a new one.

    Raises:
        InputError: there is none, or another one than the command line says; or `out` is in use.
    """
    if not request.resume:
        if is_used(out):
            refuse_existing(out, overwrite=request.overwrite)
            if set_kind(out) is None:
                raise InputError(
                    f"{out}: `overwrite` replaces only a folder of repeats or folds here, and this "
                    "is none. Choose another `out`."
                )
        return None
    if set_kind(out) is None:
        advice = "start without `resume`"
        if (out / "config.json").is_file():
            advice = "it holds a single run: leave `repeats` and `folds` out"
        raise InputError(f"{out}: no repeats or folds to resume; {advice}.")
    earlier = read_run_set(out)
    n_earlier = len(earlier.numbers)
    wanted = {REPEATS: several.repeats, FOLDS: several.folds}
    n_wanted = wanted.pop(earlier.kind)
    if any(n is not None for n in wanted.values()):
        raise InputError(f"{out}: holds {earlier.kind.name}. Resume with `{earlier.kind.name}`.")
    if n_wanted is not None and (
        n_wanted != n_earlier if earlier.kind is FOLDS else n_wanted < n_earlier
    ):
        rule = "can only grow" if earlier.kind is REPEATS else "cannot change"
        raise InputError(
            f"{out}: `{earlier.kind.name}` was {n_earlier} and {rule}, received {n_wanted}. Leave "
            "it out, or choose another `out`."
        )
    return earlier


def _folds(several: Several, plan: Plan, earlier: RunSet | None) -> list[Fold]:
    if earlier is not None:
        return deal_dataset(plan.dataset, len(earlier.numbers)) if earlier.kind is FOLDS else []
    return [] if several.folds is None else deal_dataset(plan.dataset, several.folds)


def _run_set(
    out: Path, several: Several, plan: Plan, earlier: RunSet | None, folds: list[Fold]
) -> RunSet:
    numbers: tuple[int, ...] = tuple(range(len(folds)))
    if not folds:
        first = plan.preset.train.seed
        n_repeats = several.repeats or (len(earlier.numbers) if earlier else 0)
        numbers = tuple(range(first, first + n_repeats))
    kind: Kind = FOLDS if folds else REPEATS
    until = several.until_loss or (earlier.until if earlier else DEFAULT_UNTIL)
    described = [{"chromosomes": list(each.chroms), "windows": each.n_windows} for each in folds]
    return RunSet(out, kind, numbers, plan.description, tuple(until), described)


def _try_out(plan: Plan, folds: list[Fold], out: Path) -> None:
    """Build what a run builds, so that a user's mistake is said before anything is written."""
    train = plan.preset.train
    with tf.device("CPU:0"):  # a GPU's memory is for the runs
        if not folds:
            Trainer(plan.preset, plan.dataset, out, columns=plan.columns)
            return
        n_labels = plan.dataset.train.n_targets
        TrainingStep(plan.preset.model, train, n_labels=n_labels, columns=plan.columns)
    sizes = [fold.n_windows for fold in folds]
    n_train = sum(sizes) - max(size + sizes[i - 1] for i, size in enumerate(sizes))
    if train.train_limit is not None and train.train_limit > n_train:
        raise InputError(
            f"`train_limit={train.train_limit}`: the training split of a fold has only {n_train} "
            "windows. Give a smaller number or leave it out."
        )


def _print_header(runs: RunSet, plan: Plan, folds: list[Fold]) -> None:
    log.info(
        "%s: %d %s of preset %s on %s",
        runs.folder,
        len(runs.numbers),
        runs.kind.name,
        plan.preset.name,
        plan.dataset.folder,
    )
    for number, fold in enumerate(folds):
        log.info("fold %d: %d windows, %s", number, fold.n_windows, ", ".join(fold.chroms))


def _make_runs(
    several: Several, runs: RunSet, plan: Plan, folds: list[Fold], tracker: str | None
) -> int:
    """Make the runs that are not complete; the status of the first that failed, or 0."""
    waiting = [(n, run) for n, run in zip(runs.numbers, runs.runs.values(), strict=True)]
    complete = [run for _, run in waiting if _is_done(runs, run)]
    if complete:
        log.info("%d of %d runs are complete.", len(complete), len(waiting))
    waiting = [(number, run) for number, run in waiting if run not in complete]
    for number in runs.numbers if folds else ():  # of complete runs too: they are pooled
        _write_fold(runs, plan, folds, number)
    orders = [_order(runs, plan, number, tracker) for number, _ in waiting]
    try:
        return run_all(orders, at_once=several.jobs or 1)
    except BaseException:
        log.info("Continue the set with: train_danq.py --out %s --resume", runs.folder)
        raise


def _is_done(runs: RunSet, run: Path) -> bool:
    predicted = runs.kind is REPEATS or (run / PREDICTIONS).is_file()
    return predicted and is_complete(run, runs.config)


def _write_fold(runs: RunSet, plan: Plan, folds: list[Fold], number: int) -> None:
    data = runs.data(number)
    if data.is_dir():
        return
    n_bytes = write_fold(plan.dataset, folds, number, data)
    splits = split_of_fold(folds, number)
    log.info(
        "%s: %.1f MB, validation on %s, test on %s",
        data,
        n_bytes / 1e6,
        ", ".join(splits["valid"]),
        ", ".join(splits["test"]),
    )


def _order(runs: RunSet, plan: Plan, number: int, tracker: str | None) -> RunOrder:
    """The request of one run: every setting is said, so that it depends on nothing else."""
    folder = runs.folder / f"{runs.kind.unit}-{number}"
    resume = (folder / "config.json").is_file()
    if folder.is_dir() and not resume:
        shutil.rmtree(folder)  # killed before it had anything to resume
    settings = dataclasses.asdict(plan.preset.model) | dataclasses.asdict(plan.preset.train)
    if runs.kind is REPEATS:
        settings["seed"] = number
    init = plan.description.get("init")
    request = TrainRequest(
        data=plan.dataset.folder if runs.kind is REPEATS else runs.data(number),
        preset=plan.preset.name,
        settings=settings,
        init=None if init is None or resume else Path(init["model"]),
        out=folder,
        resume=resume,
        bootstrap=plan.description["bootstrap"],
        log=tracker,
    )
    return RunOrder(folder, request.to_json(), predict_test=runs.kind is FOLDS)


def _finish(runs: RunSet, plan: Plan) -> SetTables:
    """Tables, report and closing lines of a complete set."""
    tables = write_tables(runs)
    if runs.kind is FOLDS:
        _pool(runs, plan)
    report = write_set_report(runs, tables)
    log.info("%s\nReport: %s", set_text(tables), report)
    return tables


def _pool(runs: RunSet, plan: Plan) -> None:
    numbers = plan.description["target_numbers"]
    tests = [
        read_fold_test(run, runs.data(number), numbers)
        for number, run in zip(runs.numbers, runs.runs.values(), strict=True)
    ]
    train = plan.preset.train
    how = Pooling(numbers, train.min_positives, plan.description["bootstrap"], train.seed)
    table, summary = pool(tests, how)
    write_auc_table(runs.folder / "test_aucs.tsv", table, overwrite=True)
    write_json(runs.folder / "test_summary.json", summary)
    paths = [run / PREDICTIONS for run in runs.runs.values()]
    join_predictions(paths, runs.folder / PREDICTIONS)
    overall = summary["overall"]
    log.info(
        "All folds pooled: %d of %d targets counted, ROC AUC mean %s, PR AUC mean %s",
        overall["counted"],
        overall["targets"],
        *(_digits(overall[area]["mean"]) for area in ("auroc", "auprc")),
    )
    drawn = summary.get("bootstrap")
    if drawn:
        log.info("95 %% intervals of these means: %s", describe_intervals(drawn))


def _digits(value: float | None) -> str:
    return "NA" if value is None else f"{value:.4f}"
