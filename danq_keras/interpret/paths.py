"""Gradients along ways: integrated and expected gradients of scores. Loads Keras.

From a beginning b to a window x, both one-hot (L, 4), lies the straight way b + a (x - b). The mean
m of the gradients along it gives each base at each position a hypothetical contribution

    h = m - sum over the bases of m b

and the contribution of the base that is there is (x - b) m; where a window begins with no base at
all, b = 0 and h = m. Contributions of all L positions add up to score(x) - score(b), but for the
error of the mean, which is taken over few points (Gauss and Legendre's, which are exact where the
gradient is a polynomial along the way). Of several beginnings everything is averaged.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from danq_keras.genome.dna import UNKNOWN, Bytes, onehot_from_codes, pack_codes
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.methods import Ways
from danq_keras.system.arrays import Floats
from danq_keras.system.terminal import log


@dataclass(frozen=True)
class Attribution:
    """`values` (T, L, 4) hypothetical contributions, and `error` (T,): sum minus what it should."""

    values: Floats
    error: Floats


def expected_gradients(explainer: Explainer, codes: Bytes, ways: Ways) -> Attribution:
    """Contributions of a window (L,) against shuffles that keep its pairs of neighbours."""
    rng = np.random.default_rng([ways.seed, zlib.crc32(codes.tobytes())])
    shuffles = np.stack([_shuffled(codes, rng) for _ in range(ways.backgrounds)])
    if (shuffles == codes).all():
        log.warning(
            "A window has no other order with its pairs of neighbours: its expected gradients are "
            "0. Take integrated ones."
        )
    return _along(explainer, codes, shuffles, points=ways.points or 10)


def integrated_gradients(explainer: Explainer, codes: Bytes, ways: Ways) -> Attribution:
    """Contributions of a window (L,) against one without bases."""
    return _along(explainer, codes, np.full_like(codes, UNKNOWN)[None], points=ways.points or 50)


def _shuffled(codes: Bytes, rng: np.random.Generator) -> Bytes:
    """A shuffle of each stretch of known bases; unknown ones stay, as they cannot contribute."""
    known = np.concatenate([[False], codes < UNKNOWN, [False]])
    edges = np.flatnonzero(known[1:] != known[:-1])
    shuffled = codes.copy()
    for begin, end in edges.reshape(-1, 2).tolist():
        shuffled[begin:end] = dinucleotide_shuffle(codes[begin:end], rng)
    return shuffled


def _along(explainer: Explainer, codes: Bytes, begins: Bytes, *, points: int) -> Attribution:
    places, weights = np.polynomial.legendre.leggauss(points)
    places, weights = (places + 1) / 2, weights / (2 * len(begins))
    window = onehot_from_codes(codes).astype(np.float32)
    which = [(begin, point) for begin in range(len(begins)) for point in range(points)]
    values: Floats = np.zeros((explainer.n_targets, *window.shape), np.float64)
    for at in range(0, len(which), explainer.gradient_rows):
        of_begin, of_point = np.array(which[at : at + explainer.gradient_rows]).T
        from_here = onehot_from_codes(begins[of_begin]).astype(np.float32)
        share = places[of_point].astype(np.float32)[:, None, None]
        gradients = explainer.gradients_at(from_here + share * (window - from_here))
        lost = (gradients * from_here[:, None]).sum(axis=-1, keepdims=True)
        values += np.einsum("n,ntlb->tlb", weights[of_point], gradients - lost)
    scores = explainer.scores(pack_codes(np.concatenate([codes[None], begins]))).astype(np.float64)
    total = (values * window).sum(axis=(1, 2))
    error = total - (scores[0] - scores[1:].mean(axis=0))
    return Attribution(values.astype(np.float32), error.astype(np.float32))


PATHS = {"integrated": integrated_gradients, "expected": expected_gradients}
"""The methods of this module, under their names in `methods.METHODS`."""
