"""AUC tables: `test_aucs.tsv`, a row per target, and its summary, `test_summary.json`.

A table is a pandas DataFrame with the columns `COLUMNS`, in that order, then whatever follows:
`target` int64 (0-based), texts (`TEXT_COLUMNS`, "" where unknown; "None" and "NA" are treatments),
counts int64, everything else float64 with NaN where the file says NA. A target without positives
or negatives keeps its row. A baseline's figures stand in columns `baseline_<name>_<figure>`.

Nothing is computed here from predictions (see `metrics`) and nothing is compared (`comparison`).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.evaluation.bootstrap import BootstrapIntervals
from danq_keras.evaluation.metrics import TargetMetrics
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.tables import read_text_table, write_tsv

TEXT_COLUMNS = ("name", *TARGET_COLUMNS)
COUNT_COLUMNS = ("positives", "negatives")
AUC_COLUMNS = ("auroc", "auprc", "auprc_interpolated")
THRESHOLD_COLUMNS = ("accuracy", "f1", "threshold", "f1_at_threshold", "f1_maximum")
COLUMNS = ("target", *TEXT_COLUMNS, *COUNT_COLUMNS, *AUC_COLUMNS, *THRESHOLD_COLUMNS)
INTERVAL_COLUMNS = ("auroc_low", "auroc_high", "auprc_low", "auprc_high")

_AVERAGED = ("accuracy", "f1", "f1_at_threshold", "f1_maximum")
_BASELINE_COLUMN = re.compile(r"baseline_(?P<name>.+?)_(?P<figure>auroc|auprc_interpolated|auprc)")

AnyFloats = npt.NDArray[np.floating[Any]]


def auc_table(
    targets: Targets,
    numbers: Sequence[int],
    *,
    metrics: TargetMetrics,
    thresholds: AnyFloats | None = None,
    f1_at_threshold: AnyFloats | None = None,
    bootstrap: BootstrapIntervals | None = None,
) -> pd.DataFrame:
    """The table of one evaluated split.

    Args:
        targets: the T targets evaluated.
        numbers: (T,) their 0-based numbers in the dataset.
        metrics: (T,) figures, NaN where a target has none.
        thresholds: (T,) chosen on the validation split; NaN where there was none to choose.
        f1_at_threshold: (T,) F1 at those thresholds.
        bootstrap: (T,) ends of the intervals of both AUCs.

    Returns:
        (T, ...) DataFrame with the columns `COLUMNS` and, with `bootstrap`, `INTERVAL_COLUMNS`.
    """
    unknown = np.full(len(targets), np.nan)
    columns: dict[str, Any] = {"target": np.asarray(numbers, np.int64), "name": targets.names}
    columns |= {column: targets.column(column) for column in TARGET_COLUMNS}
    columns |= {column: np.asarray(getattr(metrics, column), np.int64) for column in COUNT_COLUMNS}
    columns |= {column: getattr(metrics, column) for column in AUC_COLUMNS}
    columns |= {
        "accuracy": metrics.accuracy,
        "f1": metrics.f1,
        "threshold": unknown if thresholds is None else thresholds,
        "f1_at_threshold": unknown if f1_at_threshold is None else f1_at_threshold,
        "f1_maximum": metrics.best_f1,
    }
    if bootstrap is not None:
        columns |= {column: getattr(bootstrap, column) for column in INTERVAL_COLUMNS}
    return pd.DataFrame({name: list(values) for name, values in columns.items()})


def add_baselines(table: pd.DataFrame, baselines: Mapping[str, TargetMetrics]) -> pd.DataFrame:
    """The table with `baseline_<name>_<figure>` columns, for each of `AUC_COLUMNS`.

    Args:
        table: (T, ...) an AUC table.
        baselines: name → (T,) figures on the same windows and targets, in the table's order.

    Raises:
        ValueError: a baseline has another number of targets.
    """
    added: dict[str, AnyFloats] = {}
    for name, metrics in baselines.items():
        if len(metrics.auroc) != len(table):
            raise ValueError(
                f"baseline {name}: {len(metrics.auroc)} targets for a table of {len(table)}."
            )
        added |= {
            f"baseline_{name}_{figure}": np.asarray(getattr(metrics, figure))
            for figure in AUC_COLUMNS
        }
    return table.assign(**added)


def baseline_names(table: pd.DataFrame) -> list[str]:
    """Names of the baselines whose figures the table holds, in the order of its columns."""
    matches = [_BASELINE_COLUMN.fullmatch(str(column)) for column in table.columns]
    return list(dict.fromkeys(match["name"] for match in matches if match))


def write_auc_table(path: Path, table: pd.DataFrame, *, overwrite: bool = False) -> None:
    """Write a table as tab-separated text, NaN as NA, numbers with nine digits.

    Nine digits bring a float32 threshold back unchanged.

    Raises:
        InputError: the file exists and may not be overwritten.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        write_tsv(temporary, table)


