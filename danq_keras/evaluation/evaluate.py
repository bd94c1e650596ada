"""A trained network on a split: the table of its targets, the summary, the thresholds."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras import __version__
from danq_keras.data.bundle import open_dataset
from danq_keras.data.store import Dataset, Split
from danq_keras.evaluation import metrics
from danq_keras.evaluation.auc_tables import (
    add_baselines,
    auc_table,
    counted,
    summarise,
    write_auc_table,
)
from danq_keras.evaluation.baselines import load_or_compute
from danq_keras.evaluation.bootstrap import BootstrapIntervals, bootstrap, genome_blocks
from danq_keras.evaluation.calibration import calibrate, calibration_summary
from danq_keras.evaluation.comparison import AucTable, compare_with_paper, has_deepsea_targets
from danq_keras.evaluation.comparison_text import write_comparison
from danq_keras.evaluation.report import write_report
from danq_keras.evaluation.resamples import FILE as RESAMPLES
from danq_keras.evaluation.resamples import (
    KeptResamples,
    bootstrap_summary,
    describe_intervals,
    write_resamples,
)
from danq_keras.models.backend import without_tf32
from danq_keras.models.trained import TrainedModel, check_ensemble, opened, weights_digest
from danq_keras.prediction.predictor import SplitPrediction, SplitPredictor
from danq_keras.recipes.config import PROBABILITY_CLIP
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output, write_json
from danq_keras.system.terminal import log

_ROWS = 8192  # of an ensemble at once
MIN_VALIDATION_POSITIVES = 25  # below it a target shares the threshold of all targets


@dataclass(frozen=True)
class Evaluation:
    """How to evaluate: the split, bootstrap resamples (0 for none), the rule of the macro figures.

    `seed` is the resamples', the same for every network, so that networks are compared in pairs.

    `columns` are the numbers of the dataset's targets that the network predicts; None for all.
    """

    split: str = "test"
    bootstrap: int = 0
    min_positives: int = 1
    seed: int = 0
    batch_size: int = 200
    columns: list[int] | None = None


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Figures of a network on a split.

    `table` has one row a target: counts, ROC and PR AUC, intervals, thresholds, baselines.
    `summary` holds their means and medians, loss and calibration; `prediction` the labels (N, T)
    and probabilities (N, T) float32 that they come from; `resamples` the bootstrap's, None without.
    `about` says what was evaluated on what, see `describe_evaluation`.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    prediction: SplitPrediction
    model: TrainedModel
    resamples: KeptResamples | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """The table, one row a target."""
        return self.table

    def save(self, folder: PathLike) -> None:
        """Write test_aucs.tsv, test_summary.json and, for DeepSEA's targets, comparison.*.

        With a bootstrap also test_bootstrap.h5, by which two networks are compared.
        """
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        (out / RESAMPLES).unlink(missing_ok=True)  # of an earlier test, beside no other's table
        write_auc_table(out / "test_aucs.tsv", self.table, overwrite=True)
        write_json(out / "test_summary.json", self.summary)
        if self.resamples is not None:
            write_resamples(out / RESAMPLES, self.resamples)
        if has_deepsea_targets(self.table):
            ours = AucTable(label=out.resolve().name, frame=self.table)
            found = compare_with_paper(ours, min_positives=self.summary["min_positives"])
            write_comparison(found, out, overwrite=True)

    def report(self, folder: PathLike, *, command: Sequence[str] | None = None) -> Path:
        """Write the files of `save`, the training's description beside them, and report.html.

        Args:
            folder: where to; made where it does not exist.
            command: words of the command line that evaluated, for the report.

        Returns:
            The path of the report.
        """
        out = Path(folder)
        self.save(out)
        source = _folder_of(self.model)
        for name in ("config.json", "environment.json", "history.csv"):
            if source.resolve() == out.resolve():
                break
            if (source / name).is_file():
                with atomic_output(out / name, overwrite=True) as temporary:
                    shutil.copyfile(source / name, temporary)
            else:  # of another network that was evaluated here
                (out / name).unlink(missing_ok=True)
        told = {"command": " ".join(command)} if command else {}
        write_json(out / "test_summary.json", {**self.summary, "evaluation": told | self.about})
        return write_report(out)


def evaluate(
    model: TrainedModel | PathLike,
    data: Dataset | PathLike,
    *,
    split: str = "test",
    bootstrap: int = 0,
    min_positives: int = 1,
    ensemble: Sequence[TrainedModel | PathLike] = (),
) -> EvaluationResult:
    """Test a network on a split of a dataset.

    Args:
        model: the network, or its run folder or .keras file.
        data: an open dataset, or the folder of one.
        split: "train", "valid" or "test".
        bootstrap: resamples of the genome's 100-kb blocks for 95 % intervals; 0 for none.
        min_positives: positives from which a target counts in means and medians.
        ensemble: more networks of the same targets, such as those of other seeds: the mean of all
            probabilities is tested.

    Returns:
        Table, summary and prediction; `.save(folder)` and `.report(folder)` write them.

    Raises:
        InputError: network and dataset differ in window or targets, or the split is empty.

    Example:
        >>> result = dq.evaluate("runs/mine", "my_dataset")
        >>> result.table.sort_values("auroc")[["target", "auroc", "auprc"]]
    """
    trained = opened(model)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    how = Evaluation(split=split, bootstrap=bootstrap, min_positives=min_positives)
    return evaluate_model(trained, dataset, how=how, ensemble=[opened(each) for each in ensemble])


def evaluate_model(
    model: TrainedModel,
    dataset: Dataset,
    *,
    how: Evaluation,
    cache: Path | None = None,
    ensemble: Sequence[TrainedModel] = (),
) -> EvaluationResult:
    """Test a network on a split, thresholds chosen on the validation split.

    A target has its own threshold where it has enough positives there, else that of all targets.

    Args:
        model: network from (N, L, 4) to (N, T), with the names of its targets.
        dataset: open dataset with windows of the network's length.
        how: split, intervals and rules.
        cache: folder to keep the baselines in where the dataset's cannot be written.
        ensemble: more networks of the same targets; the mean of all probabilities is tested.

    Raises:
        InputError: network and dataset differ in window or targets, or the split is empty.
    """
    columns = check_fit(model, dataset, how.columns)
    split = dataset.split(how.split)
    if split.n_windows == 0:
        raise InputError(f"{split.path}: the split has no windows. Evaluate another `split`.")
    predictor = _Ensemble((model, *ensemble), dataset, how, columns)
    thresholds = None
    with without_tf32():
        if dataset.valid.n_windows:
            thresholds = choose_thresholds(predictor(dataset.valid, desc="thresholds"))
            log.debug("Thresholds chosen on %s.", dataset.valid.path)
        prediction = predictor(split, desc=f"predict {how.split}")
        log.debug("Predicted %s.", split.path)
    numbers = list(range(dataset.train.n_targets)) if columns is None else columns
    trained = model.config.get("train") or {}
    baselines = load_or_compute(
        dataset,
        cache,
        splits=(how.split,),
        train_limit=trained.get("train_limit"),
        seed=trained.get("data_seed", 0),
    )[how.split]
    chosen = {name: each.subset(numbers) for name, each in baselines.figures.items()}
    intervals = _bootstrap(prediction, dataset, how) if how.bootstrap else None
    table = _table(prediction, dataset, numbers, thresholds, intervals)
    table = add_baselines(table, chosen)
    summary = summarise(
        table, min_positives=how.min_positives, loss=prediction.loss, notes=baselines.notes
    )
    pooled = metrics.evaluate_pooled(prediction.labels, prediction.probs, ignore=prediction.ignore)
    summary["split"] = how.split
    summary["overall"]["accuracy_pooled"] = _number(pooled.accuracy[0])
    summary["overall"]["f1_pooled"] = _number(pooled.f1[0])
    found = metrics.matthews(prediction.labels, prediction.probs, ignore=prediction.ignore)
    mcc = found[counted(table, min_positives=how.min_positives)]
    summary["overall"]["mcc"] = {"mean": float(mcc.mean()) if len(mcc) else None}
    tested = None
    if intervals is not None and intervals.resamples is not None:
        observed = {name: table[name].to_numpy(np.float64) for name in ("auroc", "auprc")}
        observed["mcc"] = found
        tested = KeptResamples(tuple(table["name"]), observed, intervals.resamples)
        summary["bootstrap"] = bootstrap_summary(
            intervals.resamples, table, min_positives=how.min_positives
        )
    summary["calibration"] = calibration_summary(
        calibrate(prediction.labels, prediction.probs, ignore=prediction.ignore),
        # Of all targets of the dataset, which decided what windows were kept.
        unlabelled_share=float(np.mean(~np.any(split.labels, axis=1))),
    )
    about = describe_evaluation((model, *ensemble), dataset, how)
    log.debug("Figures of %s.", split.path)
    return EvaluationResult(table, summary, prediction, model, tested, about)


def _folder_of(model: TrainedModel) -> Path:
    return model.path if model.path.is_dir() else model.path.parent


def describe_evaluation(
    models: Sequence[TrainedModel], dataset: Dataset, how: Evaluation
) -> dict[str, Any]:
    """What was evaluated on what, as test_summary.json holds it under `evaluation`.

    Args:
        models: the network, or those whose mean was tested.
        dataset: the data.
        how: split, intervals and rules.
    """
    split, folder = dataset.split(how.split), _folder_of(models[0])
    return {
        "model": [str(model.path.resolve()) for model in models],
        "weights_sha256": [weights_digest(model.network) for model in models],
        "trained_in": str(folder.resolve()) if (folder / "config.json").is_file() else None,
        "data": str(dataset.folder.resolve()),
        "data_source": split.header.source,
        "split": how.split,
        "windows": split.n_windows,
        "fingerprint": dataset.fingerprints()[how.split],
        "bootstrap": how.bootstrap,
        "min_positives": how.min_positives,
        "danq_keras": __version__,
    }


class _Ensemble:
    """Predicts splits with one network or several, whose probabilities are averaged."""

    def __init__(
        self,
        models: Sequence[TrainedModel],
        dataset: Dataset,
        how: Evaluation,
        columns: list[int] | None,
    ) -> None:
        self._orders = check_ensemble(models) if len(models) > 1 else [[]]
        self._members = [
            SplitPredictor(
                model.network,
                batch_size=how.batch_size,
                columns=check_fit(model, dataset, columns if model is models[0] else None),
            )
            for model in models
        ]

    def __call__(self, split: Split, *, desc: str) -> SplitPrediction:
        first, *others = [member(split, desc=desc) for member in self._members]
        if not others:
            return first
        probs = np.empty_like(first.probs)
        loss = counted = 0.0
        for begin in range(0, len(probs), _ROWS):  # in float64, but not all of it at once
            part = slice(begin, begin + _ROWS)
            total = first.probs[part].astype(np.float64)
            for each, order in zip(others, self._orders[1:], strict=True):
                total += each.probs[part][:, order]
            probs[part] = total / len(self._members)
            clipped = np.clip(
                probs[part].astype(np.float64), PROBABILITY_CLIP, 1 - PROBABILITY_CLIP
            )
            losses = -np.log(np.where(first.labels[part] > 0, clipped, 1 - clipped))
            if first.ignore is not None:
                losses = losses[first.ignore[part] == 0]
            loss, counted = loss + float(losses.sum()), counted + losses.size
        loss = loss / counted if counted else math.nan
        return SplitPrediction(probs, first.labels, first.ignore, loss)


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
            f"Build the dataset with `window={window}`."
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


def _bootstrap(
    prediction: SplitPrediction, dataset: Dataset, how: Evaluation
) -> BootstrapIntervals:
    split = dataset.split(how.split)
    return bootstrap(
        prediction.labels,
        prediction.probs,
        blocks=genome_blocks(split.chrom, split.start),
        n=how.bootstrap,
        seed=how.seed,
        ignore=prediction.ignore,
        windows=str(dataset.fingerprints()[how.split]),
    )


def _table(
    prediction: SplitPrediction,
    dataset: Dataset,
    numbers: list[int],
    thresholds: Any,
    intervals: BootstrapIntervals | None,
) -> Any:
    labels, probs, ignore = prediction.labels, prediction.probs, prediction.ignore
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
    drawn = summary.get("bootstrap")
    if drawn:
        log.info("  network, 95 %% intervals of the means: %s", describe_intervals(drawn))
    log.info("Report: %s", folder / "report.html")


def _digits(value: float | None) -> str:
    return "NA" if value is None else f"{value:.4f}"
