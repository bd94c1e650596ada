"""Motifs against known ones, by Tomtom's method.

In: motifs (w, 4) and a database of known ones. Out: for each query and known motif the best
alignment over both orientations, its p-value, and its E-value, p × number of known motifs.

A column of the query scores against one of a known motif Pearson's correlation, less its median
over all columns of the database (both orientations), scaled to whole numbers from 0 to 100 over the
whole query. Columns of the query outside an alignment count as that median (`neutral`). Under the
null model the other columns are drawn from the database's, independently: dynamic programming gives
the distribution of each alignment's score, and the p-value is the probability that the best of all
alignments in both orientations, taken as independent, scores as high.

Source: Gupta et al., Genome Biology 8:R24, 2007; Tanaka et al., Bioinformatics 27:1603, 2011 (with
scores of the whole query). As Tomtom 4.11 with `-no-ssc -min-overlap 5 -dist pearson`, the paper's
run: no pseudocounts (`-no-ssc` is about its logos); the least overlap restricts the alignments that
are tried, not those of the null model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.motifs.motif import Matrix, Motif

MIN_OVERLAP = 5  # Source: the paper's run of Tomtom
FEWEST_MOTIFS = 50
"""Of fewer known motifs the columns are a poor null model. Source: Tomtom warns below it."""
_HIGHEST = 100  # Source: Tomtom's number of bins
_TINY = 1e-9  # of correlations: below it nothing tells columns apart

Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """The best alignment of a query with a known motif.

    `target` is the known motif's number in its database. `offset` is where the query's first
    column stands in it, read in `orientation`: "+", or "-" for its reverse complement.
    """

    target: int
    offset: int
    overlap: int
    orientation: str
    p_value: float
    e_value: float


@dataclass(frozen=True, eq=False)
class _Alignments:
    """Alignments of a query of one width with M motifs in both orientations, A in all.

    (A,) each: query columns `first` … `last` - 1 meet database columns from `first + shift` on.
    `starts` (2M,): where each oriented motif's alignments begin.
    """

    offset: Integers
    first: Integers
    last: Integers
    shift: Integers
    starts: Integers


class MotifDatabase:
    """Known motifs in both orientations, side by side.

    `columns` (C, 4) are unit columns, see `unit_columns`; `widths` (2M,) those of each motif and
    its reverse complement in turn.

    Args:
        motifs: M of them, at least one.
    """

    def __init__(self, motifs: Sequence[Motif]) -> None:
        if not motifs:
            raise ValueError("A database holds at least one motif. Received none.")
        self.n_motifs = len(motifs)
        oriented = [part for m in motifs for part in (m.matrix, m.matrix[::-1, ::-1])]
        self.columns = unit_columns(np.concatenate(oriented))
        self.widths: Integers = np.array([len(part) for part in oriented])
        self._alignments: dict[int, _Alignments] = {}

    def alignments(self, width: int) -> _Alignments:
        """All alignments that are tried of a query of `width` columns."""
        if width not in self._alignments:
            least = np.minimum(MIN_OVERLAP, np.minimum(width, self.widths))
            counts = self.widths + width - 2 * least + 1
            starts = np.cumsum(counts) - counts
            offset = np.arange(counts.sum()) + np.repeat(least - width - starts, counts)
            begins = np.cumsum(self.widths) - self.widths
            self._alignments[width] = _Alignments(
                offset=offset,
                first=np.maximum(0, -offset),
                last=np.minimum(width, np.repeat(self.widths, counts) - offset),
                shift=np.repeat(begins, counts) + offset,
                starts=starts,
            )
        return self._alignments[width]


def unit_columns(matrix: Matrix) -> Matrix:
    """Frequencies (w, 4) less 1/4, scaled to length 1: their products are Pearson's correlations.

    A uniform row becomes zeros and correlates 0 with everything.
    """
    centred = matrix - 0.25
    lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit: Matrix = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > _TINY)
    return unit


def match_motif(query: Matrix, database: MotifDatabase) -> list[Match]:
    """The best alignment of a query with every known motif.

    Args:
        query: (w, 4) frequencies, columns A,G,C,T.
        database: the M known motifs, as `MotifDatabase` lays their columns out.

    Returns:
        M matches, in the database's order.
    """
    scores, neutral = _column_scores(query, database.columns)
    tried = database.alignments(len(query))
    overlap = tried.last - tried.first
    # DIFFERS: Tomtom rounds twice, which moves a score by up to 1, at times past the highest.
    outside = np.rint((len(query) - overlap) * neutral).astype(np.int64)
    total = _diagonal_sums(scores, tried) + outside
    best = _best_of_each(total, overlap, tried.starts)
    p_values = _p_values(total[best], scores, neutral, database.widths)
    reverse = p_values[1::2] < p_values[0::2]
    chosen = 2 * np.arange(database.n_motifs) + reverse
    return [
        Match(
            target=number // 2,
            offset=int(tried.offset[best[number]]),
            overlap=int(overlap[best[number]]),
            orientation="+-"[number % 2],
            p_value=float(p_values[number]),
            e_value=float(p_values[number]) * database.n_motifs,
        )
        for number in chosen.tolist()
    ]


def _column_scores(query: Matrix, columns: Matrix) -> tuple[Integers, float]:
    """Scores 0 … 100 (w, C) of each column of the query with each of the database, and `neutral`.

    Neutral is what the median correlation became.
    """
    raw = unit_columns(query) @ columns.T
    middle = raw.shape[1] // 2 - 1  # Source: Tomtom takes the lower of the two middle values
    raw -= np.partition(raw, middle, axis=1)[:, middle, None]
    low, high = float(raw.min()), float(raw.max())
    if high - low < _TINY:
        return np.zeros(raw.shape, np.int64), 0.0
    scale = _HIGHEST / (high - low)
    return np.rint((raw - low) * scale).astype(np.int64), -low * scale


def _diagonal_sums(scores: Integers, tried: _Alignments) -> Integers:
    """(A,) sums of the scores of each alignment's pairs of columns."""
    width, n_columns = scores.shape
    padded = np.pad(scores, ((0, 0), (width, width)))
    sums = np.zeros((width + 1, n_columns + width), np.int64)  # [k]: of the first k columns
    for column in range(width):
        sums[column + 1] = sums[column] + padded[column, column : column + n_columns + width]
    shift = tried.shift + width
    total: Integers = sums[tried.last, shift] - sums[tried.first, shift]
    return total


