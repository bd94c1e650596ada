"""Intervals of areas under curves, from resampled blocks of the genome."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.evaluation.metrics import Flags, Ints, Scores, check_pair, per_target
from danq_keras.system.arrays import Doubles

BLOCK_LENGTH = 100_000


_BOOTSTRAP_VALUES = 1 << 22


@dataclass(frozen=True, eq=False)
class BootstrapIntervals:
    """Percentile intervals (T,) float64; `n_valid` (T,) int64 resamples had both labels."""

    auroc_low: Doubles
    auroc_high: Doubles
    auprc_low: Doubles
    auprc_high: Doubles
    n_valid: Ints


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
) -> BootstrapIntervals:
    """95 % percentile intervals of ROC AUC and average precision.

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

    def one_target(y: npt.NDArray[np.bool_], p: Scores, keep: Any) -> tuple[float, ...]:
        return _intervals(*_resample(y, p, of_row[keep], draws))

    results = per_target(one_target, labels, probs, ignore=ignore, desc="bootstrap")
    columns = np.array(results, np.float64).reshape(-1, 5).T
    return BootstrapIntervals(
        columns[0], columns[1], columns[2], columns[3], n_valid=columns[4].astype(np.int64)
    )


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
