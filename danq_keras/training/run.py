"""A training run: what is asked for, checked against the data, trained, tested and reported.

`train` is the function for a notebook; `train_danq.py` and the runs of a set call `run_request`.
A run is asked for by a `TrainRequest`, which a set of runs hands to its children as JSON; `Plan` is
the request settled against the data, before anything is written.
"""

import dataclasses
import errno
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from danq_keras.data.bundle import open_or_convert
from danq_keras.data.demo import make_demo
from danq_keras.data.store import Dataset, is_dataset, open_store
from danq_keras.data.targets import Targets
from danq_keras.evaluation.evaluate import Evaluation, evaluate_model, print_summary
from danq_keras.evaluation.report import write_report
from danq_keras.models.trained import TrainedModel, load_model
from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fit_to_data
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings, changed_settings
from danq_keras.system.errors import InputError
from danq_keras.system.files import (
    PathLike,
    claimed_folder,
    read_json,
    refuse_existing,
    write_json,
)
from danq_keras.system.terminal import log, set_up_logging
from danq_keras.training.environment import describe_environment
from danq_keras.training.fine_tuning import (
    Source,
    copy_weights,
    describe_start,
    new_layers,
    open_source,
    reopen_source,
    take_over,
)
from danq_keras.training.optimizers import check_optimizer, describe_steps, warn_of_scaling
from danq_keras.training.run_folder import (
    check_resumable,
    clear_run,
    describe_run,
    is_complete,
    preset_from_config,
    read_config,
    require_run,
)
from danq_keras.training.trainer import AfterEpoch, Trainer

DEMO_FOLDER = "demo_data"


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for, before it is checked against the data.

    Args:
        data: folder of a dataset or DeepSEA bundle (also a .tar.gz); None for the simulated demo,
            or for the data of the resumed run.
        store: folder for the dataset that a bundle is converted to; None for one beside the bundle.
        preset: name of the recipe; None for "danq" ("demo" without data), or the resumed run's.
        settings: settings that replace the preset's, by name; values may be text, as `--set`
            takes it.
        config: JSON file of further settings, such as another run's config.json.
        init: run folder or .keras file of the network whose weights the run starts from.
        out: folder of the run; None for one in `runs/`, named after preset and data.
        resume: whether the run in `out` is continued.
        overwrite: whether a run in `out` is replaced.
        bootstrap: resamples of the genome for the intervals of the test's figures; 0 for none,
            None for the resumed run's.
    """

    data: Path | None = None
    store: Path | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    init: Path | None = None
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    bootstrap: int | None = None

    def to_json(self) -> str:
        """The request as text, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "TrainRequest":
        """The request that `to_json` wrote."""
        content = json.loads(text)
        for name in ("data", "store", "config", "init", "out"):
            content[name] = None if content[name] is None else Path(content[name])
        return cls(**content)


@dataclass(frozen=True)
class Plan:
    """A request settled against the data, before anything is written.

    `description` is the content of config.json; `source` is the network to start from, None also
    when a run is resumed.
    """

    preset: Preset
    dataset: Dataset
    columns: list[int] | None
    description: dict[str, Any]
    source: Source | None


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
        """The network of the lowest validation loss, with the names of its targets."""
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
        preset: name of the recipe, such as "danq"; None for "danq", or the resumed run's.
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


def request_of(
    data: Dataset | PathLike,
    out: PathLike,
    *,
    settings: Mapping[str, Any] | None = None,
    init: TrainedModel | PathLike | None = None,
    **options: Any,
) -> TrainRequest:
    """A request from what a notebook has: open datasets and models, or their paths."""
    set_up_logging()
    return TrainRequest(
        data=data.folder if isinstance(data, Dataset) else Path(data),
        out=Path(out),
        settings=dict(settings or {}),
        init=None if init is None else Path(init.path if isinstance(init, TrainedModel) else init),
        **options,
    )


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
    check_request(request)
    out = run_folder(request)
    config = read_config(out) if request.resume else None
    if not request.resume and is_used(out):
        refuse_existing(out, overwrite=request.overwrite)
        require_run(out)
    plan = make_plan(request, out=out, config=config)
    if config is not None and is_complete(out, plan.description):
        return Run(out, trained=False)
    plan.dataset.verify()
    trainer = Trainer(plan.preset, plan.dataset, out, columns=plan.columns)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        _make_room(request, out, plan.dataset)
        _train(request, plan, trainer, sys.argv if command is None else command, after_epoch)
    return Run(out)


