"""Plots: panels for the report, as SVG that follows its light or dark theme, and PNG files.

Figures are made without pyplot, so nothing global is left behind. Groups of targets keep one
colour everywhere.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from PIL import Image

from danq_keras.evaluation.comparison import Comparison

# Okabe & Ito's palette: told apart with any colour vision
GROUP_COLOURS = {"DNase": "#0072B2", "TF": "#D55E00", "histone": "#009E73"}
_OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#8A6FB0", "#7F7F7F")
_NO_GROUP = "#3B82C4"
_LINE_COLOURS = (*GROUP_COLOURS.values(), *_OTHER_COLOURS)

# Stand-ins that `_svg` replaces by what the page's style sheet says
_INK, _RULE = "#010203", "#040506"
_THEMED = {
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _RULE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.facecolor": "none",
}
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "danq_keras",  # the same plot gives the same text
}
_LIGHT_GRID = "#DDDDDD"
_PANEL_INCHES = (4.4, 3.3)


def group_colours(groups: Iterable[str]) -> dict[str, str]:
    """A colour for each group, in order of appearance."""
    names = list(dict.fromkeys(groups))
    others = [name for name in names if name and name not in GROUP_COLOURS]
    colours = {name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: GROUP_COLOURS.get(name) or colours.get(name, _NO_GROUP) for name in names}


def learning_curves(history: pd.DataFrame, columns: dict[str, str], *, ylabel: str) -> str:
    """Lines over epochs as SVG.

    Args:
        history: a row per epoch with `epoch` and the columns asked for.
        columns: column → label.
        ylabel: what the values are.
    """

    def draw(axes: Axes) -> None:
        colours = ("#0072B2", "#D55E00")
        for (column, label), colour in zip(columns.items(), colours, strict=False):
            axes.plot(
                history["epoch"], history[column], "-o", color=colour, label=label, markersize=3
            )
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            axes.legend()

    return _svg(draw)


def curves_of_runs(histories: Sequence[pd.DataFrame], column: str, *, ylabel: str) -> str:
    """A thin line for each run and their mean, over the epochs that all runs have, as SVG.

    Args:
        histories: of R runs, a row per epoch with `epoch` and the column.
        column: what is drawn.
        ylabel: what the values are.
    """

    def draw(axes: Axes) -> None:
        for number, history in enumerate(histories):
            label = f"runs ({len(histories)})" if number == 0 else None
            axes.plot(
                history["epoch"], history[column], color="#0072B2", alpha=0.45, lw=0.8, label=label
            )
        shared = min(map(len, histories))
        mean = np.mean([history[column].to_numpy(float)[:shared] for history in histories], axis=0)
        axes.plot(histories[0]["epoch"][:shared], mean, color="#D55E00", lw=1.8, label="mean")
        axes.set(xlabel="epoch", ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return _svg(draw)


def scatter(table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str) -> str:
    """One point per target, coloured by group, with the diagonal, as SVG."""

    def draw(axes: Axes) -> None:
        _scatter(axes, table, x, y)
        axes.set(xlabel=xlabel, ylabel=ylabel)

    return _svg(draw)


def by_positives(table: pd.DataFrame, column: str, *, ylabel: str) -> str:
    """A figure against the number of positives (logarithmic) as SVG."""

    def draw(axes: Axes) -> None:
        _points(axes, table, "positives", column)
        axes.set(xlabel="positives in the split", ylabel=ylabel, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())

    return _svg(draw)


def by_group(table: pd.DataFrame, column: str, *, xlabel: str) -> str:
    """Distribution of a figure in each group (box, median, every target outside it) as SVG."""

    def draw(axes: Axes) -> None:
        colours = group_colours(table["group"])
        present = {
            group: table.loc[(table["group"] == group) & table[column].notna(), column]
            for group in reversed(colours)
        }
        names = [group for group, values in present.items() if len(values)]
        boxes = axes.boxplot(
            [present[name] for name in names],
            orientation="horizontal",
            tick_labels=[_label(name, len(present[name])) for name in names],
            patch_artist=True,
            widths=0.6,
            flierprops={"marker": ".", "markersize": 4, "markeredgecolor": _INK},
            medianprops={"color": _INK, "linewidth": 1.5},
            whiskerprops={"color": _INK},
            capprops={"color": _INK},
            boxprops={"color": _INK},
        )
        for patch, name in zip(boxes["boxes"], names, strict=True):
            patch.set(facecolor=colours[name], alpha=0.7)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(xlabel)

    return _svg(draw)


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
            counts.bar(each["low"], each["labels"], width, align="edge", color=_NO_GROUP, alpha=0.2)
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

    return _svg(draw)


def _label(group: str, n: int) -> str:
    return f"{plain(group) or 'no group'} ({n})"


def plain(text: str) -> str:
    """Names may hold dollar signs, which matplotlib takes for formulae."""
    return text.replace("$", r"\$")


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
        axes.legend(fontsize=8, markerscale=1.6, handletextpad=0.2)


def _scatter(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
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


def _svg(draw: Callable[[Axes], None]) -> str:
    """An inline SVG element of one panel; colours of text and rules come from the page."""
    with mpl.rc_context({**_STYLE, **_THEMED}):
        figure = Figure(figsize=_PANEL_INCHES, layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        no_metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=no_metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    # many panels share a page: identifiers must not be those of another panel
    panel = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\1p{panel}-", svg)
    return svg.replace(_INK, "currentColor").replace(_RULE, "var(--rule)")


def save_png(figure: Figure, path: Path, *, dpi: int) -> None:
    """Save a figure with a palette of 256 colours: a third of the bytes, and no visible change.

    Args:
        figure: on a white ground, in few colours: no heat map.
        path: PNG file.
        dpi: dots an inch.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, format="PNG", optimize=True)


