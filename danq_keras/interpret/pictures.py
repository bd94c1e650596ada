"""Pictures of explanations: sequence logos over heat maps, and responses over distances. PNG.

Effects are blue (lower) to red (higher).
"""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from danq_keras.draw.logos import BASE_COLOURS, draw_letters
from danq_keras.draw.style import FILE_INK as _INK
from danq_keras.draw.style import FILE_SOFT as _SOFT
from danq_keras.draw.style import FILE_STYLE, LINE_COLOURS, save_png, short_label
from danq_keras.genome.dna import ALPHABET, UNKNOWN, Bytes, onehot_from_codes
from danq_keras.interpret.methods import METHODS, preferred, shown
from danq_keras.system.arrays import Floats

BASES = "ACGT"
_ROWS = [ALPHABET.index(base) for base in BASES]
_BAND = "#FFF3D6"
_STYLE = {**FILE_STYLE, "axes.titlesize": 9, "axes.titlelocation": "left"}
_DPI = 150


@dataclass(frozen=True, eq=False)
class LocusPicture:
    """What is drawn of a locus for one target.

    `title` and `subtitle`; `start` the 0-based coordinate of the first of `codes` (W,) uint8;
    `values` (W, 4) float32, A,G,C,T, of each method under its name: of the preferred one all is
    shown, of the others a logo.
    """

    title: str
    subtitle: str
    start: int
    codes: Bytes
    values: Mapping[str, Floats]

    @property
    def main(self) -> str:
        """The method of which all is shown."""
        return preferred(self.values)

    def letters(self, name: str) -> Floats:
        """(W,): how high the letters of a method are."""
        return shown(name, self.values[name], self.codes)


def strongest_stretch(values: Floats, width: int) -> tuple[int, int]:
    """[begin, end) of the `width` positions whose squared values (W,) have the largest sum.

    Squares, so that a short motif of high values counts for more than a long stretch of low ones.
    """
    if len(values) <= width:
        return 0, len(values)
    sums = np.convolve(np.square(values, dtype=np.float64), np.ones(width), "valid")
    begin = int(sums.argmax())
    return begin, begin + width


def half_height(spacings: Sequence[int], responses: Sequence[float]) -> tuple[int, int, int]:
    """Where a response is highest, and the stretch around it that is at least half-way up.

    A pooling layer and a smooth network tell nearby spacings apart but poorly: the stretch says
    more than the highest point.

    Args:
        spacings: distances in bases, in ascending order.
        responses: response at each of the distances.

    Returns:
        The spacing of the highest response, and the first and last of the stretch of spacings
        around it whose responses are at or above the mean of the highest and the lowest.
    """
    best = int(np.argmax(responses))
    below = np.flatnonzero(np.asarray(responses) < (max(responses) + min(responses)) / 2)
    first = int(below[below < best].max(initial=-1)) + 1
    last = int(below[below > best].min(initial=len(responses))) - 1
    return spacings[best], spacings[first], spacings[last]


