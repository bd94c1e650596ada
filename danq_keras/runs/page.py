"""`report.html` of a set of runs, and its few lines for the terminal.

Reads the set's run folders and tables; computes nothing but what `repeats` does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from danq_keras import __version__
from danq_keras.draw import panels
from danq_keras.evaluation.auc_tables import TEXT_COLUMNS
from danq_keras.evaluation.baselines import kmer_validation
from danq_keras.evaluation.comparison_text import markdown_table
from danq_keras.evaluation.report import (
    format_number,
    settings_sections,
    summary_section,
    table_cell,
    write_page,
)
from danq_keras.runs.sets import FOLDS, RunSet, SetTables
from danq_keras.runs.statistics import (
    EPOCHS_PREFIX,
    Bounds,
    bounds_of,
    is_cut,
    read_history,
)
from danq_keras.system.files import read_json

_MAIN = {
    "test_auroc_mean": "test ROC AUC",
    "test_auprc_mean": "test PR AUC",
    "test_auprc_interpolated_mean": "test PR AUC, interpolated",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "test_f1": "test F1 at 0.5",
    "test_f1_at_threshold": "test F1 at threshold",
    "val_loss": "validation loss",
    "val_auroc": "validation ROC AUC",
    "val_auprc": "validation PR AUC",
    "val_accuracy": "validation accuracy",
    "val_f1": "validation F1 at 0.5",
    "best_epoch": "epochs to the best validation",
    "epochs_trained": "epochs trained",
    "seconds": "seconds of training",
    "baseline_kmer_auroc_mean": "k-mer baseline, test ROC AUC",
    "baseline_kmer_auprc_mean": "k-mer baseline, test PR AUC",
}
CUT_NOTE = (
    "Intervals end where a figure cannot go further (0 or 1, a difference at -1 or 1): the "
    "t-interval of so few runs would pass it."
)
_CURVES = {
    "loss": ("loss", "Training loss (binary cross-entropy)"),
    "val_loss": ("loss", "Validation loss (binary cross-entropy)"),
    "val_auroc": ("ROC AUC", "Validation ROC AUC, mean of the targets"),
    "val_auprc": ("PR AUC", "Validation PR AUC, mean of the targets"),
}


def label_of(figure: str) -> str:
    """What a figure is called in tables; figures of less interest keep their column's name."""
    if figure in _MAIN:
        return _MAIN[figure]
    if figure.startswith(f"{EPOCHS_PREFIX}within_"):
        share = figure.removeprefix(f"{EPOCHS_PREFIX}within_").removesuffix("pct")
        return f"epochs until within {share} % of the best loss"
    if figure.startswith(f"{EPOCHS_PREFIX}until_"):
        return f"epochs until loss {figure.removeprefix(f'{EPOCHS_PREFIX}until_')}"
    return figure


def main_figures(figures: list[str]) -> list[str]:
    """Those of a table's figures that are shown, the test first."""
    waits = [
        name for name in figures if name.startswith((f"{EPOCHS_PREFIX}w", f"{EPOCHS_PREFIX}u"))
    ]
    order = list(_MAIN)
    place = order.index("epochs_trained")
    return [name for name in (*order[:place], *waits, *order[place:]) if name in figures]


def number(value: float, figure: str) -> str:
    """A figure's value as text: epochs and seconds with one decimal, all else with four."""
    coarse = figure == "best_epoch" or figure.startswith((EPOCHS_PREFIX, "seconds"))
    return format_number(float(value), 1 if coarse else 4)


def interval(low: float, high: float, figure: str) -> str:
    """The ends of an interval as text, or NA."""
    return "NA" if np.isnan(low) else f"{number(low, figure)} to {number(high, figure)}"


def cut_note(low: Any, high: Any, bounds: Bounds) -> str:
    """What to say below intervals of which some were cut at a bound; nothing where none was."""
    return CUT_NOTE if is_cut(low, high, bounds) else ""


def set_text(tables: SetTables) -> str:
    """The main figures of a set as a Markdown table."""
    header = ["figure", "mean", "sd", "95 % interval", "lowest", "highest", "runs"]
    parts = markdown_table(header, _summary_rows(tables.summary)), _summary_note(tables.summary)
    return "\n\n".join(filter(None, parts))


def _summary_note(summary: pd.DataFrame) -> str:
    rows = summary.set_index("figure")
    shown = rows.loc[main_figures(list(rows.index))]
    return cut_note(shown["low"], shown["high"], bounds_of(list(shown.index)))


def _summary_rows(summary: pd.DataFrame) -> list[list[str]]:
    rows = summary.set_index("figure")
    return [
        [
            label_of(figure),
            number(row["mean"], figure),
            number(row["sd"], figure),
            interval(row["low"], row["high"], figure),
            number(row["minimum"], figure),
            number(row["maximum"], figure),
            f"{row['n']:.0f} of {row['runs']:.0f}",
        ]
        for figure in main_figures(list(rows.index))
        for row in [rows.loc[figure]]
    ]


