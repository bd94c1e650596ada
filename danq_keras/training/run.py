"""What `train_danq.py` does once its arguments are parsed; loads TensorFlow."""

import argparse
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danq_keras.data.bundle import open_or_convert
from danq_keras.data.demo import make_demo
from danq_keras.data.store import Dataset, is_dataset, open_store
from danq_keras.data.targets import Targets
from danq_keras.evaluation.evaluate import Evaluation
from danq_keras.models.trained import load_model
from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fit_to_data
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings, changed_settings
from danq_keras.system.errors import InputError
from danq_keras.system.files import claimed_folder, refuse_existing, write_json
from danq_keras.system.terminal import log, set_up_logging
from danq_keras.training.fine_tuning import (
    Source,
    copy_weights,
    describe_start,
    new_layers,
    open_source,
    reopen_source,
    take_over,
)
from danq_keras.training.finish import finish_run
from danq_keras.training.optimizers import describe_steps, make_optimizer, warn_of_scaling
from danq_keras.training.run_folder import (
    check_resumable,
    clear_run,
    describe_environment,
    describe_run,
    is_complete,
    preset_from_config,
    read_config,
    require_run,
)
from danq_keras.training.trainer import Trainer

DEMO_FOLDER = "demo_data"


@dataclass(frozen=True)
class Plan:
    """What a command line asks for, checked against the data before anything is written.

    `description` is the content of config.json; `source` is the network to start from, None also
    when a run is resumed.
    """

    preset: Preset
    dataset: Dataset
    columns: list[int] | None
    description: dict[str, Any]
    source: Source | None


