"""The run: its folder, from settings to tables, comparison and report.

`training` makes the network; here stand the run's description (config.json, environment.json),
what `--resume` may continue, and the evaluation of a trained network on a split, which a run and
`evaluate_danq.py` share.
"""

import dataclasses
import json
import math
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from danq_keras import __version__
from danq_keras.data.store import Dataset
from danq_keras.evaluation import metrics
from danq_keras.evaluation.auc_tables import add_baselines, auc_table, summarise, write_auc_table
from danq_keras.evaluation.baselines import load_or_compute
from danq_keras.evaluation.calibration import calibrate, calibration_summary
from danq_keras.evaluation.comparison import AucTable, compare_with_paper, has_deepsea_targets
from danq_keras.evaluation.comparison_text import write_comparison
from danq_keras.evaluation.report import write_report
from danq_keras.prediction.predictor import (
    SplitPrediction,
    SplitPredictor,
    TrainedModel,
    without_tf32,
)
from danq_keras.recipes.presets import Preset, apply_settings, changed_settings, get_preset
from danq_keras.system.command import InputError, atomic_output, log

MIN_VALIDATION_POSITIVES = 25  # below it a target shares the threshold of all targets
_MAY_GROW = "epochs"
_SECTIONS = ("preset", "dataset", "model", "train", "targets")
_DESCRIPTION = ("changed", *_SECTIONS, "source", "synthetic", "target_numbers", "init", "bootstrap")


