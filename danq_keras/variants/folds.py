"""Functional variants: a boosted classifier on the effects of labelled variants.

Features (V, F) float64 of a variant: T log-odds differences, T absolute differences, then the
values of optional extra columns such as conservation, NaN where missing. Classes are weighted to
balance. Folds are contiguous stretches of the genome, so that a negative is in the fold of the
positive nearest to it; scaler and trees of a fold learn from the other folds alone. What is applied
is the mean of the folds' probabilities. Nothing here knows networks.

Source: Zhou & Troyanskaya 2015, doi 10.1038/nmeth.3547. DIFFERS: boosted trees in place of
a boosted linear model.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from danq_keras.genome.fasta import Positions
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError, one_line
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.system.names import refuse_control
from danq_keras.system.terminal import progress
from danq_keras.variants.boosted_trees import BoostingOptions, Flags, Forest
from danq_keras.variants.effects import difference, log_odds_difference
from danq_keras.variants.reader import Effects

KEYS = ("chrom", "pos", "ref", "alt")
_LARGEST = 1e38  # whose square is a number
_CHROM_STRIDE = 1 << 40  # no chromosome is as long


@dataclass(frozen=True, eq=False)
class FoldModel:
    """The model of one fold: features are scaled by `mean` and `scale` (F,), then `forest`."""

    mean: Doubles
    scale: Doubles
    forest: Forest

    def probabilities(self, features: Doubles) -> Doubles:
        """Probabilities (V,) that a variant with features (V, F) is functional."""
        scaled = (features - self.mean) / self.scale
        return self.forest.probabilities(np.clip(scaled, -_LARGEST, _LARGEST))


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What the folds say of variants that they did not learn from.

    `models` of the K folds; `score` (V,) of each variant by the model of its fold; `auroc` (K,).
    """

    models: tuple[FoldModel, ...]
    score: Doubles
    auroc: Doubles


def features_of(effects: Effects, extra: Doubles) -> Doubles:
    """Features (V, 2T + E) of V variants.

    Args:
        effects: probabilities (V, T) of both alleles.
        extra: (V, E) values of further columns.
    """
    ref, alt = effects.ref_pred, effects.alt_pred
    return np.hstack([log_odds_difference(ref, alt), np.abs(difference(ref, alt)), extra])


def read_extra(path: Path, effects: Effects) -> tuple[tuple[str, ...], Doubles]:
    """Extra columns of variants from a table with the columns chrom, pos, ref, alt.

    Args:
        path: tab-separated with a header, plain or gzip; every other column is numbers, NA or empty
            where missing.
        effects: the V variants; the table may have others too, in any order.

    Returns:
        The columns' names, and their values (V, E) float64.

    Raises:
        InputError: columns are missing or not numbers, or a variant has no row or several.
    """
    table = _read_table(path)
    names = [name for name in table.columns if name not in KEYS]
    if not set(KEYS) <= set(table.columns) or not names:
        raise InputError(
            f"{path}: a table of extra columns has {', '.join(KEYS)} and at least one more. "
            f"Received: {', '.join(table.columns)}. Add what is missing."
        )
    for name in names:
        try:
            table[name] = table[name].replace({"NA": "nan", "": "nan"}).astype(np.float64)
        except ValueError as error:
            raise InputError(
                f"{path}: column {name!r} must hold numbers or NA ({one_line(error)}). Correct it."
            ) from error
        beyond = table[name][table[name].abs() > _LARGEST]
        if len(beyond):
            raise InputError(
                f"{path}: column {name!r} must hold numbers up to {_LARGEST:.1g}, or NA. Received: "
                f"{beyond.iloc[0]}. Correct it."
            )
    keys = pd.MultiIndex.from_frame(table[list(KEYS)])
    if keys.has_duplicates:
        twice = ":".join(keys[keys.duplicated()][0])
        raise InputError(f"{path}: a variant must have one row. Received several: {twice}.")
    wanted = pd.MultiIndex.from_arrays(
        [effects.chrom, effects.pos.astype(str), effects.ref, effects.alt]
    )
    rows = keys.get_indexer(wanted)
    if (rows < 0).any():
        first = ":".join(wanted[int((rows < 0).argmax())])
        raise InputError(
            f"{path}: {int((rows < 0).sum()):,} of {len(rows):,} variants have no row, first "
            f"{first}. Add them, with NA where a value is unknown."
        )
    return tuple(names), table[names].to_numpy(np.float64)[rows]


