"""Motifs as first-layer kernels: trimmed, turned, placed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.system.errors import InputError

Kernel: TypeAlias = npt.NDArray[np.float32]


_MARGIN = 3  # Source: DanQ-JASPAR's script keeps three random positions on either side


_LEAST_TRIMMED_WIDTH = 5  # as Tomtom's -min-overlap 5: less does not identify a motif


_LEAST_TRIMMED_SHARE = 0.5


@dataclass(frozen=True)
class MotifPlacement:
    """What `motif_kernels` did with each motif.

    `n_placed` motifs became the first kernels, in their order. The ids in `trimmed` are of those
    among them that were too wide; the ids in `left_out` became no kernel.
    """

    n_placed: int
    trimmed: tuple[str, ...]
    left_out: tuple[str, ...]

    def summary(self) -> str:
        """One line for the log."""
        return (
            f"{self.n_placed} kernels start from motifs, {len(self.trimmed)} of them trimmed; "
            f"{len(self.left_out)} motifs left out as too wide"
        )


def motif_kernels(
    motifs: Sequence[Motif], kernel: Kernel, *, seed: int
) -> tuple[Kernel, npt.NDArray[np.float32], MotifPlacement]:
    """Put motifs into the first kernels of a convolution, as DanQ-JASPAR did.

    In the window of a motif the kernel becomes frequency − 0.25; around it the given values stay.
    At least three positions stay on either side, so a motif wider than K − 6 is trimmed to its
    K − 6 consecutive positions of most information (the first such part where several tie). It is
    left out when that part has fewer than 5 positions or under half of the motif's information.

    Args:
        motifs: in the order of the kernels.
        kernel: (K, 4, F) float32 initial values, channels A,G,C,T; not changed.
        seed: of the motifs' positions and the biases.

    Returns:
        kernel (K, 4, F) float32; bias (F,) float32, uniform in [−1, 0) for the motifs' kernels and
        0 for the others; and what was placed, trimmed and left out.

    Raises:
        InputError: more motifs than filters, or no motif fits.

    Source: DanQ-JASPAR's script. It draws `start` uniformly from 3 … K−w−3 and reverses the motif
    because Theano flips kernels; here the motif stands in reading order from K − start − w.
    """
    length, _, n_filters = kernel.shape
    widest = length - 2 * _MARGIN
    fitted = [_fit(motif, widest) for motif in motifs]
    left_out = tuple(m.id for m, part in zip(motifs, fitted, strict=True) if part is None)
    trimmed = tuple(
        motif.id
        for motif, part in zip(motifs, fitted, strict=True)
        if part is not None and len(part) < motif.width
    )
    matrices = [part for part in fitted if part is not None]
    _require_room(len(matrices), n_filters, length)
    generator = np.random.default_rng(seed)
    widths = np.array([len(matrix) for matrix in matrices])
    starts = generator.integers(_MARGIN, length - widths - _MARGIN, endpoint=True)
    filled = kernel.copy()
    for number, (matrix, start) in enumerate(zip(matrices, starts, strict=True)):
        begin = length - int(start) - len(matrix)
        filled[begin : begin + len(matrix), :, number] = matrix - 0.25
    bias = np.zeros(n_filters, np.float32)
    bias[: len(matrices)] = generator.uniform(-1, 0, len(matrices))
    return filled, bias, MotifPlacement(len(matrices), trimmed, left_out)


def _fit(motif: Motif, widest: int) -> Matrix | None:
    """The motif's matrix, its most informative `widest` positions, or None if little is left."""
    if motif.width <= widest:
        return motif.matrix
    if widest < _LEAST_TRIMMED_WIDTH:
        return None
    information = motif.information()
    totals = np.convolve(information, np.ones(widest), mode="valid")
    begin = int(totals.argmax())
    if totals[begin] < _LEAST_TRIMMED_SHARE * information.sum():
        return None
    return motif.matrix[begin : begin + widest]


def _require_room(n_motifs: int, n_filters: int, length: int) -> None:
    if n_motifs > n_filters:
        raise InputError(
            f"motif_file: each motif takes a filter. Received: {n_motifs} motifs and "
            f"filters={n_filters}. Raise filters or give fewer motifs."
        )
    if n_motifs == 0:
        raise InputError(
            f"motif_file: no motif fits into kernel_size={length} (3 positions stay free on "
            "either side). Raise kernel_size or give narrower motifs."
        )