def read_auc_table(path: Path) -> pd.DataFrame:
    """Read a table as text, then turn its numeric columns into numbers.

    Raises:
        InputError: not a table, a column is missing, a cell is not a number or out of range, a
            target number or name occurs twice.
        OSError: the file cannot be read.
    """
    text = read_text_table(path)
    if "deepsea_auroc" in text.columns:
        raise InputError(
            f"{path}: an AUC table has a column 'auroc'. Received the paper's table. "
            "Say published:deepsea, published:danq or published:danq-jaspar instead."
        )
    missing = [column for column in COLUMNS if column not in text.columns]
    if missing:
        raise InputError(
            f"{path}: an AUC table has the columns {', '.join(COLUMNS)}. Missing: "
            f"{', '.join(missing)}. Write it with evaluate_danq.py."
        )
    if text.empty:
        raise InputError(f"{path}: a table has a row a target. Received only a header.")
    extra = [column for column in text.columns if column not in COLUMNS]
    table = text[[*COLUMNS, *extra]].copy()
    for column in ("target", *COUNT_COLUMNS):
        table[column] = _numbers(path, text, column).astype(np.int64)
    for column in (*AUC_COLUMNS, *THRESHOLD_COLUMNS):
        table[column] = _numbers(path, text, column, missing_allowed=True)
    for column in extra:
        if column in INTERVAL_COLUMNS or _BASELINE_COLUMN.fullmatch(column):
            table[column] = _numbers(path, text, column, missing_allowed=True)
    _check_unique(path, table)
    return table


def _numbers(
    path: Path, text: pd.DataFrame, column: str, *, missing_allowed: bool = False
) -> npt.NDArray[np.float64]:
    """A column as float64; "NA" is NaN where that is allowed, counts must be whole."""
    numbers = np.asarray(pd.to_numeric(text[column], errors="coerce"), np.float64)
    cells = np.asarray(text[column], str)
    absent = (cells == "NA") & missing_allowed
    if missing_allowed:
        wrong = ~absent & ~((numbers >= 0) & (numbers <= 1))
        rule = "a number from 0 to 1, or NA"
    else:
        wrong = ~((numbers >= 0) & (np.floor(numbers) == numbers) & np.isfinite(numbers))
        rule = "a whole number from 0"
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}: column {column} holds {rule}. Received {str(cells[row])!r} in row {row + 2}. "
            "Write the table again."
        )
    return numbers


def _check_unique(path: Path, table: pd.DataFrame) -> None:
    for column in ("target", "name"):
        repeated = table[column][table[column].duplicated()]
        if len(repeated):
            raise InputError(
                f"{path}: each target has one row. Received {column} {repeated.iloc[0]} twice. "
                "Remove one."
            )


def counted(table: pd.DataFrame, *, min_positives: int = 1) -> npt.NDArray[np.bool_]:
    """(T,) bool: targets that macro figures average, those with an AUC and enough positives."""
    mask: npt.NDArray[np.bool_] = np.asarray(
        (table["positives"] >= min_positives) & table["auroc"].notna(), bool
    )
    return mask


def group_masks(table: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """The (T,) targets of each group that has a name, in order of appearance."""
    groups = [group for group in dict.fromkeys(table["group"]) if group]
    return {group: np.asarray(table["group"] == group) for group in groups}


def summarise(
    table: pd.DataFrame,
    *,
    min_positives: int = 1,
    loss: float | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `test_summary.json` holds: figures overall and per group, baselines beside them.

    Args:
        table: an AUC table, with baseline columns where there are baselines.
        min_positives: targets with fewer positives are left out of every figure.
        loss: mean binary cross-entropy of the split, where known.
        notes: baseline → how it was made.

    Returns:
        JSON-ready; None where no target is counted. Every group has its own denominators.
    """
    keep = counted(table, min_positives=min_positives)
    masks = group_masks(table)
    overall = _figures(table, keep)
    overall["loss"] = loss
    return {
        "rule": f"targets with at least {_plural(min_positives, 'positive')} and 1 negative",
        "min_positives": min_positives,
        "overall": overall,
        "groups": {group: _figures(table, keep, mask) for group, mask in masks.items()},
        "baselines": {
            name: {
                "note": (notes or {}).get(name, ""),
                "overall": _auc_figures(table, keep, prefix=f"baseline_{name}_"),
                "groups": {
                    group: _auc_figures(table, keep & mask, prefix=f"baseline_{name}_")
                    for group, mask in masks.items()
                },
            }
            for name in baseline_names(table)
        },
    }


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _figures(
    table: pd.DataFrame,
    keep: npt.NDArray[np.bool_],
    mask: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Figures of the targets in `mask` (all without one) that `keep` counts."""
    chosen = keep if mask is None else keep & mask
    total = len(table) if mask is None else int(mask.sum())
    figures: dict[str, Any] = {"targets": total, "not_counted": total - int(chosen.sum())}
    figures |= _auc_figures(table, chosen)
    figures |= {column: _average(table.loc[chosen, column], "mean") for column in _AVERAGED}
    return figures


def _auc_figures(
    table: pd.DataFrame, chosen: npt.NDArray[np.bool_], *, prefix: str = ""
) -> dict[str, Any]:
    values = table.loc[chosen & np.asarray(table[f"{prefix}auroc"].notna())]
    figures: dict[str, Any] = {"counted": len(values)}
    for column in AUC_COLUMNS:
        if prefix + column in table.columns:
            figures[column] = {
                how: _average(values[prefix + column], how) for how in ("mean", "median")
            }
    return figures


def _average(values: pd.Series, how: str) -> float | None:
    """Mean or median of the values that are there; None when there are none."""
    present = np.asarray(values.dropna(), np.float64)
    if not len(present):
        return None
    return float(np.mean(present) if how == "mean" else np.median(present))
