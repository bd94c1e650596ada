"""Boosted trees without scikit-learn: its fitted classifiers as plain arrays.

A `Forest` holds what scikit-learn's `HistGradientBoostingClassifier` has learned for two classes,
and predicts what that would, to the last bit. Its arrays go into a file that runs no code when it
is read, as a pickle does, and that does not depend on scikit-learn's version, as its own objects
do.

Nodes of all trees stand in one array, each field (N,); `roots` are the first nodes of the trees.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from danq_keras.variants.effects import Doubles

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
NODE_FIELDS = ("feature", "threshold", "left", "right", "missing_left", "is_leaf", "value")


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves add up to the log-odds of the positive class.

    `baseline` log-odds before the first tree; `roots` (n_trees,) int64; then fields of the nodes
    (N,): `feature` int64, `threshold` float64 (a value up to it goes left), `left` and `right`
    int64 nodes, `missing_left` bool (where NaN goes), `is_leaf` bool, `value` float64 of a leaf.
    """

    baseline: float
    roots: Integers
    feature: Integers
    threshold: Doubles
    left: Integers
    right: Integers
    missing_left: Flags
    is_leaf: Flags
    value: Doubles

    @classmethod
    def of(cls, fitted: HistGradientBoostingClassifier, features: Doubles) -> Self:
        """Take the arrays out of a fitted classifier.

        Args:
            fitted: of two classes, without categorical features.
            features: (V, F) on which both are compared, since scikit-learn keeps its trees in
                attributes that it may change.

        Raises:
            RuntimeError: the forest predicts anything else than the classifier.
        """
        trees: list[Any] = [predictors[0].nodes for predictors in fitted._predictors]
        sizes = [len(tree) for tree in trees]
        roots = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
        first = np.repeat(roots, sizes)
        nodes = np.concatenate(trees)
        forest = cls(
            baseline=float(np.ravel(fitted._baseline_prediction)[0]),
            roots=roots,
            feature=nodes["feature_idx"].astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            left=first + nodes["left"],
            right=first + nodes["right"],
            missing_left=nodes["missing_go_to_left"].astype(bool),
            is_leaf=nodes["is_leaf"].astype(bool),
            value=nodes["value"].astype(np.float64),
        )
        if not np.array_equal(forest.log_odds(features), fitted.decision_function(features)):
            raise RuntimeError(
                "The trees of this version of scikit-learn are not laid out as expected: what was "
                "read from them predicts something else. Use scikit-learn 1.5 to 1.9."
            )
        return forest

    def log_odds(self, features: Doubles) -> Doubles:
        """Log-odds (V,) of the positive class for features (V, F), NaN where one is missing."""
        total = np.full(len(features), self.baseline)
        rows = np.arange(len(features))
        for root in self.roots.tolist():
            at = np.full(len(features), root)
            while not self.is_leaf[at].all():
                # A leaf's own children are not looked at.
                values = features[rows, self.feature[at]]
                missing = np.isnan(values)
                goes_left = np.where(missing, self.missing_left[at], values <= self.threshold[at])
                below = np.where(goes_left, self.left[at], self.right[at])
                at = np.where(self.is_leaf[at], at, below)
            total += self.value[at]
        return total

    def probabilities(self, features: Doubles) -> Doubles:
        """Probabilities (V,) of the positive class for features (V, F)."""
        return 1 / (1 + np.exp(-self.log_odds(features)))
