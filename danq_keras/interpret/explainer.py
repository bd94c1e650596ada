"""Which bases a prediction rests on: in-silico mutagenesis and gradients, on logits.

In: windows as codes (L,) uint8 and the region [begin, end) of them that is explained. Out: per
target and position what each base does. A score is the logit of a target; of both strands it is
the mean of the logits of the window and of its reverse complement, so that it is exact for a
linear network. Channels are A,G,C,T. Everything runs in float32 without TF32.

- effects (T, W, 4): score with this base in place minus score as it is; 0 for the base that is
  there. An unknown base has four effects.
- gradients (T, W, 4): derivative of the score by the one-hot input.

What contributions are, see `methods`; means of many gradients are taken in `paths`.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.genome.dna import UNKNOWN, Bytes, onehot_from_codes, pack_codes
from danq_keras.models.backend import without_tf32
from danq_keras.models.networks import logits_model
from danq_keras.models.trained import TrainedModel
from danq_keras.prediction.predictor import Predictor
from danq_keras.recipes.config import PROBABILITY_CLIP
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError


def score_model(network: keras.Model) -> keras.Model:
    """The network up to its logits; one without a layer `logits` gets them from probabilities."""
    if any(layer.name == "logits" for layer in network.layers):
        return logits_model(network)
    probs = keras.ops.clip(
        keras.ops.cast(network.output, "float32"), PROBABILITY_CLIP, 1 - PROBABILITY_CLIP
    )
    return keras.Model(network.input, keras.ops.log(probs) - keras.ops.log1p(-probs))


class Explainer:
    """Explains windows with one network; compiled once.

    Args:
        model: network whose scores are explained.
        targets: numbers of the targets explained.
        window: bases L of a window.
        strands: "both" or "forward", see the module's description.
        batch_size: windows at once, None for what fits.

    Attributes:
        n_targets: how many targets are explained.
        gradient_rows: windows that `gradients` is best given at once.
    """

    def __init__(
        self,
        model: TrainedModel,
        targets: Sequence[int],
        *,
        window: int,
        strands: str = "both",
        batch_size: int | None = None,
    ) -> None:
        if not len(targets):
            raise InputError("`targets`: none. Name at least one.")
        self._targets = list(targets)
        self.n_targets = len(self._targets)
        network = score_model(model.network)
        self._both = strands == "both"
        self._predict = Predictor(network, window=window, strands=strands, batch_size=batch_size)
        # Of a gradient the layers' outputs stay in memory, and so do their derivatives.
        self.gradient_rows = max(1, self._predict.batch_size // 4)
        self._network = network
        self._path = model.path
        signature = [tf.TensorSpec((None, window, 4), tf.float32)]
        self._gradients = tf.function(self._gradient, input_signature=signature, autograph=False)

    def scores(self, packed: Bytes) -> Floats:
        """Scores (n, T) float32 of packed windows (n, ceil(L/2)).

        Raises:
            InputError: one is not a finite number.
        """
        scores = self._predict(packed)[:, self._targets]
        self._check(scores)
        return scores

    def effects(
        self,
        codes: Bytes,
        region: tuple[int, int],
        *,
        advance: Callable[[int], object] = lambda _n: None,
    ) -> Floats:
        """What every change of a single base does to the scores.

        Args:
            codes: (L,) uint8 of a window.
            region: [begin, end) of it, where bases are changed.
            advance: told of each number of changes that were predicted.

        Returns:
            (T, W, 4) float32.

        Raises:
            InputError: a score is not a finite number.
        """
        before = self.scores(pack_codes(codes[None]))[0]
        places, bases = single_changes(codes, region)
        effects = np.zeros((len(self._targets), region[1] - region[0], 4), np.float32)
        # A few batches at a time: all mutants of a window need not be in memory.
        size = 4 * self._predict.batch_size
        for at in range(0, len(places), size):
            here, base = places[at : at + size], bases[at : at + size]
            changed = self.scores(pack_codes(changed_windows(codes, here, base))) - before
            effects[:, here - region[0], base] = changed.T
            advance(len(here))
        return effects

    def gradients(self, codes: Bytes) -> Floats:
        """Derivatives (n, T, L, 4) float32 of the scores by the one-hot of codes (n, L).

        Raises:
            InputError: one is not a finite number.
        """
        return self.gradients_at(onehot_from_codes(codes).astype(np.float32))

    def gradients_at(self, inputs: Floats) -> Floats:
        """Derivatives (n, T, L, 4) float32 of the scores at any inputs (n, L, 4) float32.

        Raises:
            InputError: one is not a finite number.
        """
        with without_tf32():
            gradients: Floats = np.asarray(self._gradients(tf.constant(inputs)).numpy(), np.float32)
        self._check(gradients)
        return gradients

    def _gradient(self, onehot: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(onehot)
            scores = self._network(onehot, training=False)
            if self._both:
                scores = (scores + self._network(onehot[:, ::-1, ::-1], training=False)) / 2
            # A window's score depends on that window alone, so the sum's derivatives are each's.
            sums = [tf.reduce_sum(scores[:, target]) for target in self._targets]
        zero = tf.UnconnectedGradients.ZERO
        each = [tape.gradient(total, onehot, unconnected_gradients=zero) for total in sums]
        return tf.stack(each, axis=1)

    def _check(self, values: Floats) -> None:
        if not np.isfinite(values).all():
            raise InputError(
                f"{self._path}: its logits or their gradients are not finite numbers. Its weights "
                "are damaged: use another model."
            )


def changed_windows(
    codes: Bytes, places: npt.NDArray[np.int64], bases: npt.NDArray[np.int64]
) -> Bytes:
    """Windows (n, L), each `codes` (L,) with one of `bases` (n,) at one of `places` (n,)."""
    windows = np.repeat(codes[None], len(places), axis=0)
    windows[np.arange(len(places)), places] = bases
    return windows


def single_changes(
    codes: Bytes, region: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions in the window and new codes of all changes of single bases of a region.

    Three for each base, four for an unknown one; in order.
    """
    places = np.repeat(np.arange(*region), UNKNOWN)
    bases = np.tile(np.arange(UNKNOWN), region[1] - region[0])
    changed = codes[places] != bases
    return places[changed], bases[changed]