def check_request(request: TrainRequest) -> None:
    """Refuse what contradicts itself.

    Raises:
        InputError: the first thing that does.
    """
    if request.bootstrap is not None and request.bootstrap < 0:
        raise InputError(f"`bootstrap`: must not be negative. Received: {request.bootstrap}.")
    if request.resume and request.overwrite:
        raise InputError("`resume` continues a run and `overwrite` deletes it. Give one of them.")
    if request.resume and request.out is None and request.data is None and request.preset is None:
        raise InputError("`resume`: say which run with `out=RUN`.")


def make_plan(request: TrainRequest, *, out: Path, config: dict[str, Any] | None) -> Plan:
    """Settle settings and data.

    Args:
        request: what is asked for.
        out: folder of the run, or of a set of runs.
        config: config.json of the run that is resumed; None for a new one.

    Raises:
        InputError: a user's mistake.
    """
    content = config or ({} if request.config is None else _read_settings_file(request.config))
    source = _source(request, content)
    preset = _preset(request, content, source)
    check_optimizer(preset.train)  # an unknown one is said before anything is read or written
    _require_writable(out)
    dataset = open_store(_data_folder(request, out, config))
    preset, columns = fit_to_data(preset, dataset, request.settings)
    description = describe_run(preset, dataset, columns)
    description["bootstrap"] = _bootstrap(request, content)
    if source is not None:
        targets = Targets(tuple(description["targets"]))
        description["init"] = source.record(new_layers(source, preset.model, targets))
    if config is not None:
        description |= {key: config[key] for key in ("init",) if key in config}
        check_resumable(config, description, out)
    return Plan(preset, dataset, columns, description, source)


def _make_room(request: TrainRequest, out: Path, dataset: Dataset) -> None:
    """Leave nothing of an earlier run but what is continued, and never the data."""
    if request.resume:
        (out / "report.html").unlink(missing_ok=True)  # written last: it marks a complete run
    elif is_used(out):  # without --overwrite by a process that began a moment ago
        refuse_existing(out, overwrite=request.overwrite)
        clear_run(out, keep=dataset.folder)


def is_used(out: Path) -> bool:
    """Whether something is there but demo data, which an interrupted start may have left."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return bool(names - {DEMO_FOLDER}) or (out.exists() and not out.is_dir())


def _bootstrap(request: TrainRequest, content: dict[str, Any]) -> int:
    """Resamples for the test's intervals: the request's, the resumed run's or the settings file's.

    Raises:
        InputError: they are not those of the resumed run, or no number.
    """
    kept = content.get("bootstrap", request.bootstrap or 0)
    if not isinstance(kept, int) or kept < 0:
        raise InputError(f"bootstrap: a whole number from 0 on. Received: {kept!r}.")
    if request.resume and request.bootstrap not in (None, kept):
        raise InputError(
            f"{request.out}: this run was started with `bootstrap={kept}`, received "
            f"{request.bootstrap}. Leave `bootstrap` out; evaluate_danq.py makes intervals of any "
            "run."
        )
    return kept if request.bootstrap is None else int(request.bootstrap)


def _require_writable(out: Path) -> None:
    """Say now what would otherwise be said after the data have been converted.

    Raises:
        OSError: `out` cannot be written or made.
    """
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))


def _train(
    request: TrainRequest,
    plan: Plan,
    trainer: Trainer,
    command: Sequence[str],
    after_epoch: AfterEpoch | None,
) -> None:
    out, dataset = trainer.run, trainer.dataset
    preset, description = plan.preset, plan.description
    set_up_logging(out / "run.log")
    write_json(out / "config.json", description)
    write_json(
        out / "environment.json", describe_environment(dataset, trainer.step.precision, command)
    )
    _print_header(preset, dataset, trainer, out)
    if "init" in description:
        log.info("%s", describe_start(description["init"], preset.model))
    resumed = request.resume and trainer.resume()
    if request.resume and not resumed:
        log.info("No checkpoint yet: starting at step 0.")
    if "init" in description and not resumed:
        _start_from(plan.source, trainer, description)
    trainer.fit(after_epoch)
    how = Evaluation(
        bootstrap=description["bootstrap"],
        min_positives=preset.train.min_positives,
        seed=preset.train.seed,
        columns=trainer.step.columns,
    )
    if dataset.test.n_windows == 0:
        log.warning("%s: no windows; the run ends without a test.", dataset.test.path)
        log.info("Report: %s", write_report(out))
        return
    result = evaluate_model(load_model(out), dataset, how=how, cache=out)
    result.report(out)
    print_summary(result.summary, out)


def _start_from(source: Source | None, trainer: Trainer, description: dict[str, Any]) -> None:
    """Give a network the weights of the one that it starts from."""
    record, targets = description["init"], Targets(tuple(description["targets"]))
    source = source or reopen_source(record, trainer.run / "config.json")
    copy_weights(source, trainer.model, targets, new=record["new_layers"])
    if not record["new_layers"]:
        loss = trainer.predictor(trainer.dataset.valid, desc="validation of the model").loss
        log.info("Validation loss before the first step: %.6f", loss)
    trainer.save()  # from here on the run needs the model no more


def _source(request: TrainRequest, content: dict[str, Any]) -> Source | None:
    """The network to start from, the request's or the settings file's; a resumed run has one.

    Raises:
        InputError: there is none such, it is about to be deleted, or the resumed run is of another.
    """
    if request.resume:
        recorded = content.get("init", {}).get("model")
        if request.init is not None and str(request.init.resolve()) != recorded:
            raise InputError(
                f"{request.out}: this run was started "
                f"{'without `init`' if recorded is None else f'with `init={recorded}`'}, received "
                f"{request.init}. Leave `init` out, or start a new run."
            )
        return None
    if request.init is not None:
        source = open_source(request.init)
    elif request.config is not None and "init" in content:
        source = reopen_source(content["init"], request.config)
    else:
        return None
    if source.trained.path.resolve().is_relative_to(run_folder(request).resolve()):
        raise InputError(
            f"{source.trained.path}: the model to start from is in the folder of the new run. "
            "Choose another `out`."
        )
    return source


def _preset(request: TrainRequest, content: dict[str, Any], source: Source | None) -> Preset:
    """The recipe: a preset or the resumed run's, then the settings file's, then the request's."""
    settings = request.settings
    if request.resume:
        base = preset_from_config(content)
        if request.preset is not None and request.preset != base.name:
            raise InputError(
                f"{request.out}: this run was started with `preset={base.name}`, received "
                f"{request.preset}. Leave `preset` out, or start a new run."
            )
    elif request.config is not None:
        name = {} if request.preset is None else {"preset": request.preset}
        base = preset_from_config(content | name)
    else:
        base = get_preset(_preset_name(request))
    if source is None:
        return apply_settings(base, settings)
    return take_over(base, source, settings, fixed={*content, *content.get("model", {})})


