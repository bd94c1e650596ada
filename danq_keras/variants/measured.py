"""Effects of variants held against measured ones, such as a saturation mutagenesis; light.

In: log-odds differences of alleles and a table of measured effects. Out: for each element (an
experiment, a region) and target Spearman's correlation of the two, with a 95 % interval, and a
picture of the strongest. Which target is the right one for an element has to be known beforehand:
the strongest of many is strong by chance too.

Source of the interval: Bonett & Wright, Psychometrika 65:23, 2000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from danq_keras.draw.style import save_png, short_label
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.tables import read_table, write_tsv
from danq_keras.system.terminal import log

CHROMS = ("contig", "chrom", "chromosome", "#chrom")
POSITIONS = ("pos", "position")
EFFECT_NAMES = ("effect", "log2_effect", "log2fc", "value")
ELEMENTS = ("experiment", "element", "region")
FEWEST_BARCODES = 10  # Source: Kircher et al. 2019 leave out changes with fewer
_FEWEST = 4
_PICTURED = 6


@dataclass(frozen=True, eq=False)
class Measured:
    """Predicted beside measured effects.

    `table` has a row an element and target: `variants`, `spearman`, `low`, `high`, strongest first
    within an element. `pairs` has a row a measurement that was predicted: its element and effect;
    `predicted` (n, T) the log-odds differences of the same.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    predicted: Doubles
    targets: tuple[str, ...]

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write the table as text, and beside it a picture under the same name ending in .png.

        Raises:
            InputError: one of the two exists.
        """
        path = Path(path)
        with atomic_output(path, overwrite=overwrite) as temporary:
            write_tsv(temporary, self.table)
        with atomic_output(path.with_suffix(".png"), overwrite=overwrite) as temporary:
            self.plot(temporary)

    def plot(self, path: PathLike) -> None:
        """Draw the elements of the highest correlations, six at most, each with its best target."""
        known = self.table.dropna(subset="spearman").drop_duplicates("element")
        rows = known.reindex(known["spearman"].abs().sort_values(ascending=False).index)
        rows = rows.head(_PICTURED).to_dict("records")
        columns = min(3, max(1, len(rows)))
        figure = Figure(figsize=(3.4 * columns, 3.2 * -(-max(1, len(rows)) // columns)))
        figure.set_layout_engine("constrained")
        panels = np.asarray(figure.subplots(-(-max(1, len(rows)) // columns), columns)).ravel()
        for axes, row in zip(panels, rows, strict=False):
            mine = (self.pairs["element"] == row["element"]).to_numpy()
            x = self.predicted[mine, self.targets.index(row["target"])]
            axes.scatter(x, self.pairs["effect"][mine], s=7, alpha=0.5, color="#0072B2", lw=0)
            title = f"{short_label(row['element'], 20)}, {short_label(row['target'], 24)}"
            axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
            text = f"ρ = {row['spearman']:.2f}\nn = {row['variants']:,}"
            axes.annotate(text, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel("predicted, log-odds difference", fontsize=8)
            axes.set_ylabel("measured effect", fontsize=8)
            axes.tick_params(labelsize=7)
        for axes in panels[len(rows) :]:
            axes.set_axis_off()
        save_png(figure, Path(path), dpi=110)


def compare_measured(
    alleles: pd.DataFrame,
    log_odds: Doubles,
    targets: Sequence[str],
    measured: PathLike | pd.DataFrame,
) -> Measured:
    """Hold predicted effects of alleles against measured ones.

    Args:
        alleles: (V rows) `chrom`, `pos` (1-based), `ref`, `alt` of what was predicted.
        log_odds: (V, T) log-odds differences, such as `VariantEffects.log_odds`.
        targets: T names.
        measured: a table, or its file: a chromosome (`contig` or `chrom`), `pos` or `position`,
            `ref`, `alt`, and `effect` (or `log2_effect`); if it has them, the measurements go by
            `experiment` (or `element`), else by chromosome, and rows with fewer than 10 `barcodes`
            are left out.

    Returns:
        Correlations of every element and target; what was not predicted is counted in a warning.

    Raises:
        InputError: a column is missing, an effect is no number, or nothing was predicted.

    Example:
        >>> found = dq.score_variants("human", "snvs.vcf.gz", "elements.fa")
        >>> compare_measured(found.alleles, found.log_odds, found.targets, "effects.tsv.gz").table
    """
    frame, where = _read(measured)
    position, effect = _require_columns(frame, where)
    place = {
        (str(c), int(p), str(r).upper(), str(a).upper()): i
        for i, (c, p, r, a) in enumerate(_keys(alleles))
    }
    chrom = _chrom_column(frame, {key[0] for key in place}, where)
    frame = _enough_barcodes(frame, where)
    values, positions = _numbers(frame, position, effect, where)
    element = next((name for name in ELEMENTS if name in frame), chrom)
    if frame[element].isna().any():
        raise InputError(f"{where}: {element!r} is missing in a row. Name the element of each.")
    pairs = pd.DataFrame({"element": frame[element].astype(str), "effect": values})
    keys = zip(
        frame[chrom].astype(str),
        positions,
        frame["ref"].astype(str).str.upper(),
        frame["alt"].astype(str).str.upper(),
        strict=True,
    )
    pairs["row"] = [place.get(key, -1) for key in keys]
    missing = int((pairs["row"] < 0).sum())
    if missing == len(pairs):
        raise InputError(
            f"{where}: none of its {len(pairs):,} rows is among the scored alleles, such as "
            f"{':'.join(map(str, next(iter(place), ('none',))))}. Is it of these variants?"
        )
    if missing:
        log.warning(
            "%s: %s of %s measured rows are not among the scored alleles and are left out.",
            where,
            f"{missing:,}",
            f"{len(pairs):,}",
        )
    pairs = pairs[pairs["row"] >= 0].reset_index(drop=True)
    predicted = np.asarray(log_odds, np.float64)[pairs["row"].to_numpy()]
    return Measured(
        _table(pairs, predicted, tuple(targets)),
        pairs.drop(columns="row"),
        predicted,
        tuple(targets),
    )


def _keys(alleles: pd.DataFrame) -> "zip[tuple[str, int, str, str]]":
    return zip(*(alleles[name] for name in ("chrom", "pos", "ref", "alt")), strict=True)


def _read(measured: PathLike | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if isinstance(measured, pd.DataFrame):
        return measured, "`measured`"
    path = Path(measured)
    return read_table(path, required=()), str(path)


def check_measured(path: Path) -> None:
    """Refuse a table that lacks a column, before long work.

    Raises:
        InputError: it does, or it is no table.
    """
    frame, where = _read(path)
    position, effect = _require_columns(frame, where)
    if frame.empty:
        raise InputError(f"{where}: no rows. Give a table of measured effects.")
    _numbers(_enough_barcodes(frame, where, tell=False), position, effect, where)


def _numbers(
    frame: pd.DataFrame, position: str, effect: str, where: str
) -> tuple["pd.Series[float]", "pd.Series[int]"]:
    """Effects and positions of the rows, as numbers."""
    values = pd.to_numeric(frame[effect], errors="coerce")
    places = pd.to_numeric(frame[position], errors="coerce")
    fine = {effect: np.isfinite(values), position: np.isfinite(places) & (places % 1 == 0)}
    for name, each in fine.items():
        if not each.all():
            wrong = frame[name][~each].iloc[0]
            kind = "whole numbers" if name == position else "finite numbers"
            raise InputError(f"{where}: {name!r} must be {kind}. Received: {wrong!r}. Correct it.")
    return values, places.astype(int)


def _require_columns(frame: pd.DataFrame, where: str) -> tuple[str, str]:
    """The names of the columns of positions and effects; all others must be there too."""
    for names in (CHROMS, ("ref",), ("alt",)):
        _column(frame, names, where)
    return _column(frame, POSITIONS, where), _column(frame, EFFECT_NAMES, where)


def _column(frame: pd.DataFrame, names: Sequence[str], where: str) -> str:
    found = [name for name in names if name in frame]
    if not found:
        raise InputError(
            f"{where}: needs a column {' or '.join(names)}. Received: "
            f"{shorten(list(map(str, frame.columns)), 8)}."
        )
    return found[0]


def _chrom_column(frame: pd.DataFrame, scored: set[str], where: str) -> str:
    """The column whose chromosomes are those of the scored alleles."""
    first = _column(frame, CHROMS, where)
    here = [name for name in CHROMS if name in frame and frame[name].astype(str).isin(scored).any()]
    return here[0] if here else first


def _enough_barcodes(frame: pd.DataFrame, where: str, *, tell: bool = True) -> pd.DataFrame:
    if "barcodes" not in frame:
        return frame
    enough = pd.to_numeric(frame["barcodes"], errors="coerce") >= FEWEST_BARCODES
    if tell and not enough.all():
        log.info(
            "%s: %s of %s rows with fewer than %d barcodes are left out.",
            where,
            f"{int((~enough).sum()):,}",
            f"{len(frame):,}",
            FEWEST_BARCODES,
        )
    return frame[enough]


def _table(pairs: pd.DataFrame, predicted: Doubles, targets: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for element, group in pairs.groupby("element", sort=False):
        here = predicted[group.index.to_numpy()]
        found = [_correlation(here[:, t], group["effect"].to_numpy()) for t in range(len(targets))]
        order = np.argsort([-abs(each[0]) if each[0] == each[0] else 1 for each in found])
        rows += [
            {
                "element": element,
                "target": targets[t],
                "variants": len(group),
                "spearman": found[t][0],
                "low": found[t][1],
                "high": found[t][2],
            }
            for t in order.tolist()
        ]
    return pd.DataFrame(rows)


def _correlation(predicted: Doubles, measured: Doubles) -> tuple[float, float, float]:
    """Spearman's, with the 95 % interval; NaN of fewer than four, or of equal values."""
    n = len(predicted)
    if n < _FEWEST or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return np.nan, np.nan, np.nan
    rho = float(stats.spearmanr(predicted, measured).statistic)
    middle = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    half = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, float(np.tanh(middle - half)), float(np.tanh(middle + half))
