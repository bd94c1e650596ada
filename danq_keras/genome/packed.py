"""A chromosome at four bits a base, and its runs of unknown bases."""

import numpy as np

from danq_keras.genome.dna import UNKNOWN, Bytes, pack_codes, packed_width
from danq_keras.genome.fasta import Positions


class PackedSequence:
    """A sequence packed once, so that a window is a plain copy of bytes.

    Two bases share a byte: windows that begin at an odd base come from a second packing, which is
    one base later and made only when it is needed.

    Args:
        codes: (length,) uint8 base codes.
        window: length L of a window in bases.
    """

    def __init__(self, codes: Bytes, window: int) -> None:
        self._codes = codes
        self._width = packed_width(window)
        self._odd = bool(window % 2)
        self._views: dict[int, Bytes] = {}

    def prepare(self, starts: Positions) -> None:
        """Pack all that the windows at `starts` (n,) need."""
        for phase in np.unique(starts % 2).tolist():
            self._view(phase)

    def windows(self, starts: Positions) -> Bytes:
        """Packed windows (n, ceil(L/2)) at `starts` (n,)."""
        rows = np.empty((len(starts), self._width), np.uint8)
        for phase in (0, 1):
            here = starts % 2 == phase
            if here.any():
                rows[here] = self._view(phase)[starts[here] // 2]
        if self._odd:
            rows[:, -1] &= 0b1111_0000  # what stands there is the base after the window
        return rows

    def _view(self, phase: int) -> Bytes:
        if phase not in self._views:
            packed = pack_codes(self._codes[phase:])
            self._views[phase] = np.lib.stride_tricks.sliding_window_view(packed, self._width)
        return self._views[phase]


def unknown_runs(codes: Bytes) -> tuple[Positions, Positions]:
    """Starts and ends of the stretches of unknown bases in codes (L,)."""
    unknown = np.concatenate([[False], codes == UNKNOWN, [False]])
    edges = np.flatnonzero(unknown[1:] != unknown[:-1])
    return edges[0::2], edges[1::2]