def _read_settings_file(path: Path) -> dict[str, Any]:
    """A JSON file of settings, such as a run's config.json.

    Raises:
        InputError: it is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON file ({error}). Give a run's config.json.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object of settings. Give a run's config.json.")
    return content


def _preset_name(request: TrainRequest) -> str:
    return request.preset or ("danq" if request.data else "demo")


def run_folder(request: TrainRequest) -> Path:
    """The folder that a request names, or where its run goes without one."""
    if request.out is not None:
        return Path(request.out)
    name = "demo"
    if request.data is not None:
        name = request.data.resolve().name.removesuffix(".gz").removesuffix(".tar")
    preset = _preset_name(request)
    return Path("runs") / (preset if preset == name else f"{preset}-{name}")


def _data_folder(request: TrainRequest, out: Path, config: dict[str, Any] | None) -> Path:
    if request.data is not None:
        return open_or_convert(request.data, request.store)
    if config is not None:
        return Path(config["dataset"]["path"])
    demo = out / DEMO_FOLDER
    if not is_dataset(demo):
        log.info("No --data: building the simulated (synthetic) demo genome in %s.", demo)
        make_demo(demo)
    return demo


def _print_header(preset: Preset, dataset: Dataset, trainer: Trainer, out: Path) -> None:
    synthetic = " (synthetic data)" if "synthetic" in dataset.train.header.source.lower() else ""
    windows = ", ".join(
        f"{dataset.split(name).n_windows:,} {name}" for name in ("train", "valid", "test")
    )
    log.info("Run %s: preset %s (%s)", out, preset.name, preset.source)
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
        dataset.train.header.strands,
        preset.model.n_targets,
    )
    log.info(
        "Network: %s parameters, gates %s, %s dropout; %s on %s",
        f"{trainer.model.count_params():,}",
        preset.model.gates,
        preset.model.dropout_kind,
        trainer.step.precision,
        "1 device" if trainer.step.replicas == 1 else f"{trainer.step.replicas} devices",
    )
    log.info("Steps: %s", describe_steps(preset.train, trainer.optimizer))
    log.info(
        "%s samples an epoch, batch %d, %s steps, at most %d epochs",
        f"{trainer.order.n_samples:,}",
        preset.train.batch_size,
        f"{trainer.steps_per_epoch:,}",
        preset.train.epochs,
    )
    warning = warn_of_scaling(preset.train, get_preset(preset.name))
    if warning:
        log.warning(warning)
