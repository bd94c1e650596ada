"""Intervals of areas under curves and of their means, from resampled blocks of the genome.

Every target meets the same resamples, so that the mean over targets of a resample is a figure too,
and its interval pays for what targets have in common. Two networks that were tested on the same
windows meet the same resamples as well: their means are compared in pairs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.evaluation.metrics import Flags, Ints, Scores, check_pair, per_target
from danq_keras.system.arrays import Doubles

BLOCK_LENGTH = 100_000


FIGURES = ("auroc", "auprc", "mcc")
CONFIDENCE = 0.95
FEW_BLOCKS = 20  # below it the percentiles of resamples are coarse and too near to each other
THRESHOLD = 0.5  # of the Matthews correlation, as in `metrics.matthews`
_BOOTSTRAP_VALUES = 1 << 22


@dataclass(frozen=True, eq=False)
class Resamples:
    """Figures of T targets in each of R resamples.

    `figures` has for each of `FIGURES` (T, R) float64, NaN where a resample lacks positives or
    negatives of the target. `unit` says how many of what there are to draw. Equal `drawn` mean
    that resamples of the same number hold the same windows.
    """

    figures: Mapping[str, Doubles]
    unit: str
    drawn: str

    @property
    def n(self) -> int:
        """Number of resamples R."""
        return int(self.figures[FIGURES[0]].shape[1])

    def means(self, figure: str, counted: npt.NDArray[np.bool_]) -> Doubles:
        """(R,) means over those targets of `counted` (T,) that a resample has both labels of.

        NaN where it has none of them.
        """
        values = self.figures[figure][counted]
        known = ~np.isnan(values)
        n = known.sum(axis=0)
        means = np.full(values.shape[1], np.nan)
        np.divide(np.where(known, values, 0).sum(axis=0), n, out=means, where=n > 0)
        return means


@dataclass(frozen=True, eq=False)
class BootstrapIntervals:
    """Percentile intervals (T,) float64; `n_valid` (T,) int64 resamples had both labels.

    `resamples` has the figures that they come from.
    """

    auroc_low: Doubles
    auroc_high: Doubles
    auprc_low: Doubles
    auprc_high: Doubles
    n_valid: Ints
    resamples: Resamples | None = None


def percentile_interval(values: Doubles) -> tuple[float, float] | None:
    """The ends of the middle 95 % of the values (R,) that are known; None where none is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(known, (tail, 100 - tail))
    return float(low), float(high)


def genome_blocks(
    chrom: npt.NDArray[np.str_] | None,
    start: Ints | None,
    *,
    block: int = BLOCK_LENGTH,
) -> Ints | None:
    """Number the blocks of the genome in which windows start, for `bootstrap`.

    Args:
        chrom: (N,) chromosome names; None where unknown.
        start: (N,) 0-based window starts; None where unknown.
        block: block length in bases.

    Returns:
        (N,) int64 from 0, the same for windows of one block; None when coordinates are unknown.
    """
    if chrom is None or start is None:
        return None
    _, chromosome = np.unique(chrom, return_inverse=True)
    part = start // block
    width = int(part.max(initial=0)) + 1
    _, blocks = np.unique(chromosome.astype(np.int64) * width + part, return_inverse=True)
    numbers: Ints = blocks.astype(np.int64)
    return numbers


