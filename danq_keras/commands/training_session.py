"""What `train_danq.py` does once its arguments are parsed; loads TensorFlow."""

import argparse
import errno
import json
import os
from pathlib import Path
from typing import Any

from danq_keras.bundle import open_or_convert
from danq_keras.console import InputError, claimed_folder, log, refuse_existing, set_up_logging
from danq_keras.demo import make_demo
from danq_keras.experiment import (
    Evaluation,
    check_resumable,
    clear_run,
    describe_environment,
    describe_run,
    finish_run,
    preset_from_config,
    read_config,
    require_run,
    write_json,
)
from danq_keras.optimizers import describe_steps, make_optimizer, warn_of_scaling
from danq_keras.predict import load_trained
from danq_keras.presets import Preset, apply_settings, changed_settings, get_preset
from danq_keras.recipes import fit_to_data
from danq_keras.store import Dataset, is_dataset, open_dataset
from danq_keras.training import Trainer

DEMO_FOLDER = "demo_data"


def run(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Start or resume a run and take it to its report."""
    out = _run_folder(args)
    config = read_config(out) if args.resume else None
    preset = _preset(args, settings, config)
    make_optimizer(preset.train)  # an unknown one is said before anything is read or written
    if not args.resume and _is_used(out):
        refuse_existing(out, overwrite=args.overwrite)
        require_run(out)
    _require_writable(out)
    dataset = open_dataset(_data_folder(args, out, config))
    preset, columns = fit_to_data(preset, dataset, settings)
    description = describe_run(preset, dataset, columns)
    if config is not None:
        check_resumable(config, description, out)
        if _is_complete(out, config, preset):
            print(f"{out}: this run is complete. Its report: {out / 'report.html'}")
            return 0
    dataset.verify()
    trainer = Trainer(preset, dataset, out, columns=columns)
    out.mkdir(parents=True, exist_ok=True)
    with claimed_folder(out):
        _make_room(args, out, dataset)
        _train(args, preset, trainer, description)
    return 0


def _make_room(args: argparse.Namespace, out: Path, dataset: Dataset) -> None:
    """Leave nothing of an earlier run but what is continued, and never the data."""
    if args.resume:
        (out / "report.html").unlink(missing_ok=True)  # written last: it marks a complete run
    elif _is_used(out):  # without --overwrite by a process that began a moment ago
        refuse_existing(out, overwrite=args.overwrite)
        clear_run(out, keep=dataset.folder)


def _is_used(out: Path) -> bool:
    """Whether something is there but demo data, which an interrupted start may have left."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return bool(names - {DEMO_FOLDER}) or (out.exists() and not out.is_dir())


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
    args: argparse.Namespace, preset: Preset, trainer: Trainer, description: dict[str, Any]
) -> None:
    out, dataset = trainer.run, trainer.dataset
    set_up_logging(out / "run.log")
    write_json(out / "config.json", description)
    write_json(out / "environment.json", describe_environment(dataset, trainer.step.precision))
    _print_header(preset, dataset, trainer, out)
    if args.resume and not trainer.resume():
        log.info("No checkpoint yet: starting at step 0.")
    trainer.fit()
    how = Evaluation(
        bootstrap=args.bootstrap,
        min_positives=preset.train.min_positives,
        seed=preset.train.seed,
        columns=trainer.step.columns,
    )
    finish_run(load_trained(out), dataset, out, how=how)


def _preset(
    args: argparse.Namespace, settings: dict[str, Any], config: dict[str, Any] | None
) -> Preset:
    """The recipe: a preset or the resumed run's, then the settings file, then the flags."""
    if config is not None:
        base = preset_from_config(config)
        if args.preset is not None and args.preset != base.name:
            raise InputError(
                f"{args.out}: this run was started with --preset {base.name}, received "
                f"{args.preset}. Leave --preset out, or start a new run."
            )
    elif args.config is not None:
        content = _read_settings_file(args.config)
        if args.preset is not None:
            content["preset"] = args.preset
        base = preset_from_config(content)
    else:
        base = get_preset(_preset_name(args))
    return apply_settings(base, settings)


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


def _run_folder(args: argparse.Namespace) -> Path:
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


def _is_complete(out: Path, config: dict[str, Any], preset: Preset) -> bool:
    same = config["train"]["epochs"] == preset.train.epochs
    return same and (out / "report.html").is_file()


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
