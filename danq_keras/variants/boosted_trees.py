"""Boosted trees with XGBoost, the engine of DeepSEA's own prioritisation.

Its models are written as JSON, which runs no code when it is read and which later versions of
XGBoost read; nothing of its internals is used. XGBoost belongs to the extra `variants`.

Source: Chen & Guestrin 2016, doi 10.1145/2939672.2939785.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError, one_line, optional_module
from danq_keras.system.threads import n_threads

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BoostingOptions:
    """`n_trees` of at most `max_leaves` leaves a fold, `learning_rate` of each; `seed`."""

    n_trees: int = 100
    max_leaves: int = 31
    learning_rate: float = 0.1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves add up to the log-odds of the positive class."""

    booster: Any

    @classmethod
    def fit(cls, features: Doubles, positive: Flags, options: BoostingOptions) -> Self:
        """Learn to tell two classes apart, each weighing as much as the other.

        Args:
            features: (V, F) float64, NaN where one is missing.
            positive: (V,) labels, True for the positive class.
            options: number and size of the trees.
        """
        xgboost = optional_module("xgboost", "variants")
        n_positive = int(positive.sum())
        weights = np.where(positive, 0.5 / n_positive, 0.5 / (len(positive) - n_positive))
        data = xgboost.DMatrix(features, label=positive, weight=weights * len(positive))
        settings = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "max_leaves": options.max_leaves,
            "max_depth": 0,
            "eta": options.learning_rate,
            "seed": options.seed,
            "nthread": n_threads(),
        }
        return cls(xgboost.train(settings, data, options.n_trees))

    def probabilities(self, features: Doubles) -> Doubles:
        """Probabilities (V,) of the positive class for features (V, F)."""
        xgboost = optional_module("xgboost", "variants")
        return np.asarray(self.booster.predict(xgboost.DMatrix(features)), np.float64)

    def to_json(self) -> bytes:
        """The model as XGBoost's JSON."""
        return bytes(self.booster.save_raw("json"))

    @classmethod
    def from_json(cls, content: bytes, n_features: int) -> Self:
        """The model that `to_json` gave.

        Args:
            content: the text.
            n_features: F of the features that it is for.

        Raises:
            InputError: the text is not one.
        """
        xgboost = optional_module("xgboost", "variants")
        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(content))
        except xgboost.core.XGBoostError as error:
            raise InputError(f"not a model of XGBoost ({one_line(error)[:80]})") from error
        if booster.num_features() != n_features:
            raise InputError(
                f"trees of {booster.num_features()} features, where {n_features} are needed"
            )
        return cls(booster)
