"""Sequence logos: of one motif, and of kernels above the known motifs that they match. PNG.

Letters are drawn by logomaker, of the extra [logos]. Colours of bases are told apart with any
colour vision, and are the same in every picture of bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from danq_keras.draw.style import save_png, short_label
from danq_keras.genome.dna import ALPHABET
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import optional_module

# Okabe & Ito's palette, as near to the usual green, blue, orange, red as it has
BASE_COLOURS = {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00"}
_INK, _SOFT, _BAND = "#222222", "#767676", "#FFF3D6"
_LOGO_INCHES = (0.17, 0.95)  # a column's width, and the height
_SHEET_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.bottom": False,
    "axes.linewidth": 0.6,
    "ytick.major.width": 0.6,
    "ytick.major.size": 2,
    "ytick.labelsize": 7,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.labelsize": 8,
    "ytick.color": _SOFT,
}
_MOST_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """A motif and the known one that it matches, as a sheet shows them.

    `title` and `subtitle` stand above; `upper` with its label above `lower` with its. The first
    position of `upper` stands over position `offset` of `lower`; both are drawn as they are given.
    """

    title: str
    subtitle: str
    upper: Motif
    upper_label: str
    lower: Motif
    lower_label: str
    offset: int

    def begins(self) -> tuple[int, int]:
        """Where the two begin when the first of them begins at 0."""
        return max(0, self.offset), max(0, -self.offset)

    def span(self) -> int:
        """How many positions both together cover."""
        upper, lower = self.begins()
        return max(upper + self.upper.width, lower + self.lower.width)

    def overlap(self) -> tuple[int, int]:
        """[begin, end) of the positions that both have."""
        upper, lower = self.begins()
        return max(upper, lower), min(upper + self.upper.width, lower + self.lower.width)


@dataclass(frozen=True, eq=False)
class PatternRow:
    """A discovered pattern, as a sheet shows it.

    `contributions` (w, 4) of all of it, of which [begin, end) = `span` is `motif`; `known`, what it
    matches, turned as it lies, or None; the motif's first position stands over position `offset`
    of it.
    """

    title: str
    subtitle: str
    contributions: npt.NDArray[np.float64]
    span: tuple[int, int]
    motif: Motif
    known: Motif | None
    known_label: str
    offset: int


def draw_letters(
    axes: Axes, heights: npt.NDArray[np.floating[Any]], *, first: int = 0, **options: Any
) -> None:
    """Letters as high as `heights` (w, 4), A,G,C,T, from x = `first` on; without any, no letter.

    Args:
        axes: axes that the letters are drawn on.
        heights: (W, 4) height of each letter, A,C,G,T, negative below the axis.
        first: x of the first position.
        options: further arguments of `logomaker.Logo`.

    Raises:
        InputError: logomaker is not installed.
    """
    if not np.any(heights):  # logomaker makes an axis of no height
        return
    index = np.arange(first, first + len(heights))
    table = pd.DataFrame(heights, columns=list(ALPHABET), index=index)
    logomaker = optional_module("logomaker", "logos")
    logomaker.Logo(table, ax=axes, color_scheme=BASE_COLOURS, **options)


def _draw_motif(axes: Axes, motif: Motif, *, first: int = 0) -> None:
    """Letters as high as their share of the position's information, 0 to 2 bits."""
    heights = motif.matrix * motif.information()[:, None]
    draw_letters(axes, heights, first=first, show_spines=False)
    axes.set(ylim=(0, 2), yticks=(0, 1, 2), xticks=())
    axes.spines["left"].set_visible(True)


def logo_png(path: Path, motif: Motif) -> None:
    """The logo of a motif.

    Args:
        path: PNG file to write.
        motif: motif whose logo is drawn.

    Raises:
        InputError: logomaker is not installed.
    """
    width, height = _LOGO_INCHES
    figure = Figure(figsize=(width * max(8, motif.width) + 0.5, height), layout="constrained")
    axes = figure.add_subplot()
    _draw_motif(axes, motif)
    axes.set_ylabel("bits", fontsize=8)
    axes.tick_params(labelsize=7)
    save_png(figure, path, dpi=110)