def write_set_report(runs: RunSet, tables: SetTables) -> Path:
    """Write `report.html` into the folder of a complete set, in place of an earlier one.

    Returns:
        Its path.

    Raises:
        InputError: a file of a run is damaged.
    """
    histories = [read_history(run) for run in runs.runs.values()]
    path = runs.folder / "report.html"
    pooled = read_json(runs.folder / "test_summary.json") if runs.kind is FOLDS else {}
    context = {
        "title": runs.folder.resolve().name,
        "version": __version__,
        "synthetic": bool(runs.config.get("synthetic")),
        "preset": runs.config.get("preset"),
        "source": runs.config.get("source"),
        "folds": runs.kind is FOLDS,
        "n_runs": len(runs.numbers),
        "seeds": ", ".join(map(str, dict.fromkeys(runs.seeds))),
        "cards": _cards(tables.summary),
        "figures": _summary_rows(tables.summary),
        "cut_note": _summary_note(tables.summary),
        "pooled": summary_section(pooled) if pooled else None,
        "curves": _curves(histories, _kmer(runs)),
        "runs": _runs(runs, tables.runs),
        "plots": _plots(tables.targets),
        "table": None if tables.targets is None else _targets(tables.targets),
        "table_file": runs.kind.targets,
        "settings": settings_sections(runs.config),
    }
    write_page(path, "set.html.j2", context)
    return path


def _cards(summary: pd.DataFrame) -> list[dict[str, Any]]:
    rows = summary.set_index("figure")
    cards = []
    for area in ("auroc", "auprc"):
        name = f"test_{area}_mean"
        if name in rows.index:
            card = {"label": f"{_MAIN[name]}, mean of the targets", **_card(rows, name)}
            baseline = f"baseline_kmer_{area}_mean"
            if baseline in rows.index:
                card["baseline"] = number(rows.loc[baseline, "mean"], baseline)
            cards.append(card)
    for name in ("val_loss", "best_epoch"):
        cards.append({"label": _MAIN[name], **_card(rows, name)})
    return cards


def _card(rows: pd.DataFrame, figure: str) -> dict[str, str]:
    row = rows.loc[figure]
    return {
        "mean": number(row["mean"], figure),
        "sd": number(row["sd"], figure),
        "interval": interval(row["low"], row["high"], figure),
    }


def _kmer(runs: RunSet) -> dict[str, float]:
    """What counting k-mers reaches on validation; nothing for folds, each of which has its own."""
    if runs.kind is FOLDS:
        return {}
    return kmer_validation(next(iter(runs.runs.values())), runs.config)


def _curves(histories: list[pd.DataFrame], kmer: dict[str, float]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    for column, (ylabel, caption) in _CURVES.items():
        if all(column in history and history[column].notna().any() for history in histories):
            level = ("k-mer baseline", kmer[column]) if column in kmer else None
            svg = panels.curves_of_runs(histories, column, ylabel=ylabel, level=level)
            figures.append({"svg": Markup(svg), "caption": caption})
    return figures


def _runs(runs: RunSet, table: pd.DataFrame) -> dict[str, Any]:
    """A row per run with a link to its own report; folds also name their chromosomes."""
    figures = main_figures([str(column) for column in table])
    header = [label_of(figure) for figure in figures]
    rows = [
        {
            "name": row["run"],
            "note": ", ".join(runs.folds[i]["chromosomes"]) if runs.folds else "",
            "cells": [number(row[figure], figure) for figure in figures],
        }
        for i, row in enumerate(table.to_dict("records"))
    ]
    return {"header": header, "rows": rows}


def _plots(targets: pd.DataFrame | None) -> list[dict[str, Any]]:
    """How much a target's AUC varies, against how many positives it has."""
    if targets is None:
        return []
    figures: list[dict[str, Any]] = []
    for area, label in (("auroc", "ROC AUC"), ("auprc", "PR AUC")):
        shown = targets[targets[f"{area}_sd"].notna() & (targets["positives"] > 0)]
        if len(shown):
            ylabel = f"{label}, standard deviation"
            svg = panels.by_positives(shown, f"{area}_sd", ylabel=ylabel)
            figures.append({"svg": Markup(svg), "caption": f"{label} of each target over the runs"})
    return figures


def _targets(targets: pd.DataFrame) -> dict[str, Any]:
    columns = {
        "target": "#",
        "name": "target",
        "group": "group",
        "positives": "positives",
        "n": "runs",
        **{
            f"{area}_{part}": f"{label} {shown}"
            for area, label in (("auroc", "ROC AUC"), ("auprc", "PR AUC"))
            for part, shown in (("mean", "mean"), ("sd", "sd"), ("low", "low"), ("high", "high"))
        },
    }
    if (targets["group"] == "").all():
        del columns["group"]
    rows = targets[list(columns)].astype(object).itertuples(index=False, name=None)
    return {
        "header": [(label, column not in TEXT_COLUMNS) for column, label in columns.items()],
        "rows": [[table_cell(value) for value in row] for row in rows],
    }