def _best_of_each(total: Integers, overlap: Integers, starts: Integers) -> Integers:
    """(2M,) place of each motif's best score; of equal ones the longest overlap, then the first."""
    motif = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(total)))
    order = np.lexsort((np.arange(len(total)), -overlap, -total, motif))
    best: Integers = order[starts]
    return best


def _p_values(
    total: Integers, scores: Integers, neutral: float, widths: Integers
) -> npt.NDArray[np.float64]:
    """(2M,) probability that the best of all alignments with a motif scores `total` or more.

    Args:
        total: (2M,) scores, query columns outside the alignment counted as `neutral`.
        scores: (w, C) of the query's columns with those of the null model.
        neutral: score of a column outside.
        widths: (2M,) of the motifs.
    """
    log_below = _log_below(scores, neutral)
    p_values = np.empty(len(widths))
    for width in np.unique(widths):
        offset = np.arange(1 - len(scores), width)[:, None]
        first, last = np.maximum(0, -offset), np.minimum(len(scores), width - offset)
        mine = widths == width
        both_orientations = 2 * log_below[first, last, total[mine]].sum(axis=0)
        p_values[mine] = -np.expm1(both_orientations)
    return p_values


def _log_below(scores: Integers, neutral: float) -> npt.NDArray[np.float64]:
    """Log P(the alignment of columns first … last - 1 scores less than s), [first, last, s].

    Sums run from the highest score down, so that small tails keep their digits.
    """
    width, n_columns = scores.shape
    shares = [np.bincount(row, minlength=_HIGHEST + 1) / n_columns for row in scores]
    n_scores = width * (_HIGHEST + math.ceil(neutral)) + 1
    below = np.zeros((width, width + 1, n_scores))  # 0 above what an alignment can score
    for first in range(width):
        share = np.ones(1)
        for last in range(first + 1, width + 1):
            share = np.convolve(share, shares[last - 1])
            lowest = int(np.rint((width - last + first) * neutral))
            tail = np.minimum(1, np.cumsum(share[::-1])[::-1])
            with np.errstate(divide="ignore"):  # log 0
                below[first, last, : lowest + 1] = -np.inf
                below[first, last, lowest : lowest + len(tail)] = np.log1p(-tail)
    return below
