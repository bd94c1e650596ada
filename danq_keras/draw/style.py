"""One style for all plots: colours, lines, sizes, and small PNG and SVG files."""

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator
from PIL import Image

# Okabe & Ito's palette: told apart with any colour vision
GROUP_COLOURS = {"DNase": "#0072B2", "TF": "#D55E00", "histone": "#009E73"}


_OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#8A6FB0", "#7F7F7F")


NO_GROUP = "#3B82C4"


LINE_COLOURS = (*GROUP_COLOURS.values(), *_OTHER_COLOURS)


# Of pictures in files of their own, on a white ground
FILE_INK, FILE_SOFT = "#222222", "#8A8A8A"
FILE_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": FILE_INK,
    "axes.labelcolor": FILE_INK,
    "xtick.color": FILE_INK,
    "ytick.color": FILE_INK,
}


# Stand-ins that `svg_text` replaces by what the page's style sheet says
INK, _RULE = "#010203", "#040506"


_THEMED = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": _RULE,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": _RULE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.facecolor": "none",
}


STYLE = {
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


LIGHT_GRID = "#DDDDDD"


_PANEL_INCHES = (4.4, 3.3)


def group_colours(groups: Iterable[str]) -> dict[str, str]:
    """A colour for each group, in order of appearance."""
    names = list(dict.fromkeys(groups))
    others = [name for name in names if name and name not in GROUP_COLOURS]
    colours = {name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: GROUP_COLOURS.get(name) or colours.get(name, NO_GROUP) for name in names}


def plain(text: str) -> str:
    """Names may hold dollar signs, which matplotlib takes for formulae."""
    return text.replace("$", r"\$")


def short_label(text: str, most: int = 40) -> str:
    """A name as a label of at most so many letters: of a longer one, its beginning and its end."""
    line = " ".join(text.split())
    if len(line) > most:
        end = (most - 1) // 3
        line = f"{line[: most - 1 - end]}…{line[-end:]}"
    return plain(line)


def log_ticks(limits: tuple[float, float]) -> Locator:
    """Ticks of a logarithmic axis that have room for their numbers, and are two or more."""
    decades = math.log10(limits[1] / limits[0])
    if decades < 1:
        return MaxNLocator(4, integer=True)
    return LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,))


def svg_text(draw: Callable[[Axes], None]) -> str:
    """An inline SVG element of one panel; colours of text and rules come from the page."""
    with mpl.rc_context({**STYLE, **_THEMED}):
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
    return svg.replace(INK, "currentColor").replace(_RULE, "var(--rule)")


def save_png(figure: Figure, path: Path, *, dpi: int) -> None:
    """Save a figure with a palette of 256 colours: a third of the bytes, and no visible change.

    Args:
        figure: on a white ground, in few colours: no heat map.
        path: PNG file to write, in place of an earlier one.
        dpi: dots an inch of the picture.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, format="PNG", optimize=True)