@dataclass(frozen=True)
class Evaluation:
    """How to evaluate: the split, bootstrap resamples (0 for none), the rule of the macro figures.

    `columns` are the numbers of the dataset's targets that the network predicts; None for all.
    """

    split: str = "test"
    bootstrap: int = 0
    min_positives: int = 1
    seed: int = 0
    batch_size: int = 200
    columns: list[int] | None = None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, in place of an earlier file; NaN has no place in it."""
    with atomic_output(path, overwrite=True) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def describe_run(preset: Preset, dataset: Dataset, columns: list[int] | None) -> dict[str, Any]:
    """The content of config.json: enough to start the run again."""
    targets = dataset.targets if columns is None else dataset.targets.subset(columns)
    header = dataset.train.header
    return {
        "preset": preset.name,
        "source": preset.source,
        "changed": {
            key: f"{now} (preset: {before})"
            for key, (before, now) in changed_settings(preset).items()
        },
        "synthetic": "synthetic" in header.source.lower(),
        "dataset": {
            "path": str(dataset.folder.resolve()),
            "name": dataset.name,
            "source": header.source,
            "strands": header.strands,
            "windows": {name: dataset.split(name).n_windows for name in ("train", "valid", "test")},
            "fingerprints": dataset.fingerprints(),
        },
        "model": dataclasses.asdict(preset.model),
        "train": dataclasses.asdict(preset.train),
        "targets": list(targets.names),
        "target_numbers": list(range(len(targets))) if columns is None else columns,
    }


def describe_environment(dataset: Dataset, precision: str) -> dict[str, Any]:
    """The content of environment.json."""
    gpus = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return {
        "danq_keras": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "devices": gpus or [f"CPU ({metrics.n_threads()} cores)"],
        "precision": precision,
        "fingerprints": dataset.fingerprints(),
        "command": sys.argv,
    }


def read_config(run: Path) -> dict[str, Any]:
    """config.json of a run folder.

    Raises:
        InputError: there is no such run.
    """
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"{run}: no run to resume (config.json is missing). Leave out --resume.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = all(section in config for section in _SECTIONS)
    except (ValueError, TypeError):
        complete = False
    if not complete:
        raise InputError(f"{path}: not the settings of a run, or damaged. Start a new run.")
    return config


def preset_from_config(config: Mapping[str, Any]) -> Preset:
    """The recipe that a config.json, or a JSON file of settings, describes.

    Raises:
        InputError: an unknown preset or setting.
    """
    base = get_preset(config.get("preset", "danq"))
    settings: dict[str, Any] = {}
    for section in ("model", "train"):
        if not isinstance(config.get(section, {}), dict):
            raise InputError(f"{section!r}: expected an object of settings in the JSON file.")
        settings |= config.get(section, {})
    settings |= {key: value for key, value in config.items() if key not in _DESCRIPTION}
    return apply_settings(base, settings)


def check_resumable(config: Mapping[str, Any], wanted: Mapping[str, Any], run: Path) -> None:
    """Compare what a run was started with and what it is resumed with.

    Args:
        config: config.json of the run.
        wanted: the same description of the resumed run; only its epochs may be more.
        run: for the message.

    Raises:
        InputError: the first setting that differs.
    """
    for section in ("model", "train"):
        for key, old in config[section].items():
            new = wanted[section][key]
            new = list(new) if isinstance(new, tuple) else new
            grown = key == _MAY_GROW and new >= old
            if new != old and not grown:
                raise InputError(
                    f"{run}: --resume continues a run as it was started: {key} was {old}, "
                    f"received {new}. Leave the setting out, or start a new run."
                )
    if wanted["dataset"]["fingerprints"] != config["dataset"]["fingerprints"]:
        raise InputError(
            f"{run}: --resume needs the data of the run's start ({config['dataset']['path']}); "
            f"{wanted['dataset']['path']} holds other data. Give the same --data, or start a new "
            "run."
        )
    if wanted["targets"] != config["targets"] or wanted["preset"] != config["preset"]:
        raise InputError(
            f"{run}: --resume needs the preset ({config['preset']}) and targets of the run's "
            "start. Leave --preset and --targets out, or start a new run."
        )


def require_run(run: Path) -> None:
    """Make sure that --overwrite will remove a run, and nothing that is not one.

    Raises:
        InputError: the folder holds something else.
    """
    if not (run / "config.json").is_file():
        raise InputError(
            f"{run}: --overwrite replaces only a run folder (with config.json), and this is none. "
            "Choose another --out."
        )
    read_config(run)


def clear_run(run: Path, *, keep: Path) -> None:
    """Empty a run folder.

    Args:
        run: the folder.
        keep: what in it leads to this path stays: the data of the new run.

    Raises:
        InputError: the run folder itself is to be kept.
    """
    kept = keep.resolve()
    if kept == run.resolve():
        raise InputError(f"{run}: the data are there. Choose another --out.")
    for child in run.iterdir():
        if kept.is_relative_to(child.resolve()):
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def evaluate_model(
    model: TrainedModel, dataset: Dataset, out: Path, *, how: Evaluation
) -> dict[str, Any]:
    """Test a network on a split and write test_aucs.tsv, test_summary.json, comparison.* to `out`.

    Thresholds are chosen on the validation split: per target where it has enough positives there,
    else one for all.

    Returns:
        The summary.

    Raises:
        InputError: network and dataset differ in window or targets, or the split is empty.
    """
    columns = check_fit(model, dataset, how.columns)
    split = dataset.split(how.split)
    if split.n_windows == 0:
        raise InputError(f"{split.path}: the split has no windows. Evaluate another with --split.")
    predictor = SplitPredictor(model.network, batch_size=how.batch_size, columns=columns)
    thresholds = None
    with without_tf32():
        if dataset.valid.n_windows:
            thresholds = choose_thresholds(predictor(dataset.valid, desc="thresholds"))
        prediction = predictor(split, desc=f"predict {how.split}")
    numbers = list(range(dataset.train.n_targets)) if columns is None else columns
    baselines = load_or_compute(dataset, out / f"baselines_{how.split}.json", split=how.split)
    chosen = {name: each.subset(numbers) for name, each in baselines.figures.items()}
    table = add_baselines(_table(prediction, dataset, numbers, thresholds, how), chosen)
    write_auc_table(out / "test_aucs.tsv", table, overwrite=True)
    summary = summarise(
        table, min_positives=how.min_positives, loss=prediction.loss, notes=baselines.notes
    )
    pooled = metrics.evaluate_pooled(prediction.labels, prediction.probs, ignore=prediction.ignore)
    summary["split"] = how.split
    summary["overall"]["accuracy_pooled"] = _number(pooled.accuracy[0])
    summary["overall"]["f1_pooled"] = _number(pooled.f1[0])
    summary["calibration"] = calibration_summary(
        calibrate(prediction.labels, prediction.probs, ignore=prediction.ignore),
        # Of all targets of the dataset, which decided what windows were kept.
        unlabelled_share=float(np.mean(~np.any(split.labels, axis=1))),
    )
    write_json(out / "test_summary.json", summary)
    if has_deepsea_targets(table):
        ours = AucTable(label=out.resolve().name, frame=table)
        found = compare_with_paper(ours, min_positives=how.min_positives)
        write_comparison(found, out, overwrite=True)
    return summary


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def check_fit(model: TrainedModel, dataset: Dataset, columns: list[int] | None) -> list[int] | None:
    """The dataset's columns that a network predicts.

    Raises:
        InputError: another window length, or targets that the dataset lacks.
    """
    _, window, _ = model.network.input_shape
    n_targets = model.network.output_shape[1]
    if window != dataset.window:
        raise InputError(
            f"{dataset.folder}: windows of {dataset.window} bases, {model.path} reads {window}. "
            "Build the dataset with --window "
            f"{window}."
        )
    if columns is None and model.config.get("targets"):
        names = dataset.targets.names
        missing = [name for name in model.targets.names if name not in names]
        if missing:
            raise InputError(
                f"{dataset.folder}: lacks {len(missing)} of the {n_targets} targets of "
                f"{model.path} ({', '.join(missing[:3])}). Use the dataset it was trained for."
            )
        columns = [names.index(name) for name in model.targets.names]
        columns = None if columns == list(range(len(names))) else columns
    expected = dataset.train.n_targets if columns is None else len(columns)
    if n_targets != expected:
        raise InputError(
            f"{dataset.folder}: {expected} targets, {model.path} predicts {n_targets}. Use the "
            "dataset it was trained for."
        )
    return columns


def choose_thresholds(prediction: SplitPrediction) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(T,) thresholds of the highest F1 on the validation split."""
    labels, probs, ignore = prediction.labels, prediction.probs, prediction.ignore
    figures = metrics.evaluate(labels, probs, ignore=ignore)
    shared = metrics.evaluate_pooled(labels, probs, ignore=ignore).best_threshold[0]
    enough = (figures.positives >= MIN_VALIDATION_POSITIVES) & ~np.isnan(figures.best_threshold)
    return np.where(enough, figures.best_threshold, shared)


