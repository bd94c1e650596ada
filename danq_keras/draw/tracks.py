"""The picture of a region as genome browsers draw it: tracks, contributions, peaks, genes."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from danq_keras.draw.logos import draw_letters
from danq_keras.draw.style import FILE_INK as _INK
from danq_keras.draw.style import FILE_SOFT as _SOFT
from danq_keras.draw.style import FILE_STYLE, LINE_COLOURS, save_png, short_label
from danq_keras.genome.dna import Bytes, onehot_from_codes
from danq_keras.genome.genes import Gene, Spans, lanes
from danq_keras.system.arrays import Floats

_STYLE = {**FILE_STYLE, "font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "danq"}
_WIDTH = 11.0
_LETTERS = 200
_MOST_LANES = 12
_LABEL = 32


@dataclass(frozen=True, eq=False)
class Picture:
    """What is drawn of a region that begins, 0-based, at `start` and has the bases `codes` (W,).

    `tracks` label → (S,), a value for each `step` bases, NaN for none; `contributions` label →
    (W,), of which `method` names the kind; `peaks` label → spans; `genes` in order of their starts.
    """

    title: str
    start: int
    codes: Bytes
    step: int
    tracks: Mapping[str, Floats]
    contributions: Mapping[str, Floats]
    method: str
    peaks: Mapping[str, Spans]
    genes: Sequence[Gene]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.codes)


def draw_tracks(picture: Picture, png: Path, svg: Path) -> None:
    """Draw a region into two files.

    Up to 200 bases have their contributions as letters. Genes stand in at most 12 rows; how many
    find no place in them is written below.

    Args:
        picture: what is drawn.
        png: file to write.
        svg: file to write, its text as text.

    Raises:
        InputError: logomaker is not installed, for a region of at most 200 bases.
    """
    rows, left_out = _gene_rows(picture)
    n_lanes = max((lane for _, lane in rows), default=-1) + 1
    heights = [0.75] * len(picture.tracks) + [0.85] * len(picture.contributions)
    if picture.peaks:
        heights.append(0.12 + 0.2 * len(picture.peaks))
    if n_lanes:
        heights.append(0.1 + 0.36 * n_lanes)
    with mpl.rc_context(_STYLE):
        figure = Figure(
            figsize=(_WIDTH, sum(heights) + 0.8),
            layout=ConstrainedLayoutEngine(hspace=0.02, h_pad=0.03),
        )
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = list(
            figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[
                :, 0
            ]
        )
        left = iter(axes)
        colours = itertools.cycle(LINE_COLOURS)
        for label, values in picture.tracks.items():
            _draw_track(next(left), label, values, picture, next(colours))
        for label, values in picture.contributions.items():
            _draw_contributions(next(left), label, values, picture)
        if picture.peaks:
            _draw_peaks(next(left), picture)
        if n_lanes:
            _draw_genes(next(left), rows, picture)
        last = axes[-1]
        for each in axes[:-1]:
            each.tick_params(labelbottom=False)
        last.set_xlim(picture.start + 0.5, picture.end + 0.5)
        last.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        last.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if left_out:
            last.set_xlabel(f"{left_out} more genes find no place", color=_SOFT)
        save_png(figure, png, dpi=150)
        figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Creator", "Date")))


def _name(axes: Axes, text: str) -> None:
    """The label of a row, inside it at its upper left."""
    axes.text(
        0.004, 0.96, short_label(text, 60), transform=axes.transAxes, va="top", fontsize=8,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}, zorder=5,
    )  # fmt: skip


def _draw_track(axes: Axes, label: str, values: Floats, picture: Picture, colour: str) -> None:
    """Values as filled steps, from 0 to the highest of them."""
    starts = np.arange(picture.start, picture.end, picture.step)
    edges = np.r_[starts, picture.end] + 0.5  # shown 1-based: base 0 is from 0.5 to 1.5
    axes.stairs(np.nan_to_num(values), edges, fill=True, color=colour, lw=0)
    missing = np.isnan(values)
    for begin, end in zip(edges[:-1][missing], edges[1:][missing], strict=True):
        axes.axvspan(begin, end, color="#EEEEEE", lw=0)
    most = float(np.nanmax(values)) if not missing.all() else 0.0
    top = max(most, 0.01)
    axes.set_ylim(0, top * 1.3)
    axes.set_yticks([0, top], ["0", f"{top:.2g}"])
    _name(axes, label)


def _draw_contributions(axes: Axes, label: str, values: Floats, picture: Picture) -> None:
    """Letters where there is room for them, else bars."""
    known = np.nan_to_num(values)
    if len(known) <= _LETTERS:
        letters = onehot_from_codes(picture.codes) * known[:, None]
        draw_letters(axes, letters, first=picture.start + 1, shade_below=0, fade_below=0)
        axes.spines["bottom"].set_visible(True)
    else:
        axes.vlines(np.arange(picture.start + 1, picture.end + 1), 0, known, color=_INK, lw=0.5)
    axes.axhline(0, color=_SOFT, lw=0.5)
    low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.05 * room, high + 0.3 * room)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    _name(axes, f"{label}: {picture.method}")


def _draw_peaks(axes: Axes, picture: Picture) -> None:
    """A row of boxes a file, none narrower than a line that can be seen."""
    least = len(picture.codes) / 600
    for number, spans in enumerate(picture.peaks.values()):
        for start, end in spans:
            width = max(end - start, least)
            left = (start + end - width) / 2 + 0.5
            axes.add_patch(Rectangle((left, -number - 0.3), width, 0.6, color="#555555", lw=0))
    axes.set_ylim(-len(picture.peaks) + 0.4, 0.6)
    labels = [short_label(name, 24) for name in picture.peaks]
    axes.set_yticks([-number for number in range(len(labels))], labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _gene_rows(picture: Picture) -> tuple[list[tuple[Gene, int]], int]:
    """Genes with their lanes, and how many have none."""
    base = len(picture.codes) / (_WIDTH - 1.2)  # bases an inch
    spans = [
        (
            max(gene.start, picture.start),
            max(
                min(gene.end, picture.end),
                max(gene.start, picture.start) + int(base * 0.075 * len(_gene_label(gene))),
            ),
        )
        for gene in picture.genes
    ]
    rows = list(zip(picture.genes, lanes(spans, int(base * 0.06)), strict=True))
    placed = [(gene, lane) for gene, lane in rows if lane < _MOST_LANES]
    return placed, len(rows) - len(placed)


def _gene_label(gene: Gene) -> str:
    return short_label(gene.name, _LABEL)


def _draw_genes(axes: Axes, rows: Sequence[tuple[Gene, int]], picture: Picture) -> None:
    """A line a gene, thin boxes for exons, thick ones for what is coding, chevrons for its way."""
    size = len(picture.codes)
    for gene, lane in rows:
        start, end = max(gene.start, picture.start), min(gene.end, picture.end)
        axes.plot([start + 0.5, end + 0.5], [-lane, -lane], color=_INK, lw=0.7, zorder=1)
        for spans, height in ((gene.exons, 0.2), (gene.coding, 0.36)):
            for a, b in spans:
                axes.add_patch(
                    Rectangle((a + 0.5, -lane - height / 2), b - a, height, color="#31688E", lw=0)
                )
        if gene.strand in ("+", "-"):
            marks = np.arange(start + size * 0.008, end, size * 0.016)
            marker = ">" if gene.strand == "+" else "<"
            axes.plot(
                marks + 0.5, np.full(len(marks), -lane), marker, ms=2.2, color="white", zorder=3,
                markeredgecolor=_INK, markeredgewidth=0.3,
            )  # fmt: skip
        axes.text(
            start + 0.5, -lane + 0.24, _gene_label(gene), va="bottom", fontsize=7, style="italic",
            clip_on=True,
        )  # fmt: skip
    most = max(lane for _, lane in rows)
    axes.set_ylim(-most - 0.35, 0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
