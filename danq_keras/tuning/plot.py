"""The picture of a search."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from danq_keras.draw.style import LIGHT_GRID, NO_GROUP, STYLE, log_ticks

_PRESET = "#009E73"

TRIALS_TO_RANK = 20
"""Complete trials from which settings are ranked: PED-ANOVA judges them by the best tenth."""


def search_png(
    path: Path, table: pd.DataFrame, shares: Mapping[str, float], *, objective: str
) -> None:
    """A search at a glance: objective by trial, importances, objective against each setting.

    The preset has a colour of its own.

    Args:
        path: PNG file to write.
        table: of `study.trials_table`: a row per trial, its point in the columns after `reason`.
        shares: setting → its share in the spread of the objective, drawn from `TRIALS_TO_RANK`
            complete trials on; may be empty.
        objective: name of the objective.
    """
    names = list(table.columns[table.columns.get_loc("reason") + 1 :])
    shown = table[table["value"].notna()]
    n_rows = 1 + -(-len(names) // 4)
    with mpl.rc_context({**STYLE, "grid.color": LIGHT_GRID}):
        figure = Figure(figsize=(13, 3.2 * n_rows), layout="constrained")
        grid = figure.add_gridspec(n_rows, 4)
        _objective_by_trial(figure.add_subplot(grid[0, :2]), table, objective)
        _importances(figure.add_subplot(grid[0, 2:]), shares, n_complete=len(shown))
        for number, name in enumerate(names):
            axes = figure.add_subplot(grid[1 + number // 4, number % 4])
            _objective_by_setting(axes, shown, name, objective)
        figure.savefig(path, format="png", dpi=120)


def _importances(axes: Axes, shares: Mapping[str, float], *, n_complete: int) -> None:
    """The settings' shares as bars; words where there are too few trials to rank by."""
    axes.set(title="importance (PED-ANOVA, complete trials)", xlabel="share")
    if n_complete < TRIALS_TO_RANK or not shares:
        few = n_complete < TRIALS_TO_RANK
        text = f"too few complete trials to rank by:\n{n_complete}, from {TRIALS_TO_RANK} on"
        axes.text(
            *(0.5, 0.5, text if few else "the objective does not vary"),
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
        axes.set(xticks=[], yticks=[], xlabel="")
        return
    ranked = sorted(shares.items(), key=lambda item: item[1])
    axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=NO_GROUP)
    axes.set_axisbelow(True)


def _objective_by_trial(axes: Axes, table: pd.DataFrame, objective: str) -> None:
    """Complete trials, the best so far, and at which best value others were pruned."""
    shown = table[table["value"].notna()]
    pruned = table[table["state"] == "pruned"]
    best = shown["value"].astype(float)
    best = best.cummax() if objective == "val_auprc" else best.cummin()
    axes.scatter(shown["trial"], shown["value"], s=18, color=NO_GROUP, label="complete")
    axes.scatter(
        pruned["trial"],
        pruned[objective],
        s=18,
        marker="x",
        color="#999999",
        label="pruned, best until then",
    )
    preset = shown[shown["reference"] == "yes"]
    axes.scatter(preset["trial"], preset["value"], s=18, color=_PRESET, label="preset", zorder=3)
    axes.set_axisbelow(True)
    axes.step(shown["trial"], best, where="post", color="#D55E00", label="best so far")
    axes.set(xlabel="trial", ylabel=objective, title="objective by trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _objective_by_setting(axes: Axes, shown: pd.DataFrame, name: str, objective: str) -> None:
    """The objective of complete trials against one setting; the preset stands out."""
    preset = shown["reference"] == "yes"
    for rows, colour in ((shown[~preset], NO_GROUP), (shown[preset], _PRESET)):
        axes.scatter(rows[name], rows["value"], s=18, color=colour)
    axes.set_axisbelow(True)
    values = pd.to_numeric(shown[name], errors="coerce")
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(log_ticks(axes.get_xlim()))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    elif values.notna().any():
        whole = bool((values.dropna() % 1 == 0).all())
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, min_n_ticks=1))
    else:  # words
        axes.tick_params(axis="x", labelrotation=20)
    axes.set(xlabel=name, ylabel=objective)
