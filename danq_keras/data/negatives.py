"""Windows that no peak touches, made or found for data in which every window is bound.

`shuffle` takes a bound window's own bases in another order; `genome` takes windows of the genome
that have as much G and C, and as many unknown bases, as the bound ones.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from danq_keras.genome.dna import UNKNOWN, Bytes
from danq_keras.genome.fasta import Positions
from danq_keras.system.errors import InputError

_GC_STEP = 0.02  # windows match when their shares of G and C lie in the same step
_UNKNOWN_EDGES = (0.0, 0.1)  # none, up to a tenth, more
_G_OR_C = np.zeros(256, bool)
_G_OR_C[[1, 2]] = True


@dataclass(frozen=True)
class Negatives:
    """Negatives to make: `kind` "shuffle" or "genome", `copies` K for each positive."""

    kind: str
    copies: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `shuffle`, `shuffle:K`, `genome` or `genome:K`.

        Raises:
            InputError: it is none of these.
        """
        kind, colon, copies = text.partition(":")
        number = int(copies) if copies.isdecimal() else 0
        if kind not in ("shuffle", "genome") or (colon and number < 1):
            raise InputError(
                "`negatives`: shuffle, shuffle:K, genome or genome:K, K from 1 on. Received: "
                f"{text!r}."
            )
        return cls(kind, number if colon else 1)

    @staticmethod
    def is_one(value: object) -> bool:
        """Whether a value speaks of negatives to make, not of a file."""
        return isinstance(value, str) and value.partition(":")[0] in ("shuffle", "genome")


def composition(codes: Bytes, starts: Positions, window: int) -> npt.NDArray[np.int16]:
    """What windows must have in common to match: a number (n,) for each.

    Args:
        codes: (L,) uint8 base codes of a chromosome.
        starts: (n,) int64 window starts.
        window: bases of a window.

    Returns:
        Numbers that rise with the share of G and C among the known bases in steps of 0.02; a
        hundred more where some bases are unknown, two hundred where more than a tenth are.
    """
    g_or_c, unknown = (
        _counts(marked, starts, window) for marked in (_G_OR_C[codes], codes == UNKNOWN)
    )
    share = g_or_c / np.maximum(window - unknown, 1)
    step = np.minimum(share / _GC_STEP, 1 / _GC_STEP - 1).astype(np.int16)
    kind = np.searchsorted(_UNKNOWN_EDGES, unknown / window, side="left").astype(np.int16)
    return np.asarray(step + np.int16(100) * kind)


def _counts(marked: npt.NDArray[np.bool_], starts: Positions, window: int) -> Positions:
    sums = np.concatenate([[0], np.cumsum(marked, dtype=np.int32)])
    return np.asarray(sums[starts + window] - sums[starts], np.int64)


def draw_matching(
    wanted: npt.NDArray[np.int16],
    offered: npt.NDArray[np.int16],
    copies: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draw windows of the same composition as others, none twice.

    Where a composition runs out, the nearest share of G and C that has windows left stands in.

    Args:
        wanted: (p,) compositions of the bound windows.
        offered: (n,) compositions of the windows to draw from.
        copies: windows to draw for each bound one.
        rng: source of the random numbers.

    Returns:
        Ascending numbers (k,) of the windows drawn; k is `copies` · p, or n where n is smaller.
    """
    order = rng.permutation(len(offered))
    left = {
        int(cell): order[offered[order] == cell].tolist() for cell in np.unique(offered).tolist()
    }
    chosen: list[int] = []
    missing: list[int] = []
    cells, counts = np.unique(wanted, return_counts=True)
    for cell, count in zip(cells.tolist(), (counts * copies).tolist(), strict=True):
        pool = left.get(cell, [])
        taken = min(count, len(pool))
        chosen += pool[:taken]
        left[cell] = pool[taken:]
        missing += [cell] * (count - taken)
    for cell in missing:
        stocked = [other for other, pool in left.items() if pool]
        if not stocked:
            break
        nearest = min(stocked, key=lambda other: (abs(other - cell), other))
        chosen.append(left[nearest].pop())
    return np.sort(np.array(chosen, np.int64))