def matches_png(path: Path, pairs: Sequence[AlignedPair]) -> None:
    """A sheet of motifs, each above the known one that it matches, aligned; the overlap is shaded.

    Args:
        path: PNG file to write.
        pairs: at least one, in reading order.

    Raises:
        InputError: logomaker is not installed.
    """
    n_columns = min(_MOST_COLUMNS, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    span = max(pair.span() for pair in pairs)  # letters are as wide in every pair
    with mpl.rc_context(_SHEET_STYLE):
        figure = Figure(figsize=(3.7 * n_columns, 1.75 * n_rows), layout="constrained")
        cells = figure.subfigures(n_rows, n_columns, squeeze=False, wspace=0.02, hspace=0.03)
        for cell, pair in zip(cells.flat, pairs, strict=False):
            upper, lower = cell.subplots(2, 1, sharex=True)
            begins = pair.begins()
            middle = (pair.span() - 1) / 2
            for axes, motif, begin in zip(
                (upper, lower), (pair.upper, pair.lower), begins, strict=True
            ):
                _draw_motif(axes, motif, first=begin)
                axes.axhline(0, color=_SOFT, lw=0.5)
                shaded = pair.overlap()
                axes.axvspan(shaded[0] - 0.5, shaded[1] - 0.5, color=_BAND, lw=0, zorder=-1)
                axes.set(xlim=(middle - span / 2, middle + span / 2), yticks=(0, 2))
            upper.set_ylabel(short_label(pair.upper_label, 16))
            lower.set_ylabel(short_label(pair.lower_label, 16))
            cell.align_ylabels()
            upper.set_title(short_label(pair.title, 24), loc="left", fontsize=10, fontweight="bold")
            upper.set_title(pair.subtitle, loc="right", fontsize=8, color=_SOFT)
        save_png(figure, path, dpi=100)


def patterns_png(path: Path, rows: Sequence[PatternRow]) -> None:
    """A sheet of discovered patterns: contributions, trimmed motif, known motif under it.

    Args:
        path: PNG file to write.
        rows: at least one pattern, from top to bottom.

    Raises:
        InputError: logomaker is not installed.
    """
    span = max(len(row.contributions) for row in rows)
    with mpl.rc_context(_SHEET_STYLE):
        figure = Figure(figsize=(11, 1.75 * len(rows)), layout="constrained")
        for cell, row in zip(
            figure.subfigures(len(rows), 1, squeeze=False, hspace=0.03)[:, 0], rows, strict=True
        ):
            grid = cell.add_gridspec(2, 2, width_ratios=[3, 2])
            left = cell.add_subplot(grid[:, 0])
            draw_letters(left, row.contributions, show_spines=False, flip_below=False)
            left.spines["left"].set_visible(True)
            left.axvspan(row.span[0] - 0.5, row.span[1] - 0.5, color=_BAND, lw=0, zorder=-1)
            left.axhline(0, color=_SOFT, lw=0.5)
            middle = (len(row.contributions) - 1) / 2
            left.set(xticks=(), xlim=(middle - span / 2, middle + span / 2), ylabel="logit")
            left.set_title(short_label(row.title, 40), loc="left", fontsize=10, fontweight="bold")
            left.set_title(row.subtitle, loc="right", fontsize=8, color=_SOFT)
            _draw_known(cell.add_subplot(grid[0, 1]), cell.add_subplot(grid[1, 1]), row)
        save_png(figure, path, dpi=100)


def _draw_known(upper: Axes, lower: Axes, row: PatternRow) -> None:
    """The trimmed motif above the known one, both from where the first of them begins."""
    first = max(0, row.offset), max(0, -row.offset)
    ends = [first[0] + row.motif.width, first[1] + (row.known.width if row.known else 0)]
    _draw_motif(upper, row.motif, first=first[0])
    upper.set_title(short_label(row.known_label, 44), loc="left", fontsize=9)
    if row.known is not None:
        _draw_motif(lower, row.known, first=first[1])
    else:
        lower.set_axis_off()
    for axes in (upper, lower):
        axes.set(xlim=(-0.5, max(*ends, 16) - 0.5), yticks=(0, 2))