def bootstrap(
    labels: Flags,
    probs: Scores,
    *,
    blocks: Ints | None,
    n: int,
    seed: int,
    ignore: Flags | None = None,
    windows: str = "",
) -> BootstrapIntervals:
    """95 % percentile intervals of ROC AUC and average precision, and the resamples.

    Blocks of rows are drawn with replacement, as many as there are, the same draws for all
    targets. Neighbouring windows overlap, so single rows would give intervals that are too narrow.

    A drawn block counts as often as it was drawn: nothing is sorted again. For a target, the
    negatives between two successive scores of positives are counted by block, once; these counts
    times the draws of the blocks give the ROC and precision-recall points of every resample.

    Args:
        labels: (N, T) uint8 or bool.
        probs: (N, T) float32 or float64.
        blocks: (N,) block numbers from 0 (`genome_blocks`); None makes each row its own block.
        n: number of resamples of the blocks.
        seed: number from which the resamples are drawn.
        ignore: (N, T), not zero where an entry does not count.
        windows: what tells these windows from others, such as a split's fingerprint: only tests
            of the same windows are compared in pairs.

    Returns:
        Intervals over the resamples that hold a positive and a negative; NaN when none does.

    Raises:
        ValueError: the shapes differ, or `n` is below 1.
    """
    check_pair(labels, probs, ignore)
    if n < 1:
        raise ValueError(f"A bootstrap needs at least 1 resample. Received: {n}.")
    of_row = np.arange(len(probs)) if blocks is None else blocks
    if of_row.shape != probs.shape[:1]:
        raise ValueError(f"One block a row, {probs.shape[:1]}. Received: {of_row.shape}.")
    n_blocks = int(of_row.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    draws = np.zeros((n_blocks, n), np.int16)
    for resample in range(n if n_blocks else 0):
        drawn = rng.integers(n_blocks, size=n_blocks)
        draws[:, resample] = np.bincount(drawn, minlength=n_blocks)

    def one_target(y: npt.NDArray[np.bool_], p: Scores, keep: Any) -> tuple[Doubles, ...]:
        block = of_row[keep]
        return *_resample(y, p, block, draws), _correlations(y, p >= THRESHOLD, block, draws)

    results = per_target(one_target, labels, probs, ignore=ignore, desc="bootstrap")
    figures = np.array(results, np.float64).reshape(-1, len(FIGURES), n).transpose(1, 0, 2)
    columns = np.array([_intervals(*each) for each in zip(*figures[:2], strict=True)], np.float64)
    columns = columns.reshape(-1, 5).T
    return BootstrapIntervals(
        columns[0],
        columns[1],
        columns[2],
        columns[3],
        n_valid=columns[4].astype(np.int64),
        resamples=Resamples(
            dict(zip(FIGURES, figures, strict=True)),
            unit=_unit(n_blocks, known=blocks is not None),
            drawn=_digest(of_row, f"{n} {seed} {windows}"),
        ),
    )


def _unit(n: int, *, known: bool) -> str:
    what = "block" if known else "window"
    of = f" of {BLOCK_LENGTH // 1000} kb" if known else ""
    few = ": too few for intervals to be trusted" if n < FEW_BLOCKS else ""
    return f"{n:,} {what}{'' if n == 1 else 's'}{of}{few}"


def _digest(of_row: Ints, how: str) -> str:
    """A name for the resamples of rows in blocks."""
    digest = hashlib.sha256(how.encode())
    digest.update(np.ascontiguousarray(of_row, np.int64).data)
    return digest.hexdigest()


def _correlations(
    y: npt.NDArray[np.bool_],
    called: npt.NDArray[np.bool_],
    block: Ints,
    draws: npt.NDArray[np.int16],
) -> Doubles:
    """Matthews correlation (n,) of one target in each resample, as `metrics.matthews`."""
    n_blocks, resamples = draws.shape
    counts = np.array(
        [
            np.bincount(block[rows], minlength=n_blocks)
            for rows in (np.ones_like(y), y, called, y & called)
        ],
        np.float64,
    )
    step = max(1, _BOOTSTRAP_VALUES // max(1, n_blocks))
    parts = [counts @ draws[:, begin : begin + step] for begin in range(0, resamples, step)]
    n, p, c, both = np.concatenate(parts, axis=1)
    product = p * (n - p) * c * (n - c)
    found = np.zeros(resamples)
    np.divide(n * both - p * c, np.sqrt(product), out=found, where=product > 0)
    return np.where((p == 0) | (p == n), np.nan, found)


def _resample(
    y: npt.NDArray[np.bool_], p: Scores, block: Ints, draws: npt.NDArray[np.int16]
) -> tuple[Doubles, Doubles]:
    """ROC AUC and average precision (n,) of one target in each resample."""
    # Imported here: SciPy's sparse matrices take 0.2 s, which `--help` need not wait for.
    from scipy import sparse

    score = np.unique(p[y])
    n_scores, (n_blocks, n) = len(score), draws.shape
    # Slot 2i+1 is "equal to positive score i", slot 2i "between it and the one before".
    slot = 2 * np.searchsorted(score, p, "left")
    slot += np.append(score, np.nan).astype(p.dtype)[slot // 2] == p

    def by_block(rows: npt.NDArray[np.bool_], slots: Ints, n_slots: int) -> Any:
        entries = (np.ones(len(slots), np.int32), (slots, block[rows]))
        return sparse.coo_matrix(entries, (n_slots, n_blocks)).tocsr()

    negatives = by_block(~y, slot[~y], 2 * n_scores + 1)
    positives = by_block(y, slot[y] // 2, n_scores)
    auroc, auprc = np.full(n, np.nan), np.full(n, np.nan)
    step = max(1, _BOOTSTRAP_VALUES // max(2 * n_scores + 1, n_blocks))
    for begin in range(0, n, step):
        part = slice(begin, begin + step)
        drawn = draws[:, part].astype(np.int32)
        auroc[part], auprc[part] = _weighted_areas(positives @ drawn, negatives @ drawn)
    return auroc, auprc


def _weighted_areas(
    at: npt.NDArray[np.int32], negatives: npt.NDArray[np.int32]
) -> tuple[Doubles, Doubles]:
    """Areas (n,) from counts of positives at each score and of negatives in each slot."""
    negative_sums = np.cumsum(negatives, axis=0)
    below, total = negative_sums[:-1:2], negative_sums[-1]
    hits = np.cumsum(at[::-1], axis=0)[::-1]
    n_positive = at.sum(axis=0)
    called = hits + (total - below)
    wins = at * (below + 0.5 * negatives[1::2])
    precision = np.divide(hits, called, out=np.zeros(at.shape), where=called > 0)
    valid = (n_positive > 0) & (total > 0)
    areas = np.full((2, len(total)), np.nan)
    np.divide(wins.sum(axis=0), n_positive * total, out=areas[0], where=valid)
    np.divide((at * precision).sum(axis=0), n_positive, out=areas[1], where=valid)
    return areas[0], areas[1]


def _intervals(auroc: Doubles, auprc: Doubles) -> tuple[float, ...]:
    valid = ~np.isnan(auroc)
    if not valid.any():
        return (np.nan, np.nan, np.nan, np.nan, 0)
    percentiles = [np.percentile(values[valid], (2.5, 97.5)) for values in (auroc, auprc)]
    return (*percentiles[0], *percentiles[1], int(valid.sum()))
