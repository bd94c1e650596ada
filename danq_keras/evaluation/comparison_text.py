"""Comparisons as Markdown, and as the files `comparison.md`, `comparison.tsv`, `comparison.png`.

`comparison.tsv` is long: a row per target and pair of tables (`table`, `reference`), with every
shared target, those that do not count too (`counted` says which).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from danq_keras.draw.panels import scatter_axes
from danq_keras.draw.style import LIGHT_GRID, STYLE, short_label
from danq_keras.evaluation.comparison import (
    ALL,
    Comparison,
    most_changed,
    relative_gains,
    summarise_comparison,
)
from danq_keras.evaluation.resamples import FIGURE_LABELS
from danq_keras.system.files import atomic_output, refuse_existing
from danq_keras.system.tables import write_tsv

FILES = ("comparison.md", "comparison.tsv", "comparison.png")
_TEST_NOTE = (
    "Two-sided Wilcoxon signed-rank test on units, not on targets: the targets of one assay (for "
    "DNase, of one cell type) are averaged first, since they do not vary independently."
)


def write_comparison(
    comparisons: Sequence[Comparison], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the three files; the folder may hold other things.

    Raises:
        InputError: one of the files exists and may not be overwritten.
    """
    paths = [folder / name for name in FILES]
    for path in paths:
        refuse_existing(path, overwrite=overwrite)
    with atomic_output(paths[0], overwrite=overwrite) as temporary:
        temporary.write_text(markdown(comparisons), encoding="utf-8")
    with atomic_output(paths[1], overwrite=overwrite) as temporary:
        write_tsv(temporary, long_table(comparisons))
    with atomic_output(paths[2], overwrite=overwrite) as temporary:
        scatter_png(temporary, comparisons)
    return paths


def long_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """All comparisons below one another, with the labels of their tables."""
    frames = []
    for comparison in comparisons:
        rows = comparison.rows.copy()
        rows.insert(0, "table", comparison.ours)
        rows.insert(1, "reference", comparison.reference)
        rows["counted"] = np.where(rows["counted"], "yes", "no")
        for column in ("positives", "reference_positives"):
            rows[column] = rows[column].astype("Int64")
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """All comparisons, one section each."""
    return "\n".join(_section(comparison) for comparison in comparisons)


def _section(comparison: Comparison) -> str:
    summary = summarise_comparison(comparison)
    ours, theirs = escape(comparison.ours), escape(comparison.reference)
    n = len(comparison.counted_rows)
    parts = [f"## {ours} against {theirs}", _denominator(comparison, n)]
    if n:
        parts += [_headline(comparison, summary), _means_table(comparison, summary)]
        parts += _intervals(comparison)
        parts += [f"{_pr_note(comparison)}", _test_table(summary), _TEST_NOTE]
        for figure, column in comparison.figures.items():
            parts.append(f"Largest gains and losses in {figure}:")
            parts.append(_changes_table(comparison, column))
    return "\n\n".join(parts) + "\n"


def _intervals(comparison: Comparison) -> list[str]:
    """The differences of the means with their intervals, or why there are none."""
    if comparison.means is None:
        return []
    if not comparison.means:
        return [
            "No interval of the difference: the two were not tested on the same resamples of the "
            "same windows. Evaluate both with the same number of resamples on one dataset."
        ]
    rows = [
        [
            FIGURE_LABELS[each.figure],
            *(f"{value:.4f}" for value in (each.ours, each.reference)),
            f"{each.difference:+.4f}",
            f"{each.low:+.4f} to {each.high:+.4f}",
        ]
        for each in comparison.means
    ]
    header = ["mean of", comparison.ours, comparison.reference, "difference", "95 % interval"]
    return [
        "Differences of the means, with intervals from resamples that are the same for both "
        f"tables and for every target ({comparison.drawn}):",
        markdown_table(header, rows),
    ]


def _denominator(comparison: Comparison, n: int) -> str:
    text = f"{n} targets are compared."
    if comparison.left_out:
        reasons = "; ".join(
            f"{count} {escape(reason)}" for reason, count in comparison.left_out.items()
        )
        text += f" Left out: {reasons}."
    return " ".join([text, *comparison.notes])