def scatter_png(path: Path, comparisons: Sequence[Comparison]) -> None:
    """The paper's scatter plot: ours against theirs, ROC AUC and PR AUC side by side.

    One row of panels for each comparison.
    """
    with mpl.rc_context({**_STYLE, "grid.color": _LIGHT_GRID}):
        figure = Figure(figsize=(9, 4.4 * len(comparisons)), layout="constrained")
        grid = figure.subplots(len(comparisons), 2, squeeze=False)
        for axes_pair, comparison in zip(np.asarray(grid), comparisons, strict=True):
            rows = comparison.counted_rows
            for axes, (name, column) in zip(axes_pair, comparison.figures.items(), strict=True):
                _scatter(axes, rows, f"reference_{column}", column)
                wins = int((rows[column] > rows[f"reference_{column}"]).sum())
                axes.set(
                    xlabel=f"{plain(comparison.reference)}, {name}",
                    ylabel=f"{plain(comparison.ours)}, {name}",
                    title=f"{name}: higher in {wins} of {len(rows)} targets",
                )
        figure.savefig(path, format="png", dpi=150)


def step_sizes_png(path: Path, table: pd.DataFrame) -> None:
    """Root mean square of a step over the steps of training, a panel per group of weights.

    Args:
        path: PNG to write.
        table: rows with `rule`, `step`, `weights` and `step_rms`; a line is a rule.
    """
    groups, rules = table["weights"].unique(), table["rule"].unique()
    with mpl.rc_context({**_STYLE, "grid.color": _LIGHT_GRID}):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        panels = np.asarray(figure.subplots(2, -(-len(groups) // 2), sharex=True, sharey=True))
        for axes, group in zip(panels.flat, groups, strict=False):
            for rule, colour in zip(rules, _LINE_COLOURS, strict=False):
                line = table[(table["rule"] == rule) & (table["weights"] == group)]
                axes.loglog(
                    line["step"], line["step_rms"], "-o", color=colour, label=rule, markersize=3
                )
            axes.set_title(group)
        for axes in panels[-1]:
            axes.set_xlabel("step of training")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        for axes in panels[:, 0]:
            axes.set_ylabel("root mean square of a step")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(path, format="png", dpi=110)


def search_png(
    path: Path, table: pd.DataFrame, shares: Mapping[str, float], *, objective: str
) -> None:
    """A search at a glance: objective by trial, importances, objective against each setting.

    The preset has a colour of its own.

    Args:
        path: PNG file.
        table: of `study.trials_table`: a row per trial, its point in the columns after `reason`.
        shares: setting → its share in the spread of the objective; may be empty.
        objective: name of the objective.
    """
    names = list(table.columns[table.columns.get_loc("reason") + 1 :])
    shown = table[table["value"].notna()]
    n_rows = 1 + -(-len(names) // 4)
    with mpl.rc_context({**_STYLE, "grid.color": _LIGHT_GRID}):
        figure = Figure(figsize=(13, 3.2 * n_rows), layout="constrained")
        grid = figure.add_gridspec(n_rows, 4)
        _objective_by_trial(figure.add_subplot(grid[0, :2]), table, objective)
        axes = figure.add_subplot(grid[0, 2:])
        ranked = sorted(shares.items(), key=lambda item: item[1])
        axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=_NO_GROUP)
        axes.set_axisbelow(True)
        axes.set(title="importance (PED-ANOVA, complete trials)", xlabel="share")
        for number, name in enumerate(names):
            axes = figure.add_subplot(grid[1 + number // 4, number % 4])
            _objective_by_setting(axes, shown, name, objective)
        figure.savefig(path, format="png", dpi=120)


def _objective_by_trial(axes: Axes, table: pd.DataFrame, objective: str) -> None:
    """Complete trials, the best so far, and at which best value others were pruned."""
    shown = table[table["value"].notna()]
    pruned = table[table["state"] == "pruned"]
    best = shown["value"].astype(float)
    best = best.cummax() if objective == "val_auprc" else best.cummin()
    axes.scatter(shown["trial"], shown["value"], s=18, color=_NO_GROUP, label="complete")
    axes.scatter(
        pruned["trial"],
        pruned[objective],
        s=18,
        marker="x",
        color="#999999",
        label="pruned, best until then",
    )
    axes.set_axisbelow(True)
    axes.step(shown["trial"], best, where="post", color="#D55E00", label="best so far")
    axes.set(xlabel="trial", ylabel=objective, title="objective by trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _objective_by_setting(axes: Axes, shown: pd.DataFrame, name: str, objective: str) -> None:
    """The objective of complete trials against one setting; the preset stands out."""
    preset = shown["reference"] == "yes"
    for rows, colour, label in (
        (shown[~preset], _NO_GROUP, None),
        (shown[preset], "#D55E00", "preset"),
    ):
        axes.scatter(rows[name], rows["value"], s=18, color=colour, label=label)
    axes.set_axisbelow(True)
    values = pd.to_numeric(shown[name], errors="coerce")
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel=objective)
