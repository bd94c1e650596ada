"""Several runs of one recipe as one result: mean, spread and 95 % intervals of every figure.

A set of runs is a folder with a run folder for each seed (`seed-3`) or fold (`fold-0`). In: their
`history.csv`, `test_summary.json` and `test_aucs.tsv`. Out: a table with a row per run, its summary
with a row per figure, a table with a row per target, and the difference of two sets.

Intervals are t-intervals over runs: they tell how a figure varies with the seed (or fold), not how
it would vary with other test windows. Ends beyond what a figure can be, such as an accuracy above
1, are cut to that bound, which `is_cut` tells: the true mean lies within, so that no coverage is
lost. Nothing here trains, and nothing knows how runs are started.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from danq_keras.evaluation.auc_tables import (
    AUC_COLUMNS,
    COUNT_COLUMNS,
    TEXT_COLUMNS,
    read_auc_table,
)
from danq_keras.recipes.monitor import best_epoch, monitor_of
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.files import load_json, read_json

CONFIDENCE = 0.95
RUN_COLUMNS = ("run", "seed")
EPOCHS_PREFIX = "epochs_"  # figures that a run may never reach
DEFAULT_UNTIL = ("1%",)
_OF_THE_WHOLE_RUN = ("epoch", "seconds")  # history's columns that are told in another way


@dataclass(frozen=True)
class Until:
    """A validation loss to wait for: a value, or within a share of the run's own best."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> "Until":
        """From "0.21", or "2%": within 2 % of the run's best.

        Raises:
            InputError: neither of the two.
        """
        relative = text.endswith("%")
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not (0 <= value < math.inf) or (value == 0 and not relative):
            raise InputError(
                f"`until_loss`: a loss above zero such as 0.21, or a share of the best such as 2%. "
                f"Received: {text!r}."
            )
        return cls(value, relative)

    @property
    def column(self) -> str:
        """The figure's name."""
        how = f"within_{self.value:g}pct" if self.relative else f"until_{self.value:g}"
        return EPOCHS_PREFIX + how

    def first_epoch(self, epochs: Doubles, losses: Doubles) -> float:
        """The first of `epochs` (E,) whose loss (E,) is as low; NaN when none is."""
        limit = np.nanmin(losses) * (1 + self.value / 100) if self.relative else self.value
        reached = np.flatnonzero(losses <= limit)
        return float(epochs[reached[0]]) if len(reached) else math.nan


@dataclass(frozen=True)
class Spread:
    """Of values (R, M) over R runs: arrays (M,), NaN values left out.

    `n` int64 runs with a value; `mean`; `sd`, of a sample, NaN for one run; `low` and `high`, the
    ends of the t-interval of the mean.
    """

    n: npt.NDArray[np.int64]
    mean: Doubles
    sd: Doubles
    low: Doubles
    high: Doubles


@dataclass(frozen=True)
class Bounds:
    """The least and the most that figures can be: numbers or arrays (M,)."""

    low: Any = -math.inf
    high: Any = math.inf

    def cut(self, ends: tuple[Doubles, Doubles]) -> tuple[Doubles, Doubles]:
        """The ends of intervals (M,) with what lies beyond the bounds cut off.

        Source: Newcombe, Statistics in Medicine 17:857, 1998, on intervals that overshoot.
        """
        low, high = (np.clip(each, self.low, self.high) for each in ends)
        return low, high

    def of_differences(self) -> "Bounds":
        """The bounds of the difference of two such figures."""
        return Bounds(self.low - self.high, self.high - self.low)


UNBOUNDED = Bounds()
SHARE = Bounds(0, 1)
_SHARES = ("auroc", "auprc", "accuracy", "f1", "share", "brier", "calibration_error")


def bounds_of(figures: Sequence[str]) -> Bounds:
    """What figures can be, by their names.

    Returns:
        Arrays (M,): 0 to 1 for areas and shares, -1 to 1 for a correlation, from 0 on for all else
        (losses, epochs, seconds, norms).
    """
    correlation = np.array(["mcc" in figure for figure in figures], bool)
    share = np.array([any(word in figure for word in _SHARES) for figure in figures], bool)
    return Bounds(np.where(correlation, -1.0, 0.0), np.where(correlation | share, 1.0, math.inf))


def is_cut(low: Any, high: Any, bounds: Bounds) -> bool:
    """Whether an end of intervals lies on a bound, where it was cut (or nothing varied)."""
    touching = (np.asarray(low) == bounds.low) | (np.asarray(high) == bounds.high)
    return bool(np.any(touching & (np.asarray(low) < np.asarray(high))))


