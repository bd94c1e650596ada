"""Variant effects with a network: windows of variants → probabilities of both alleles.

Windows are cut in one thread while the network works in a second and what it said is written in the
third; each waits for the others at most a block. Always float32 without TF32.
"""

import time
from collections.abc import Iterator

import numpy as np

from danq_keras.models.trained import TrainedModel
from danq_keras.prediction.predictor import predictor_of, require_probabilities
from danq_keras.system.errors import InputError
from danq_keras.system.threads import ahead
from danq_keras.variants.background import Background
from danq_keras.variants.files import ScoredBlock
from danq_keras.variants.windows import VariantBlock


def variant_window(model: TrainedModel) -> int:
    """Bases that the network reads.

    Raises:
        InputError: it takes windows of any length.
    """
    length: int | None = model.network.input_shape[1]
    if length is None:
        raise InputError(
            f"{model.path}: variants need a model of one window length. Received: any length. "
            "Use another model."
        )
    return length


class VariantScorer:
    """Scores blocks of variants; compiled once.

    Args:
        model: the network and the names of its targets.
        strands: "both" (the mean with the reverse complement of each window) or "forward".
        background: E-values are taken from it; None for none.

    Attributes:
        targets: the T targets of the probabilities.
        seconds: spent inside the network so far.
    """

    def __init__(
        self, model: TrainedModel, *, strands: str = "both", background: Background | None = None
    ) -> None:
        window = variant_window(model)
        self._predictor = predictor_of(model.network, window=window, strands=strands)
        self._path = model.path
        self.targets = model.targets
        self._background = background
        self.seconds = 0.0

    def __call__(self, blocks: Iterator[VariantBlock]) -> Iterator[ScoredBlock]:
        """Score blocks in order; three stages at once, as the module's description says.

        Raises:
            InputError: a prediction is not a finite number, or the device has not the memory.
        """
        return ahead(self.score(block) for block in ahead(blocks))

    def score(self, block: VariantBlock) -> ScoredBlock:
        """Score one block.

        Raises:
            InputError: see `__call__`.
        """
        begin = time.perf_counter()
        probs = (
            self._predictor.at_once(block.packed)
            if block.alleles
            else np.empty((0, len(self.targets)), np.float32)
        )
        self.seconds += time.perf_counter() - begin
        require_probabilities(probs, self._path)
        ref, alt = probs[block.ref_row], probs[block.alt_row]
        if self._background is None:
            return ScoredBlock(block, ref, alt)
        evalue = self._background.evalues(ref, alt, block.is_snv)
        return ScoredBlock(block, ref, alt, evalue)