def _headline(comparison: Comparison, summary: pd.DataFrame) -> str:
    overall = summary[summary["group"] == ALL]
    wins = ", ".join(
        f"{row.figure} {share(row.higher, row.n)}" for row in overall.itertuples(index=False)
    )
    gains = relative_gains(comparison)
    return (
        f"Targets where {escape(comparison.ours)} is higher: {wins}; PR AUC by over half: {gains}."
    )


def _pr_note(comparison: Comparison) -> str:
    if comparison.pr_column == "auprc":
        return "PR AUC is average precision."
    note = (
        "PR AUC is the area under the linearly interpolated precision-recall curve, the published "
        "kind."
    )
    rows = comparison.counted_rows
    for label, column in (
        (comparison.ours, "auprc"),
        (comparison.reference, "reference_auprc"),
    ):
        values = rows[column].dropna()
        if len(values):
            note += (
                f" Average precision of {escape(label)}: mean {values.mean():.4f}, median "
                f"{values.median():.4f} over {len(values)} targets."
            )
    return note


def _means_table(comparison: Comparison, summary: pd.DataFrame) -> str:
    ours, theirs = comparison.ours, comparison.reference
    header = ["group", "figure", f"mean {ours}", f"mean {theirs}"]
    header += [f"median {ours}", f"median {theirs}", "higher", "equal"]
    rows = [
        [
            row.group,
            row.figure,
            *(f"{value:.4f}" for value in (row.ours_mean, row.reference_mean)),
            *(f"{value:.4f}" for value in (row.ours_median, row.reference_median)),
            share(row.higher, row.n),
            str(row.equal),
        ]
        for row in summary.itertuples(index=False)
    ]
    return markdown_table(header, rows)


def _test_table(summary: pd.DataFrame) -> str:
    rows = [
        [
            row.group,
            row.figure,
            str(row.n),
            str(row.units),
            f"{row.median_difference:+.4f}",
            "no difference" if np.isnan(row.p) else f"{row.p:.2g}",
        ]
        for row in summary.itertuples(index=False)
    ]
    header = ["group", "figure", "targets", "units (n)", "median difference of units", "p"]
    return markdown_table(header, rows)


def _changes_table(comparison: Comparison, column: str) -> str:
    rows = [
        [
            str(row["target"]),
            row["name"],
            "" if np.isnan(row["positives"]) else f"{row['positives']:.0f}",
            f"{row[column]:.4f}",
            f"{row[f'reference_{column}']:.4f}",
            f"{row[f'{column}_difference']:+.4f}",
        ]
        for row in most_changed(comparison, column).to_dict("records")
    ]
    if not rows:
        return "None: the two tables agree everywhere."
    header = ["target", "name", "positives", comparison.ours, comparison.reference, "difference"]
    return markdown_table(header, rows)


def share(part: int, whole: int) -> str:
    """A count with its denominator: "864 of 918 (94.1 %)"."""
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "0 of 0"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\|*`\[\]<>&])", r"\\\1", " ".join(text.split()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table with padded columns, so that it reads well on a terminal too.

    The first two columns, which hold texts, stand left, the others right.
    """
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    lines = [
        "| " + " | ".join(_pad(cell, widths[i], i) for i, cell in enumerate(row)) + " |"
        for row in cells
    ]
    ends = ["-" * (width + 1) + ("-" if i < 2 else ":") for i, width in enumerate(widths)]
    return "\n".join([lines[0], "|" + "|".join(ends) + "|", *lines[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)


def scatter_png(path: Path, comparisons: Sequence[Comparison]) -> None:
    """The paper's scatter plot: ours against theirs, ROC AUC and PR AUC side by side.

    One row of panels for each comparison.
    """
    with mpl.rc_context({**STYLE, "grid.color": LIGHT_GRID}):
        figure = Figure(figsize=(9, 4.4 * len(comparisons)), layout="constrained")
        grid = figure.subplots(len(comparisons), 2, squeeze=False)
        for axes_pair, comparison in zip(np.asarray(grid), comparisons, strict=True):
            rows = comparison.counted_rows
            for axes, (name, column) in zip(axes_pair, comparison.figures.items(), strict=True):
                scatter_axes(axes, rows, f"reference_{column}", column)
                wins = int((rows[column] > rows[f"reference_{column}"]).sum())
                axes.set(
                    xlabel=f"{short_label(comparison.reference)}, {name}",
                    ylabel=f"{short_label(comparison.ours)}, {name}",
                    title=f"{name}: higher in {wins} of {len(rows)} targets",
                )
        figure.savefig(path, format="png", dpi=150)