def spread(values: Doubles, bounds: Bounds = UNBOUNDED) -> Spread:
    """Mean, standard deviation and 95 % t-interval over the first axis of (R, M).

    Args:
        values: (R, M), NaN where a run has no value.
        bounds: what the M figures can be.
    """
    n = np.count_nonzero(~np.isnan(values), axis=0)
    mean, variance = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    np.divide(np.nansum(values, axis=0), n, out=mean, where=n > 0)
    np.divide(np.nansum((values - mean) ** 2, axis=0), n - 1, out=variance, where=n > 1)
    sd = np.sqrt(variance)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(n - 1, 1)) * sd / np.sqrt(np.maximum(n, 1))
    return Spread(n.astype(np.int64), mean, sd, *bounds.cut((mean - half, mean + half)))


def run_table(
    runs: Mapping[str, Path], *, seeds: Sequence[int], until: Sequence[Until]
) -> pd.DataFrame:
    """The figures of complete runs.

    Args:
        runs: name → run folder.
        seeds: seed of each run, in the order of the runs.
        until: validation losses whose first epochs are told.

    Returns:
        DataFrame with a row per run: `RUN_COLUMNS`, then every figure as float64; NaN where a
        run has none.

    Raises:
        InputError: a run has no epoch, or a file is damaged.
    """
    rows = [
        {"run": name, "seed": seed} | run_figures(folder, until)
        for (name, folder), seed in zip(runs.items(), seeds, strict=True)
    ]
    table = pd.DataFrame(rows)
    numbers = [column for column in table if column not in RUN_COLUMNS]
    return table.astype(dict.fromkeys(numbers, np.float64))


def run_figures(run: Path, until: Sequence[Until]) -> dict[str, float]:
    """Every figure of one run: of its best epoch, of its course, and of its test.

    Raises:
        InputError: no epoch in history.csv, or a file is damaged.
    """
    history = read_history(run)
    losses = history["val_loss"].to_numpy(np.float64)
    if not np.isfinite(losses).any():
        raise InputError(f"{run / 'history.csv'}: no epoch with a validation loss. Train it anew.")
    epochs, seconds = history["epoch"].to_numpy(np.float64), history["seconds"]
    config = read_json(run / "config.json")
    best = best_epoch(history.to_dict("records"), monitor_of(config)) or 0
    figures = {
        "epochs_trained": float(len(history)),
        "best_epoch": float(epochs[best]),
        **{each.column: each.first_epoch(epochs, losses) for each in until},
        "seconds": float(seconds.sum()),
        "seconds_to_best": float(seconds[: best + 1].sum()),
    }
    row = history.iloc[best].drop(list(_OF_THE_WHOLE_RUN))
    figures |= {str(name): float(value) for name, value in row.items()}
    return figures | _test_figures(run / "test_summary.json")


def read_history(run: Path) -> pd.DataFrame:
    """history.csv of a run as float64 columns.

    Raises:
        InputError: it is missing or not a history.
    """
    path = run / "history.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file: the run did not end. Continue with `resume=True`.")
    try:
        history = pd.read_csv(path).astype(np.float64)
        _ = history[["epoch", "val_loss", "seconds"]]
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not the history of a run ({reason}).") from error
    return history


def _test_figures(path: Path) -> dict[str, float]:
    """Numbers of test_summary.json by name; nothing where the run was not tested."""
    if not path.is_file():
        return {}
    try:
        summary = load_json(path)
        figures = dict(_numbers(summary["overall"], "test_"))
        for group, values in summary["groups"].items():
            figures |= _numbers(values, f"test_{group}_")
        for name, baseline in summary["baselines"].items():
            figures |= _numbers(baseline["overall"], f"baseline_{name}_")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the summary of a test, or damaged ({error}).") from error
    return figures


def _numbers(content: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, float]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}_")
        elif key not in ("targets", "not_counted"):  # of the data; `counted` stays
            yield prefix + key, math.nan if value is None else float(value)


def summarise_runs(table: pd.DataFrame) -> pd.DataFrame:
    """A row per figure of a run table.

    Returns:
        DataFrame with `figure`, `n` (runs that have it) of `runs`, `mean`, `sd`, `low` and `high`
        (95 % t-interval of the mean), `minimum`, `maximum`.
    """
    figures = figure_names(table)
    found = figure_spread(table, figures)
    return pd.DataFrame(
        {
            "figure": figures,
            "n": found.n,
            "runs": len(table),
            "mean": found.mean,
            "sd": found.sd,
            "low": found.low,
            "high": found.high,
            "minimum": table[figures].min().to_numpy(),
            "maximum": table[figures].max().to_numpy(),
        }
    )


def figure_names(table: pd.DataFrame) -> list[str]:
    """The columns of a run table that are figures."""
    return [str(column) for column in table if column not in RUN_COLUMNS]


