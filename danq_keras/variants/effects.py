"""Effects of variants: what two predictions say of one allele against another.

In: strand-mean probabilities of the reference and the alternative window, (V, T) float32, a row an
alternative allele. Out: (V, T) float64, computed from probabilities clipped to `PROBABILITY_CLIP`,
so that a log-odds is finite. Nothing here knows files, windows or networks.

Source: Zhou & Troyanskaya 2015, doi 10.1038/nmeth.3547, for the two differences.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.recipes.config import PROBABILITY_CLIP
from danq_keras.system.arrays import Doubles

Probs: TypeAlias = npt.NDArray[np.floating[Any]]

EFFECTS = ("absdiff", "logodds", "product")
"""Names of the sizes of an effect: |difference|, |log-odds difference|, and their product."""


def _clipped(probs: Probs) -> Doubles:
    return np.clip(probs.astype(np.float64), PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)


def difference(ref: Probs, alt: Probs) -> Doubles:
    """P(alt) − P(ref), (V, T) float64, of probabilities (V, T)."""
    return _clipped(alt) - _clipped(ref)


def logit(probs: Probs) -> Doubles:
    """Log-odds (V, T) float64 of probabilities (V, T)."""
    clipped = _clipped(probs)
    return np.log(clipped) - np.log1p(-clipped)


def log_odds_difference(ref: Probs, alt: Probs) -> Doubles:
    """Difference logit P(alt) − logit P(ref), (V, T) float64, of probabilities (V, T)."""
    return logit(alt) - logit(ref)


def effect_size(name: str, ref: Probs, alt: Probs) -> Doubles:
    """The size (V, T) float64, zero or more, of an effect.

    Args:
        name: kind of effect, one of `EFFECTS`.
        ref: (V, T) probabilities of the reference windows.
        alt: (V, T) probabilities of the alternative windows.

    Raises:
        ValueError: another name.
    """
    if name not in EFFECTS:
        raise ValueError(f"effect is one of {', '.join(EFFECTS)}. Received: {name!r}.")
    size = np.ones(ref.shape)
    if name in ("absdiff", "product"):
        size *= np.abs(difference(ref, alt))
    if name in ("logodds", "product"):
        size *= np.abs(log_odds_difference(ref, alt))
    return size
