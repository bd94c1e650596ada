"""A training run: what is asked for, checked against the data, trained, tested and reported.

`train` is the function for a notebook; `train_danq.py` and the runs of a set call `run_request`.
What is asked for and how it is settled stands in `plan`.
"""

import dataclasses
import functools
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from danq_keras.data.store import Dataset
from danq_keras.data.targets import Targets
from danq_keras.evaluation.baselines import load_or_compute
from danq_keras.evaluation.evaluate import Evaluation, evaluate_model, print_summary
from danq_keras.evaluation.metrics import macro
from danq_keras.evaluation.report import write_report
from danq_keras.models.trained import TrainedModel, load_model
from danq_keras.recipes.config import Preset
from danq_keras.recipes.presets import DEEPSEA_TARGETS, FITTED, get_preset
from danq_keras.recipes.settings import changed_settings
from danq_keras.system.claims import claimed_folder
from danq_keras.system.files import (
    PathLike,
    read_json,
    write_json,
)
from danq_keras.system.terminal import log, logged_to, set_up_logging
from danq_keras.training.environment import describe_environment
from danq_keras.training.fine_tuning import (
    Source,
    copy_weights,
    describe_start,
    reopen_source,
)
from danq_keras.training.milestones import is_replication, milestone
from danq_keras.training.optimizers import (
    describe_steps,
    warn_of_few_steps,
    warn_of_scaling,
    warn_of_warmup,
)
from danq_keras.training.place import is_chief, is_used, refuse_used, run_folder
from danq_keras.training.plan import Plan, make_plan, request_of, with_preset
from danq_keras.training.request import TrainRequest, check_request
from danq_keras.training.run_folder import (
    clear_run,
    is_complete,
    read_config,
)
from danq_keras.training.step import describe_precision
from danq_keras.training.tracking import Tracker, tracked
from danq_keras.training.trainer import AfterEpoch, Trainer

_UNNAMED = (
    f"No recipe was named: the data are not DeepSEA's {DEEPSEA_TARGETS} targets, so {FITTED} is "
    "used. The published network: --preset danq."
)