def figure_spread(table: pd.DataFrame, figures: Sequence[str]) -> Spread:
    """Spread of some figures of a run table.

    Epochs until something happens have none unless it happened in every run: the mean of the
    quick runs alone would flatter.
    """
    values = table[list(figures)].to_numpy(np.float64)
    found = spread(values, bounds_of(figures))
    waits = np.array([figure.startswith(EPOCHS_PREFIX) for figure in figures], bool)
    unknown = waits & (found.n < len(table))
    hide = {
        name: np.where(unknown, np.nan, getattr(found, name))
        for name in ("mean", "sd", "low", "high")
    }
    return dataclasses.replace(found, **hide)


def read_target_tables(runs: Mapping[str, Path]) -> list[pd.DataFrame]:
    """test_aucs.tsv of every run, all over the same targets; empty when no run was tested.

    Raises:
        InputError: some runs lack it, or their targets differ.
    """
    paths = [folder / "test_aucs.tsv" for folder in runs.values()]
    if not any(path.is_file() for path in paths):
        return []
    tables = [read_auc_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if list(table["name"]) != list(tables[0]["name"]):
            raise InputError(
                f"{path}: other targets than {paths[0]}. Use runs of the same targets."
            )
    return tables


def stack(tables: Sequence[pd.DataFrame], column: str) -> Doubles:
    """(R, T) values of one column of R tables."""
    return np.array([table[column].to_numpy(np.float64) for table in tables])


def target_table(tables: Sequence[pd.DataFrame], *, same_windows: bool) -> pd.DataFrame:
    """Mean and spread of every target's test AUCs.

    Args:
        tables: R AUC tables over the same T targets.
        same_windows: whether the runs were tested on the same windows, as repeats are; else the
            numbers of positives and negatives are added up, as of folds.

    Returns:
        (T, ...) DataFrame: `target`, texts, `positives`, `negatives`, `n` (runs with an AUC), and
        for each of `AUC_COLUMNS` `<column>_mean`, `_sd`, `_low`, `_high`.
    """
    columns: dict[str, Any] = {
        name: tables[0][name].to_numpy() for name in ("target", *TEXT_COLUMNS)
    }
    for name in COUNT_COLUMNS:
        counts = stack(tables, name).astype(np.int64)
        columns[name] = counts[0] if same_windows else counts.sum(axis=0)
    columns["n"] = spread(stack(tables, "auroc")).n
    for name in AUC_COLUMNS:
        found = spread(stack(tables, name), SHARE)
        for part in ("mean", "sd", "low", "high"):
            columns[f"{name}_{part}"] = getattr(found, part)
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Difference:
    """Of the means of two sets of runs, ours minus the reference: arrays (M,).

    `low` and `high` are the ends of the 95 % t-interval and `p` is its two-sided test; NaN where
    there are fewer than two values or nothing varies.
    """

    difference: Doubles
    low: Doubles
    high: Doubles
    p: Doubles


def welch(ours: Spread, reference: Spread, bounds: Bounds = UNBOUNDED) -> Difference:
    """Difference of two means without assuming equal variances.

    Args:
        ours: the means that are judged.
        reference: the means they are judged by.
        bounds: what the figures can be.

    Source: Welch, Biometrika 34:28, 1947.
    """
    difference = ours.mean - reference.mean
    parts = [each.sd**2 / np.maximum(each.n, 1) for each in (ours, reference)]
    error = np.sqrt(parts[0] + parts[1])
    usable = error > 0  # not where NaN
    low, high, p = (np.full(difference.shape, np.nan) for _ in range(3))
    freedom = parts[0][usable] ** 2 / (ours.n[usable] - 1)
    freedom += parts[1][usable] ** 2 / (reference.n[usable] - 1)
    freedom = error[usable] ** 4 / freedom
    half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error[usable]
    low[usable], high[usable] = difference[usable] - half, difference[usable] + half
    low, high = bounds.of_differences().cut((low, high))
    p[usable] = 2 * stats.t.sf(np.abs(difference[usable] / error[usable]), freedom)
    return Difference(difference, low, high, p)


def paired(ours: Doubles, reference: Doubles, bounds: Bounds = UNBOUNDED) -> Difference:
    """Mean difference of pairs (R, M), with the t-interval and two-sided test over pairs.

    Args:
        ours: the values that are judged.
        reference: the values they are judged by.
        bounds: what the figures can be.
    """
    found = spread(ours - reference, bounds.of_differences())
    error = found.sd / np.sqrt(np.maximum(found.n, 1))
    usable = error > 0
    low, high = (np.where(usable, ends, np.nan) for ends in (found.low, found.high))
    p = np.full(found.mean.shape, np.nan)
    p[usable] = 2 * stats.t.sf(np.abs(found.mean[usable] / error[usable]), found.n[usable] - 1)
    return Difference(found.mean, low, high, p)
