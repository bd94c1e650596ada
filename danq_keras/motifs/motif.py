"""A motif: counts of bases by position."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.genome.dna import ALPHABET

Matrix: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Motif:
    """A motif: `id`, `name` and `matrix` (w, 4) float64 frequencies, columns A,G,C,T."""

    id: str
    name: str
    matrix: Matrix

    @property
    def width(self) -> int:
        """Number of positions w."""
        return len(self.matrix)

    def information(self) -> Matrix:
        """(w,) float64 bits a position: 2 + Σ p log2 p, without small-sample correction."""
        safe = np.where(self.matrix > 0, self.matrix, 1)
        bits: Matrix = 2 + (self.matrix * np.log2(safe)).sum(axis=1)
        return bits

    def consensus(self) -> str:
        """The most frequent base of each position; the first of A,G,C,T where several tie."""
        return "".join(ALPHABET[code] for code in self.matrix.argmax(axis=1))

    def reverse_complement(self) -> "Motif":
        """The motif as the other strand reads it; its id ends in `_rc`."""
        return Motif(f"{self.id}_rc", self.name, self.matrix[::-1, ::-1].copy())