def half_band(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Half the height of the 95 % bands of responses over their windows, a value a row."""
    error = rows["response_sd"].to_numpy(float) / np.sqrt(rows["windows"].to_numpy(float))
    half: npt.NDArray[np.float64] = 1.96 * error
    return half


def stands_out(rows: pd.DataFrame) -> bool:
    """Whether the highest of several responses is more than the play of the background windows.

    It is where its 95 % band lies wholly above the bands of the lower quarter of the responses:
    of chance alone, the highest of a hundred bands still overlaps with those.

    Args:
        rows: of one target, see `insertions.response_table`.
    """
    mean, half = rows["response"].to_numpy(float), half_band(rows)
    best = int(mean.argmax())
    return bool(mean[best] - half[best] > np.quantile(mean + half, 0.25))


def locus_png(path: Path, picture: LocusPicture, *, zoom: int) -> None:
    """A locus: the whole of it, the logo of its strongest stretch, the heat map of every base.

    Args:
        path: PNG file to write.
        picture: what is known of it.
        zoom: bases of the stretch whose logo is drawn.

    Raises:
        InputError: logomaker is not installed.
    """
    main = picture.letters(picture.main)
    begin, end = strongest_stretch(main, zoom)
    panels: list[tuple[str, float]] = [("logo", 2.0), ("map", 1.15)]
    if end - begin < len(main):
        panels.insert(0, ("whole", 0.9))
    others = [name for name in picture.values if name != picture.main]
    panels += [(name, 1.3) for name in others]
    heights = [height for _, height in panels]
    with mpl.rc_context(_STYLE):
        figure = Figure(
            figsize=(11, sum(heights) + 1.3),
            layout=ConstrainedLayoutEngine(hspace=0.05, wspace=0.01),
        )
        figure.suptitle(
            short_label(picture.title, 100), x=0.01, ha="left", fontsize=13, fontweight="bold"
        )
        grid = figure.add_gridspec(len(panels), 2, height_ratios=heights, width_ratios=[60, 1])
        drawn: dict[str, Axes] = {}
        for number, (name, _) in enumerate(panels):
            shared = drawn.get("logo") if name not in ("whole", "logo") else None
            drawn[name] = figure.add_subplot(grid[number, 0], sharex=shared)
        _draw(drawn, picture, main, (begin, end))
        bar = figure.add_subplot(grid[[n for n, _ in panels].index("map"), 1])
        figure.colorbar(drawn["map"].collections[0], cax=bar).outline.set_visible(False)
        bar.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
        figure.savefig(path, format="png", dpi=_DPI)


def _draw(
    drawn: dict[str, Axes], picture: LocusPicture, main: Floats, stretch: tuple[int, int]
) -> None:
    here = slice(*stretch)
    first = picture.start + stretch[0] + 1  # coordinates are shown 1-based
    codes = picture.codes[here]
    if "whole" in drawn:
        _whole(drawn["whole"], main, picture.start + 1, stretch)
    drawn["whole" if "whole" in drawn else "logo"].set_title(picture.subtitle, color=_SOFT)
    _logo(drawn["logo"], main[here], codes, first)
    drawn["logo"].set_ylabel(METHODS[picture.main].label)
    _heat_map(drawn["map"], picture.values[picture.main][here], codes, first)
    drawn["map"].set_ylabel("change to" if picture.main == "effects" else "base", labelpad=12)
    last = drawn["map"]
    for name in METHODS:
        if name in drawn:
            last = drawn[name]
            _logo(last, picture.letters(name)[here], codes, first)
            last.set_ylabel(METHODS[name].label)
    for name, axes in drawn.items():
        if name != "whole":
            axes.tick_params(labelbottom=axes is last)
    last.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    last.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    last.set_xlim(first - 0.5, first + len(codes) - 0.5)


def _whole(axes: Axes, values: Floats, first: int, stretch: tuple[int, int]) -> None:
    """All contributions as bars, and which stretch the other panels show."""
    x = np.arange(first, first + len(values))
    axes.axvspan(first + stretch[0] - 0.5, first + stretch[1] - 0.5, color=_BAND, lw=0, zorder=0)
    axes.vlines(x, 0, values, color=_INK, lw=0.7)
    axes.axhline(0, color=_SOFT, lw=0.5)
    axes.set_xlim(first - 1, first + len(values))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel("whole\nwindow")


def _logo(axes: Axes, values: Floats, codes: Bytes, first: int) -> None:
    """Letters as high as the values (W,); unknown bases have none."""
    heights = values[:, None] * onehot_from_codes(codes)
    draw_letters(axes, heights, first=first, flip_below=False, shade_below=0.25, vpad=0.02)
    axes.axhline(0, color=_INK, lw=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.spines["bottom"].set_visible(False)


def _heat_map(axes: Axes, values: Floats, codes: Bytes, first: int) -> None:
    """A row a base; a dot marks the base that is there."""
    shown = values[:, _ROWS].T
    limit = float(np.abs(shown).max()) or 1.0
    x = np.arange(first, first + len(codes) + 1) - 0.5
    axes.pcolormesh(
        x, np.arange(len(BASES) + 1) - 0.5, shown, cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    known = np.flatnonzero(codes < UNKNOWN)
    rows = [BASES.index(ALPHABET[code]) for code in codes[known]]
    axes.scatter(first + known, rows, s=5, color=_INK, linewidths=0)
    axes.set_yticks(range(len(BASES)), list(BASES))
    for label, base in zip(axes.get_yticklabels(), BASES, strict=True):
        label.set(color=BASE_COLOURS[base], fontweight="bold")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def spacing_png(path: Path, table: pd.DataFrame, *, inserts: Sequence[str], windows: int) -> None:
    """Response over distance or place, a panel for each target, 95 % bands over windows.

    Shaded is the stretch around the highest response, see `half_height`, where it stands out.

    Args:
        path: PNG file to write.
        table: responses, see `insertions.response_table`.
        inserts: names of the motifs.
        windows: how many backgrounds there were.
    """
    targets = list(dict.fromkeys(table["target"]))
    with mpl.rc_context(_STYLE):
        names = " and ".join(short_label(each, 24) for each in inserts)
        figure = Figure(figsize=(9, 0.7 + 2.7 * len(targets)), layout="constrained")
        figure.suptitle(
            f"{names} put into {windows:,} background windows",
            x=0.01,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
        panels = np.asarray(figure.subplots(len(targets), 1, squeeze=False, sharex=True))[:, 0]
        for axes, target in zip(panels, targets, strict=True):
            _response(axes, table[table["target"] == target])
            axes.set_title(short_label(target, 100))
            axes.set_ylabel("response (logit)")
        panels[0].legend(frameon=False, fontsize=8, loc="upper right")
        pair = len(inserts) == 2
        panels[-1].set_xlabel(
            "bases between the motifs" if pair else "middle of the motif, from that of the window"
        )
        save_png(figure, path, dpi=_DPI)


def _response(axes: Axes, rows: pd.DataFrame) -> None:
    x, mean = rows["spacing"].to_numpy(), rows["response"].to_numpy()
    half = half_band(rows)
    if "first" in rows:
        axes.plot(
            x, rows["first"] + rows["second"], "--", color=_SOFT, lw=1.2, label="sum of each alone"
        )
    axes.fill_between(x, mean - half, mean + half, color="#0072B2", alpha=0.2, lw=0)
    what = "both" if "first" in rows else "response"
    axes.plot(x, mean, color="#0072B2", lw=1.6, label=what)
    if stands_out(rows):
        best, first, last = half_height(x.tolist(), mean.tolist())
        axes.axvspan(first, last, color=_BAND, lw=0, zorder=0)
        axes.annotate(
            f"{best} ({first} to {last})",
            (best, mean.max()),
            (0, 6),
            textcoords="offset points",
            ha="center",
            color="#D55E00",
            fontweight="bold",
        )
        axes.plot(best, mean.max(), "o", color="#D55E00", ms=5)
    elif len(x) > 1:
        axes.annotate(
            "no spacing stands out of the bands",
            (0.01, 0.97),
            xycoords="axes fraction",
            va="top",
            color=_SOFT,
        )
    axes.axhline(0, color=_SOFT, lw=0.5)
    axes.margins(y=0.18)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))


MOST_ROWS, MOST_COLUMNS = 40, 60


def effects_png(path: Path, table: pd.DataFrame, *, rows: str, title: str) -> None:
    """Effects of motifs or sites on targets: points with intervals, or a heat map of many targets.

    Shown are the strongest `MOST_ROWS` rows and `MOST_COLUMNS` targets; filled points, and dots in
    a heat map, are those with a q-value of at most 0.05.

    Args:
        path: PNG file to write.
        table: of `experiments`: `target`, `effect`, `low`, `high`, `q_value` and the column `rows`.
        rows: what a row of the picture is, "motif" or "sites".
        title: what stands above.
    """
    names = _strongest(table, rows, MOST_ROWS)
    targets = _strongest(table, "target", MOST_COLUMNS)
    shown = table[table[rows].isin(names) & table["target"].isin(targets)]
    few = len(targets) <= 3
    with mpl.rc_context(_STYLE):
        width = max(5, 7.5 if few else 2.6 + 0.24 * len(targets))
        height = 1.5 + 0.26 * len(names) + (0 if few else 1)
        figure = Figure(figsize=(width, height), layout="constrained")
        lines = textwrap.fill(title, int(9 * width))
        figure.suptitle(lines, x=0.01, ha="left", fontsize=12, fontweight="bold")
        if few:
            panels = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
            for axes, target in zip(panels, targets, strict=True):
                _points(axes, shown[shown["target"] == target].set_index(rows).loc[names])
                axes.set_title(short_label(target, 30))
                axes.set_xlabel("effect (logit)")
            panels[0].set_yticks(range(len(names)), [short_label(name, 24) for name in names])
        else:
            _effect_map(figure, shown, rows, names, targets)
        save_png(figure, path, dpi=_DPI)


def _strongest(table: pd.DataFrame, column: str, most: int) -> list[str]:
    """Values of a column by their largest effect; where all fit, as they come."""
    names = list(dict.fromkeys(table[column]))
    if len(names) <= most:
        return names
    largest = table["effect"].abs().groupby(table[column]).max()
    return largest.sort_values(ascending=False, kind="stable").index[:most].tolist()


def _points(axes: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))
    sure = (rows["q_value"] <= 0.05).to_numpy()
    axes.hlines(y, rows["low"], rows["high"], color="#0072B2", lw=1.2)
    for marked, face in ((sure, "#0072B2"), (~sure, "white")):
        axes.plot(
            rows["effect"][marked], y[marked], "o", ms=5, mfc=face, mec="#0072B2", clip_on=False
        )
    axes.plot(rows["control"], y, "|", color=_SOFT, ms=7)
    if "control_sd" in rows:  # where 95 % of the controls lie
        half = 1.96 * rows["control_sd"]
        axes.hlines(
            y, rows["control"] - half, rows["control"] + half, color=_SOFT, lw=5, alpha=0.25
        )
    axes.axvline(0, color=_SOFT, lw=0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _effect_map(
    figure: Figure, shown: pd.DataFrame, rows: str, names: list[str], targets: list[str]
) -> None:
    axes = figure.subplots()
    effect, q_value = (
        shown.pivot(index=rows, columns="target", values=value).loc[names, targets].to_numpy()
        for value in ("effect", "q_value")
    )
    limit = float(np.nanmax(np.abs(effect))) or 1.0
    mesh = axes.pcolormesh(effect, cmap="RdBu_r", vmin=-limit, vmax=limit)
    at_row, at_column = np.nonzero(q_value <= 0.05)
    axes.scatter(at_column + 0.5, at_row + 0.5, s=4, color=_INK, linewidths=0)
    axes.set_yticks(np.arange(len(names)) + 0.5, [short_label(name, 24) for name in names])
    labels = [short_label(target, 24) for target in targets]
    axes.set_xticks(np.arange(len(targets)) + 0.5, labels, rotation=90)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    figure.colorbar(mesh, ax=axes, label="effect (logit)", shrink=0.6).outline.set_visible(False)


def design_png(path: Path, table: pd.DataFrame, *, targets: Sequence[str], title: str) -> None:
    """Logits of the targets over the rounds of a design.

    Args:
        path: PNG file to write.
        table: see `design.Design.path`.
        targets: its columns that are drawn.
        title: what stands above.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        lines = textwrap.fill(title, 80)
        figure.suptitle(lines, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots()
        for target, colour in zip(targets, itertools.cycle(LINE_COLOURS)):
            label = short_label(target, 40)
            axes.plot(table["round"], table[target], "-o", ms=3.5, color=colour, label=label)
        axes.axhline(0, color=_SOFT, lw=0.5)
        axes.set_xlabel("round (a single change each)")
        axes.set_ylabel("logit")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        save_png(figure, path, dpi=_DPI)