@dataclass(frozen=True)
class Run:
    """A complete run; what lies in its folder is read when it is asked for.

    `trained` is False where the folder already held the complete run.
    """

    folder: Path
    trained: bool = True

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """config.json: preset, settings of network and training, data and targets."""
        return read_config(self.folder)

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: losses, validation figures, learning rate, gradient norm, speed."""
        return pd.read_csv(self.folder / "history.csv")

    @functools.cached_property
    def model(self) -> TrainedModel:
        """The network of the best validation, with the names of its targets."""
        return load_model(self.folder)

    @functools.cached_property
    def summary(self) -> dict[str, Any] | None:
        """test_summary.json: figures of the test split; None where the data have no test split."""
        return read_json(self.folder / "test_summary.json") or None

    @functools.cached_property
    def table(self) -> pd.DataFrame | None:
        """test_aucs.tsv: one row a target; None where the data have no test split."""
        path = self.folder / "test_aucs.tsv"
        return pd.read_csv(path, sep="\t") if path.is_file() else None

    def to_frame(self) -> pd.DataFrame:
        """The history, one row an epoch."""
        return self.history


def train(
    data: Dataset | PathLike,
    out: PathLike,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: PathLike | TrainedModel | None = None,
    resume: bool = False,
    overwrite: bool = False,
    bootstrap: int | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Run:
    """Train a network on a dataset, test it, and write table, comparison and report.

    The preset's network is fitted to the data's window and targets. What is in `out` afterwards is
    what `train_danq.py` writes; a run that was interrupted goes on with `resume=True`.

    Args:
        data: an open dataset, or the folder of one or of a DeepSEA bundle.
        out: folder of the run, new or empty unless `resume` or `overwrite` is given.
        preset: name of the recipe, such as "danq"; None for "danq" where the data are DeepSEA's
            919 targets or a bundle, else "danq-fitted", or the resumed run's.
        settings: settings that replace the preset's, such as `{"epochs": 5, "gates": "hard"}`.
        init: trained network whose weights the run starts from: its run folder or .keras file.
        resume: whether to continue the run in `out`, bit for bit as if it had not been stopped.
        overwrite: whether to replace a run in `out`.
        bootstrap: resamples of the genome for the intervals of the test's figures; None for 0, or
            the resumed run's.
        after_epoch: called with each new row of the history; what it raises ends the training.

    Returns:
        The run: its folder, configuration, history, best network and test figures.

    Raises:
        InputError: a setting, the data or the folder is not what it should be; or the loss became
            NaN.

    Example:
        >>> run = dq.train("my_dataset", "runs/mine", settings={"epochs": 10})
        >>> run.history[["epoch", "loss", "val_auroc"]]
    """
    request = request_of(
        data,
        out,
        preset=preset,
        settings=settings,
        init=init,
        resume=resume,
        overwrite=overwrite,
        bootstrap=bootstrap,
    )
    return run_request(request, after_epoch=after_epoch)


def run_request(
    request: TrainRequest,
    *,
    command: Sequence[str] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Run:
    """Start or resume a run and take it to its report.

    Args:
        request: what is asked for.
        command: words of the command line for environment.json; None for this process's.
        after_epoch: called with each new row of the history.

    Raises:
        InputError: a user's mistake, before anything is written where possible.
    """
    set_up_logging()
    check_request(request)
    is_named = request.preset is not None
    request = with_preset(request)
    out = run_folder(request)
    config = read_config(out) if request.resume else None
    if not request.resume and is_chief(request):
        refuse_used(out, overwrite=request.overwrite)
    plan = make_plan(request, out=out, config=config)
    if config is not None and is_complete(out, plan.description):
        return Run(out, trained=False)
    plan.dataset.verify()
    trainer = Trainer(plan.preset, plan.dataset, out, columns=plan.columns)
    with trainer.workers.lost_named():
        trainer.workers.require_same(_alike(plan, trainer))
    if not trainer.workers.is_chief:
        _follow(request, plan, trainer)
        return Run(out)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        _make_room(request, out, plan.dataset)
        with logged_to(out / "run.log"):
            if not is_named and plan.preset.name == FITTED and not request.resume:
                log.info("%s", _UNNAMED)
            _train(request, plan, trainer, sys.argv if command is None else command, after_epoch)
    return Run(out)


def _alike(plan: Plan, trainer: Trainer) -> dict[str, Any]:
    """What workers must have in common."""
    environment = describe_environment(plan.dataset, trainer.step.precision, [])
    versions = {name: environment[name] for name in ("danq_keras", "tensorflow", "keras")}
    description = dict(plan.description)
    data = description.pop("dataset")
    return {
        "versions": versions,
        "data": data["fingerprints"],
        "settings": description,
        "precision": trainer.step.precision,
    }


def _follow(request: TrainRequest, plan: Plan, trainer: Trainer) -> None:
    """Train as another worker than the chief, which alone writes, tests and reports."""
    log.setLevel(logging.WARNING)
    with trainer.workers.lost_named():
        resumed = request.resume and trainer.resume()
        if "init" in plan.description and not resumed:
            _copy_source(plan.source, trainer, plan.description)
    trainer.fit()


def _make_room(request: TrainRequest, out: Path, dataset: Dataset) -> None:
    """Leave nothing of an earlier run but what is continued, and never the data."""
    if request.resume:
        (out / "report.html").unlink(missing_ok=True)  # written last: it marks a complete run
    elif is_used(out):  # without --overwrite by a process that began a moment ago
        refuse_used(out, overwrite=request.overwrite)
        clear_run(out, keep=dataset.folder)


def _train(
    request: TrainRequest,
    plan: Plan,
    trainer: Trainer,
    command: Sequence[str],
    after_epoch: AfterEpoch | None,
) -> None:
    out, dataset = trainer.run, trainer.dataset
    preset, description = plan.preset, plan.description
    write_json(out / "config.json", description)
    write_json(
        out / "environment.json", describe_environment(dataset, trainer.step.precision, command)
    )
    _print_header(preset, dataset, trainer, out)
    with tracked(request.log, out, description) as tracker:
        _fit_and_test(request, plan, trainer, tracker, after_epoch)


def _fit_and_test(
    request: TrainRequest,
    plan: Plan,
    trainer: Trainer,
    tracker: Tracker,
    after_epoch: AfterEpoch | None,
) -> None:
    out, dataset, preset, description = trainer.run, trainer.dataset, plan.preset, plan.description
    if "init" in description:
        log.info("%s", describe_start(description["init"], preset.model))
    with trainer.workers.lost_named():
        resumed = request.resume and trainer.resume()
    if request.resume and not resumed:
        log.info("No checkpoint yet: starting at step 0.")
    if "init" in description and not resumed:
        _start_from(plan.source, trainer, description)
    told = _with_milestones(preset.name, trainer, _with_tracker(tracker, after_epoch))
    trainer.fit(_beside_kmers(trainer, told))
    how = Evaluation(
        bootstrap=description["bootstrap"],
        min_positives=preset.train.min_positives,
        columns=trainer.step.columns,
    )
    if dataset.test.n_windows == 0:
        log.warning("%s: no windows; the run ends without a test.", dataset.test.path)
        log.info("Report: %s", write_report(out))
        return
    result = evaluate_model(load_model(out), dataset, how=how, cache=out)
    trainer.place.require()
    result.save(out)
    tracker.test(result.summary)
    write_report(out)
    print_summary(result.summary, out)


def _beside_kmers(trainer: Trainer, after_epoch: AfterEpoch | None) -> AfterEpoch | None:
    """Say what counting k-mers reaches on validation, and the epoch that passes it.

    Returns:
        What is called after each epoch: `after_epoch`, with that said before it.
    """
    config, dataset = trainer.config, trainer.dataset
    found = load_or_compute(
        dataset,
        trainer.run,
        splits=("valid", "test") if dataset.test.n_windows else ("valid",),
        train_limit=config.train_limit,
        seed=config.data_seed,
    )["valid"]
    columns = trainer.step.columns
    chosen = range(dataset.train.n_targets) if columns is None else columns
    figures = macro(found.figures["kmer"].subset(list(chosen)), config.min_positives)
    roc, pr = figures.auroc_mean, figures.auprc_mean
    if math.isnan(roc) or math.isnan(pr):
        log.warning(
            "No target has positives and negatives in the validation split: nothing can be "
            "measured. Where every window has a peak, build the dataset with --negatives genome, "
            "--negatives shuffle or --keep-unlabelled."
        )
        return after_epoch
    log.info(
        "To beat: logistic regression on counts of 1- to 5-mers has ROC AUC %.4f, PR AUC %.4f on "
        "the validation split.",
        roc,
        pr,
    )
    rows = trainer.state.history
    passed = [row["val_auroc"] > roc and row["val_auprc"] > pr for row in rows]

    def tell(row: dict[str, Any]) -> None:
        passed.append(row["val_auroc"] > roc and row["val_auprc"] > pr)
        if passed[-1] and not any(passed[:-1]):
            log.info("Epoch %d passes the k-mer baseline.", row["epoch"])
        if trainer.state.finished and not any(passed):
            log.warning(
                "No epoch passed the k-mer baseline in both figures: for these data the network "
                "as it is set is worse than counting k-mers."
            )
        if after_epoch is not None:
            after_epoch(row)

    return tell


def _with_tracker(tracker: Tracker, after_epoch: AfterEpoch | None) -> AfterEpoch:
    def tell(row: dict[str, Any]) -> None:
        tracker.epoch(row)
        if after_epoch is not None:
            after_epoch(row)

    return tell


def _with_milestones(
    preset: str, trainer: Trainer, after_epoch: AfterEpoch | None
) -> AfterEpoch | None:
    """`after_epoch`, and what a replication should have reached by then."""
    if not is_replication(preset, trainer.order.n_samples):
        return after_epoch

    def tell(row: dict[str, Any]) -> None:
        state = trainer.state
        line = milestone(row, best_loss=state.best_loss, finished=state.finished)
        if line is not None:
            log.info("%s", line)
        if after_epoch is not None:
            after_epoch(row)

    return tell


def _start_from(source: Source | None, trainer: Trainer, description: dict[str, Any]) -> None:
    """Give a network the weights of the one that it starts from."""
    _copy_source(source, trainer, description)
    if not description["init"]["new_layers"]:
        loss = trainer.predictor(trainer.dataset.valid, desc="validation of the model").loss
        log.info("Validation loss before the first step: %.6f", loss)
    trainer.save(wait=True)  # from here on the run needs the model no more


def _copy_source(source: Source | None, trainer: Trainer, description: dict[str, Any]) -> None:
    record, targets = description["init"], Targets(tuple(description["targets"]))
    source = source or reopen_source(record, trainer.run / "config.json")
    copy_weights(source, trainer.model, targets, new=record["new_layers"])


def _print_header(preset: Preset, dataset: Dataset, trainer: Trainer, out: Path) -> None:
    synthetic = " (synthetic data)" if "synthetic" in dataset.train.header.source.lower() else ""
    windows = ", ".join(
        f"{dataset.split(name).n_windows:,} {name}" for name in ("train", "valid", "test")
    )
    log.info("Run %s: preset %s (%s)", out, preset.name, preset.source)
    if preset.fitted:
        values = dataclasses.asdict(preset.model) | dataclasses.asdict(preset.train)
        listed = ", ".join(f"{name} {values[name]}" for name in preset.fitted)
        log.info("Fitted to the data: %s", listed)
    changed = changed_settings(preset)
    if changed:
        listed = ", ".join(f"{key} {now} (not {before})" for key, (before, now) in changed.items())
        log.info("Changed from the preset: %s", listed)
    log.info(
        "Data %s%s: %s windows of %d bases, strands %s, %d targets",
        dataset.folder,
        synthetic,
        windows,
        dataset.window,
        dataset.train.header.strands_meant,
        preset.model.n_targets,
    )
    log.info(
        "Network: %s parameters, gates %s, %s dropout; %s on %s",
        f"{trainer.model.count_params():,}",
        preset.model.gates,
        preset.model.dropout_kind,
        describe_precision(preset.train),
        _devices(trainer),
    )
    log.info("Steps: %s", describe_steps(preset.train, trainer.optimizer))
    log.info(
        "%s samples an epoch, batch %d, %s steps, at most %d epochs",
        f"{trainer.order.n_samples:,}",
        preset.train.batch_size,
        f"{trainer.steps_per_epoch:,}",
        preset.train.epochs,
    )
    _warn(preset, trainer)


def _devices(trainer: Trainer) -> str:
    replicas, workers = trainer.step.replicas, trainer.workers.count
    devices = "1 device" if replicas == 1 else f"{replicas} devices"
    return devices if workers == 1 else f"{devices} of {workers} workers"


def _warn(preset: Preset, trainer: Trainer) -> None:
    """Say what may be meant otherwise; what a search has measured is meant as it is."""
    config, steps = preset.train, trainer.steps_per_epoch
    lines = [warn_of_warmup(config, total_steps=trainer.total_steps)]
    if not preset.is_searched:
        n_targets = preset.model.n_targets
        lines += [
            warn_of_scaling(config, get_preset(preset.name)),
            warn_of_few_steps(config, steps_per_epoch=steps, n_targets=n_targets),
        ]
    for line in filter(None, lines):
        log.warning("%s", line)