def _read_table(path: Path) -> pd.DataFrame:
    """A tab-separated table with a header, the keys as text.

    Raises:
        InputError: not one, a column is there twice, or a row has other columns than the header.
    """
    with open_bytes(path) as file:
        content = file.read().removeprefix(BYTE_ORDER_MARK).removeprefix(b"#")
    header = content.partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace").split("\t")
    refuse_control(header, path, "column")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: the columns of a table differ. Received twice: {twice!r}.")
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            sep="\t",
            dtype=dict.fromkeys(KEYS, str),
            na_filter=False,
            quoting=csv.QUOTE_NONE,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a table ({one_line(error)}). Correct the file.") from error
    # Longer rows than others are an error above; shorter ones, or all one longer, are not.
    if content.count(b"\t") != (len(header) - 1) * (len(table) + 1):
        raise InputError(
            f"{path}: every row must have the header's {len(header)} columns. Received others. Is "
            "the file cut short?"
        )
    return table


def contiguous_folds(
    chrom: npt.NDArray[np.object_], pos: Positions, positive: Flags, n_folds: int
) -> Positions:
    """Deal variants into folds that are contiguous stretches of the genome.

    Each variant goes with the positive nearest to it, so that no fold's end parts a positive from
    the negatives around it; folds have equal numbers of positive places.

    Args:
        chrom: (V,) names of the chromosomes.
        pos: (V,) positions on them, 1-based.
        positive: (V,) labels, True for functional variants.
        n_folds: number K of folds.

    Returns:
        (V,) int64, 0 to K − 1.

    Raises:
        InputError: there are fewer places with a positive than folds, or a fold has no negative.
    """
    places = np.unique(chrom, return_inverse=True)[1].astype(np.int64) * _CHROM_STRIDE + pos
    centres = np.unique(places[positive])
    if n_folds < 2 or len(centres) < n_folds:
        raise InputError(
            f"`folds`: at least 2 and at most the places with a positive variant, {len(centres)}. "
            f"Received: {n_folds}. Choose a number between, or give more positives."
        )
    after = np.searchsorted(centres, places).clip(1, len(centres) - 1)
    nearer_before = places - centres[after - 1] <= centres[after] - places
    nearest = np.where(nearer_before, after - 1, after)
    folds: Positions = nearest * n_folds // len(centres)
    without = sorted(set(range(n_folds)) - set(folds[~positive].tolist()))
    if without:
        raise InputError(
            f"`folds`: each fold needs a negative variant. Received: {len(without)} of {n_folds} "
            "without one. Make `folds` smaller, or give negatives near all positives."
        )
    return folds


def cross_validate(
    features: Doubles, positive: Flags, folds: Positions, *, options: BoostingOptions, desc: str
) -> CrossValidation:
    """Fit a model for each fold on the others, and judge it there.

    Args:
        features: (V, F) features, NaN where one is missing.
        positive: (V,) labels, True for functional variants.
        folds: (V,) number of the fold of each variant, see `contiguous_folds`.
        options: number and size of the trees.
        desc: of the progress bar.
    """
    n_folds = int(folds.max()) + 1
    models, score, auroc = [], np.empty(len(folds)), np.empty(n_folds)
    with progress(total=n_folds, desc=desc, unit="folds") as bar:
        for fold in range(n_folds):
            held_out = folds == fold
            model = _fit(features[~held_out], positive[~held_out], options)
            score[held_out] = model.probabilities(features[held_out])
            auroc[fold] = roc_auc_score(positive[held_out], score[held_out])
            models.append(model)
            bar.update()
    return CrossValidation(tuple(models), score, auroc)


def _fit(features: Doubles, positive: Flags, options: BoostingOptions) -> FoldModel:
    # A column may have no value in the other folds: a constant, so that no tree looks at it.
    features = np.where(np.isnan(features).all(axis=0), 0.0, features)
    scaler = StandardScaler().fit(features)
    forest = Forest.fit((features - scaler.mean_) / scaler.scale_, positive, options)
    return FoldModel(scaler.mean_, scaler.scale_, forest)


def mean_probabilities(models: Sequence[FoldModel], features: Doubles) -> Doubles:
    """The mean (V,) of the folds' probabilities for features (V, F)."""
    mean: Doubles = np.mean([model.probabilities(features) for model in models], axis=0)
    return mean
