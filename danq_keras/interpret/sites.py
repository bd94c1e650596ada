"""Where windows have a motif's sites; light.

A word or IUPAC pattern has a site wherever its letters allow all bases, on either strand; a motif
of a file wherever its log-odds score against even bases comes to at least 0.8 of the way from the
lowest to the highest possible, the usual relative threshold for JASPAR's matrices.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.genome.dna import BASES_OF_LETTER, UNKNOWN, Bytes, encode, onehot_from_codes
from danq_keras.interpret.insertions import find_motif

RELATIVE_SCORE = 0.8
_PSEUDO = 0.01  # added to each frequency


@dataclass(frozen=True, eq=False)
class SiteFinder:
    """Finds sites: `weights` (w, 4) float32 of A,G,C,T on the strand that is given; `least`."""

    name: str
    weights: npt.NDArray[np.float32]
    least: float

    @classmethod
    def of(cls, text: str, motif_file: Path | None = None) -> "SiteFinder":
        """Of a motif as a user names it, see `insertions.find_insert`.

        Raises:
            InputError: it is none.
        """
        found = find_motif(text, motif_file)
        if isinstance(found, str):
            allowed = [encode(BASES_OF_LETTER[letter]) for letter in found]
            fits = np.stack([np.isin(np.arange(UNKNOWN), codes) for codes in allowed])
            return cls(text, fits.astype(np.float32), len(found) - 0.5)
        shares = (found.matrix + _PSEUDO) / (1 + 4 * _PSEUDO)
        weights = np.log2(shares / 0.25).astype(np.float32)
        low, high = weights.min(axis=1).sum(), weights.max(axis=1).sum()
        return cls(text, weights, float(low + RELATIVE_SCORE * (high - low)))

    def __len__(self) -> int:
        return len(self.weights)

    def covered(self, codes: Bytes) -> npt.NDArray[np.bool_]:
        """Which bases of windows (n, L) lie in a site on either strand: (n, L)."""
        inside = np.zeros(codes.shape, bool)
        at = self._starts(codes)
        for place in range(len(self) if at.size else 0):
            inside[:, place : place + at.shape[1]] |= at
        return inside

    def count(self, codes: Bytes) -> npt.NDArray[np.int64]:
        """Sites in windows (n, L); one that is a site on both strands counts once."""
        return np.asarray(self._starts(codes).sum(axis=1))

    def _starts(self, codes: Bytes) -> npt.NDArray[np.bool_]:
        """Where sites on either strand begin (n, L - w + 1)."""
        width = len(self)
        n_places = max(0, codes.shape[1] - width + 1)
        at = np.zeros((len(codes), n_places), bool)
        onehot = onehot_from_codes(codes)
        known = codes < UNKNOWN
        for weights in (self.weights, self.weights[::-1, ::-1]) if n_places else ():
            score = np.zeros(at.shape, np.float32)
            whole = np.ones(at.shape, bool)
            for place, row in enumerate(weights):
                score += onehot[:, place : place + n_places] @ row
                whole &= known[:, place : place + n_places]
            at |= (score >= self.least) & whole
        return at
