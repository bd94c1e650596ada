"""Plots: panels for the report, as SVG that follows its light or dark theme, and PNG files.

Figures are made without pyplot, so nothing global is left behind. Groups of targets keep one
colour everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)

from danq_keras.draw.style import INK, NO_GROUP, group_colours, log_ticks, short_label, svg_text

_GROUP_LETTERS = 28  # of a group's name, beside a plot
_MOST_BOXES = 14  # rows in a panel of usual height
_MOST_IN_LEGEND = 6


def learning_curves(
    history: pd.DataFrame,
    columns: dict[str, str],
    *,
    ylabel: str,
    level: tuple[str, float] | None = None,
) -> str:
    """Lines over epochs as SVG.

    Args:
        history: a row per epoch with `epoch` and the columns asked for.
        columns: column of the history → its label in the legend.
        ylabel: what the values are.
        level: name and value of a thin line across, to compare with; None for none.
    """

    def draw(axes: Axes) -> None:
        colours = ("#0072B2", "#D55E00")
        for (column, name), colour in zip(columns.items(), colours, strict=False):
            axes.plot(
                history["epoch"], history[column], "-o", color=colour, label=name, markersize=3
            )
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if level is not None:
            _level(axes, *level)
        if len(columns) > 1 or level is not None:
            axes.legend()

    return svg_text(draw)


def _level(axes: Axes, name: str, value: float) -> None:
    text = f"{name} {value:.4f}"
    axes.axhline(value, color="#009E73", linewidth=0.9, linestyle="--", label=text)


def curves_of_runs(
    histories: Sequence[pd.DataFrame],
    column: str,
    *,
    ylabel: str,
    level: tuple[str, float] | None = None,
) -> str:
    """A thin line for each run and their mean, over the epochs that all runs have, as SVG.

    Args:
        histories: of R runs, a row per epoch with `epoch` and the column.
        column: column of the histories that is drawn.
        ylabel: what the values are.
        level: name and value of a thin line across, to compare with; None for none.
    """

    def draw(axes: Axes) -> None:
        for number, history in enumerate(histories):
            text = f"runs ({len(histories)})" if number == 0 else None
            axes.plot(
                history["epoch"], history[column], color="#0072B2", alpha=0.45, lw=0.8, label=text
            )
        shared = min(map(len, histories))
        mean = np.mean([history[column].to_numpy(float)[:shared] for history in histories], axis=0)
        axes.plot(histories[0]["epoch"][:shared], mean, color="#D55E00", lw=1.8, label="mean")
        if level is not None:
            _level(axes, *level)
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend()

    return svg_text(draw)


def scatter(table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str) -> str:
    """One point per target, coloured by group, with the diagonal, as SVG."""

    def draw(axes: Axes) -> None:
        scatter_axes(axes, table, x, y)
        axes.set(xlabel=short_label(xlabel), ylabel=short_label(ylabel))

    return svg_text(draw)


def by_positives(table: pd.DataFrame, column: str, *, ylabel: str) -> str:
    """A figure against the number of positives (logarithmic) as SVG."""

    def draw(axes: Axes) -> None:
        _points(axes, table, "positives", column)
        axes.set(xlabel="positives in the split", ylabel=ylabel, xscale="log")
        axes.xaxis.set_major_locator(log_ticks(axes.get_xlim()))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())

    return svg_text(draw)


def by_group(table: pd.DataFrame, column: str, *, xlabel: str) -> str:
    """Distribution of a figure in each group (box, median, every target outside it) as SVG."""

    def draw(axes: Axes) -> None:
        colours = group_colours(table["group"])
        present = {
            group: table.loc[(table["group"] == group) & table[column].notna(), column]
            for group in reversed(colours)
        }
        names = [group for group, values in present.items() if len(values)]
        if len(names) > _MOST_BOXES:  # a row keeps its height
            assert isinstance(axes.figure, Figure)
            axes.figure.set_figheight(axes.figure.get_figheight() * len(names) / _MOST_BOXES)
        boxes = axes.boxplot(
            [present[name] for name in names],
            orientation="horizontal",
            tick_labels=[_label(name, len(present[name])) for name in names],
            patch_artist=True,
            widths=0.6,
            flierprops={"marker": ".", "markersize": 4, "markeredgecolor": INK},
            medianprops={"color": INK, "linewidth": 1.5},
            whiskerprops={"color": INK},
            capprops={"color": INK},
            boxprops={"color": INK},
        )
        for patch, name in zip(boxes["boxes"], names, strict=True):
            patch.set(facecolor=colours[name], alpha=0.7)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(xlabel)

    return svg_text(draw)


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Share of positives against predicted probability, with the number of labels, as SVG.

    Args:
        bins: `low`, `high`, `labels`, `mean_probability` and `positive_share` of each bin that
            holds labels.
    """

    def draw(axes: Axes) -> None:
        # Linear below 0.001, where a share of 0 has its place; logarithmic above.
        scale: dict[str, Any] = {"linthresh": 1e-3, "linscale": 0.5}
        counts = axes.twinx()
        for each in bins:
            width = each["high"] - each["low"]
            counts.bar(each["low"], each["labels"], width, align="edge", color=NO_GROUP, alpha=0.2)
        counts.set(yscale="log", ylabel="labels (bars)")
        counts.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        counts.yaxis.set_minor_locator(NullLocator())
        counts.grid(visible=False)
        axes.set_zorder(counts.get_zorder() + 1)
        axes.plot([0, 1], [0, 1], "--", color=mpl.rcParams["axes.labelcolor"], linewidth=0.8)
        x, y = ([each[name] for each in bins] for name in ("mean_probability", "positive_share"))
        axes.plot(x, y, "-o", color="#D55E00", markersize=4)
        axes.set_xscale("symlog", **scale)
        axes.set_yscale("symlog", **scale)
        axes.set(xlim=(0, 1), ylim=(0, 1.05))
        axes.set(xlabel="predicted probability", ylabel="share of positives")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([0, 1e-3, 1e-2, 1e-1, 1]))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))

    return svg_text(draw)


def _label(group: str, n: int) -> str:
    return f"{short_label(group, _GROUP_LETTERS) or 'no group'} ({n})"


def _points(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """Points coloured by group, small groups on top, and a legend where groups are known."""
    shown = table[table[x].notna() & table[y].notna()]
    colours = group_colours(table["group"])
    sizes = shown["group"].value_counts()
    for order, (group, n) in enumerate(sizes.items()):
        members = shown[shown["group"] == group]
        axes.scatter(
            members[x],
            members[y],
            s=9 if len(shown) > 200 else 20,
            color=colours[group],
            alpha=0.6,
            linewidths=0,
            label=_label(group, n),
            zorder=2 + order,
        )
    if len(sizes) and (len(sizes) > 1 or sizes.index[0]):
        handles, labels = axes.get_legend_handles_labels()
        if len(sizes) > _MOST_IN_LEGEND:
            handles = [*handles[: _MOST_IN_LEGEND - 1], Line2D([], [], linestyle="")]
            labels = [
                *labels[: _MOST_IN_LEGEND - 1],
                f"{len(sizes) - len(handles) + 1} more groups",
            ]
        axes.legend(handles, labels, fontsize=8, markerscale=1.6, handletextpad=0.2)


def scatter_axes(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """Points with the diagonal, both axes with the same limits."""
    _points(axes, table, x, y)
    values = table[[x, y]].dropna().to_numpy(float)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    margin = 0.03 * (high - low) or 0.01
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, "--", color=mpl.rcParams["axes.labelcolor"], linewidth=0.8, zorder=1)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