def run(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Start or resume a run and take it to its report."""
    out = run_folder(args)
    config = read_config(out) if args.resume else None
    if not args.resume and is_used(out):
        refuse_existing(out, overwrite=args.overwrite)
        require_run(out)
    plan = make_plan(args, settings, out=out, config=config)
    if config is not None and is_complete(out, plan.description):
        print(f"{out}: this run is complete. Its report: {out / 'report.html'}")
        return 0
    plan.dataset.verify()
    trainer = Trainer(plan.preset, plan.dataset, out, columns=plan.columns)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        _make_room(args, out, plan.dataset)
        _train(args, plan, trainer)
    return 0


def make_plan(
    args: argparse.Namespace,
    settings: dict[str, Any],
    *,
    out: Path,
    config: dict[str, Any] | None,
) -> Plan:
    """Settle settings and data.

    Args:
        args: the command line.
        settings: its settings.
        out: run folder, or the folder of a set of runs.
        config: of the run that is resumed; None for a new one.

    Raises:
        InputError: a user's mistake.
    """
    content = config or ({} if args.config is None else _read_settings_file(args.config))
    source = _source(args, content)
    preset = _preset(args, settings, content, source)
    make_optimizer(preset.train)  # an unknown one is said before anything is read or written
    _require_writable(out)
    dataset = open_store(_data_folder(args, out, config))
    preset, columns = fit_to_data(preset, dataset, settings)
    description = describe_run(preset, dataset, columns)
    description["bootstrap"] = _bootstrap(args, content)
    if source is not None:
        targets = Targets(tuple(description["targets"]))
        description["init"] = source.record(new_layers(source, preset.model, targets))
    if config is not None:
        description |= {key: config[key] for key in ("init",) if key in config}
        check_resumable(config, description, out)
    return Plan(preset, dataset, columns, description, source)


def _make_room(args: argparse.Namespace, out: Path, dataset: Dataset) -> None:
    """Leave nothing of an earlier run but what is continued, and never the data."""
    if args.resume:
        (out / "report.html").unlink(missing_ok=True)  # written last: it marks a complete run
    elif is_used(out):  # without --overwrite by a process that began a moment ago
        refuse_existing(out, overwrite=args.overwrite)
        clear_run(out, keep=dataset.folder)


def is_used(out: Path) -> bool:
    """Whether something is there but demo data, which an interrupted start may have left."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return bool(names - {DEMO_FOLDER}) or (out.exists() and not out.is_dir())


def _bootstrap(args: argparse.Namespace, content: dict[str, Any]) -> int:
    """Resamples for the test's intervals: of the flag, the resumed run or the settings file.

    Raises:
        InputError: they are not those of the resumed run, or no number.
    """
    kept = content.get("bootstrap", args.bootstrap or 0)
    if not isinstance(kept, int) or kept < 0:
        raise InputError(f"bootstrap: a whole number from 0 on. Received: {kept!r}.")
    if args.resume and args.bootstrap not in (None, kept):
        raise InputError(
            f"{args.out}: this run was started with --bootstrap {kept}, received {args.bootstrap}. "
            "Leave --bootstrap out; evaluate_danq.py makes intervals of any run."
        )
    return kept if args.bootstrap is None else int(args.bootstrap)


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


def _train(args: argparse.Namespace, plan: Plan, trainer: Trainer) -> None:
    out, dataset = trainer.run, trainer.dataset
    preset, description = plan.preset, plan.description
    set_up_logging(out / "run.log")
    write_json(out / "config.json", description)
    write_json(out / "environment.json", describe_environment(dataset, trainer.step.precision))
    _print_header(preset, dataset, trainer, out)
    if "init" in description:
        log.info("%s", describe_start(description["init"], preset.model))
    resumed = args.resume and trainer.resume()
    if args.resume and not resumed:
        log.info("No checkpoint yet: starting at step 0.")
    if "init" in description and not resumed:
        _start_from(plan.source, trainer, description)
    trainer.fit()
    how = Evaluation(
        bootstrap=description["bootstrap"],
        min_positives=preset.train.min_positives,
        seed=preset.train.seed,
        columns=trainer.step.columns,
    )
    finish_run(load_model(out), dataset, out, how=how)


def _start_from(source: Source | None, trainer: Trainer, description: dict[str, Any]) -> None:
    """Give a network the weights of the one that it starts from."""
    record, targets = description["init"], Targets(tuple(description["targets"]))
    source = source or reopen_source(record, trainer.run / "config.json")
    copy_weights(source, trainer.model, targets, new=record["new_layers"])
    if not record["new_layers"]:
        loss = trainer.predictor(trainer.dataset.valid, desc="validation of the model").loss
        log.info("Validation loss before the first step: %.6f", loss)
    trainer.save()  # from here on the run needs the model no more


def _source(args: argparse.Namespace, content: dict[str, Any]) -> Source | None:
    """The network to start from, of the flag or the settings file; a resumed run has its weights.

    Raises:
        InputError: there is none such, it is about to be deleted, or the resumed run is of another.
    """
    if args.resume:
        recorded = content.get("init", {}).get("model")
        if args.init is not None and str(args.init.resolve()) != recorded:
            raise InputError(
                f"{args.out}: this run was started "
                f"{'without --init' if recorded is None else f'with --init {recorded}'}, received "
                f"{args.init}. Leave --init out, or start a new run."
            )
        return None
    if args.init is None and "init" not in content:
        return None
    if args.init is None:
        source = reopen_source(content["init"], args.config)
    else:
        source = open_source(args.init)
    if source.trained.path.resolve().is_relative_to(run_folder(args).resolve()):
        raise InputError(
            f"{source.trained.path}: the model to start from is in the folder of the new run. "
            "Choose another --out."
        )
    return source


def _preset(
    args: argparse.Namespace,
    settings: dict[str, Any],
    content: dict[str, Any],
    source: Source | None,
) -> Preset:
    """The recipe: a preset or the resumed run's, then the settings file, then the flags."""
    if args.resume:
        base = preset_from_config(content)
        if args.preset is not None and args.preset != base.name:
            raise InputError(
                f"{args.out}: this run was started with --preset {base.name}, received "
                f"{args.preset}. Leave --preset out, or start a new run."
            )
    elif args.config is not None:
        name = {} if args.preset is None else {"preset": args.preset}
        base = preset_from_config(content | name)
    else:
        base = get_preset(_preset_name(args))
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


def _preset_name(args: argparse.Namespace) -> str:
    return args.preset or ("danq" if args.data else "demo")


def run_folder(args: argparse.Namespace) -> Path:
    """`--out`, or where a run goes without it."""
    if args.out is not None:
        return Path(args.out)
    name = "demo"
    if args.data is not None:
        name = args.data.resolve().name.removesuffix(".gz").removesuffix(".tar")
    preset = _preset_name(args)
    return Path("runs") / (preset if preset == name else f"{preset}-{name}")


def _data_folder(args: argparse.Namespace, out: Path, config: dict[str, Any] | None) -> Path:
    if args.data is not None:
        return open_or_convert(args.data, args.store)
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
    log.info("Steps: %s", describe_steps(preset.train))
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