def _table(
    prediction: SplitPrediction,
    dataset: Dataset,
    numbers: list[int],
    thresholds: Any,
    how: Evaluation,
) -> Any:
    labels, probs, ignore = prediction.labels, prediction.probs, prediction.ignore
    split = dataset.split(how.split)
    intervals = None
    if how.bootstrap:
        intervals = metrics.bootstrap(
            labels,
            probs,
            blocks=metrics.genome_blocks(split.chrom, split.start),
            n=how.bootstrap,
            seed=how.seed,
            ignore=ignore,
        )
    f1 = None if thresholds is None else metrics.f1_at(labels, probs, thresholds, ignore=ignore)
    return auc_table(
        dataset.targets.subset(numbers),
        numbers,
        metrics=metrics.evaluate(labels, probs, ignore=ignore),
        thresholds=thresholds,
        f1_at_threshold=f1,
        bootstrap=intervals,
    )


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """The closing lines of a run: macro figures, their denominator, the baselines beside them."""
    overall = summary["overall"]
    log.info(
        "%s split, %s of %s targets counted (%s):",
        summary["split"],
        overall["counted"],
        overall["targets"],
        summary["rule"],
    )
    rows = [("network", overall)]
    rows += [(name, each["overall"]) for name, each in summary["baselines"].items()]
    for name, figures in rows:
        roc, pr = figures.get("auroc", {}), figures.get("auprc", {})
        log.info(
            "  %-10s ROC AUC mean %s, median %s; PR AUC mean %s, median %s",
            name,
            *(_digits(part.get(key)) for part in (roc, pr) for key in ("mean", "median")),
        )
    log.info("Report: %s", folder / "report.html")


def _digits(value: float | None) -> str:
    return "NA" if value is None else f"{value:.4f}"


def finish_evaluation(model: TrainedModel, dataset: Dataset, out: Path, *, how: Evaluation) -> None:
    """Evaluate into a folder: tables, comparison, report with the run's own description."""
    out.mkdir(parents=True, exist_ok=True)
    summary = evaluate_model(model, dataset, out, how=how)
    source = model.path if model.path.is_dir() else model.path.parent
    for name in ("config.json", "environment.json", "history.csv"):
        if (source / name).is_file() and source.resolve() != out.resolve():
            shutil.copyfile(source / name, out / name)
    write_report(out)
    print_summary(summary, out)


def finish_run(model: TrainedModel, dataset: Dataset, run: Path, *, how: Evaluation) -> None:
    """The end of a run: test, tables, comparison and report; without test windows the report."""
    if dataset.test.n_windows == 0:
        log.warning("%s: no windows; the run ends without a test.", dataset.test.path)
        log.info("Report: %s", write_report(run))
        return
    finish_evaluation(model, dataset, run, how=how)
