"""Functional variants: a prioritiser fitted to labelled variants, and applied to new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.files import (
    PathLike,
    atomic_output,
    is_unfinished,
    outputs_together,
    refuse_existing,
)
from danq_keras.variants.boosted_trees import BoostingOptions, Flags
from danq_keras.variants.folds import (
    KEYS,
    CrossValidation,
    contiguous_folds,
    cross_validate,
    features_of,
    read_extra,
)
from danq_keras.variants.prioritiser import (
    TABLES,
    Prioritiser,
    read_prioritiser,
    same_as,
    write_prioritiser,
)
from danq_keras.variants.reader import Effects, read_effects


@dataclass(frozen=True, eq=False)
class FittedPrioritiser:
    """A prioritiser, and how well its folds tell variants that they did not learn from.

    `prioritiser` is applied to new variants. `heldout` has one row a labelled variant: label, fold
    and score by the model of its fold; `folds` one row a fold: counts and ROC AUC, also of the
    extra columns alone where there are some. `n_features` is F.
    """

    prioritiser: Prioritiser
    heldout: pd.DataFrame
    folds: pd.DataFrame
    n_features: int

    def to_frame(self) -> pd.DataFrame:
        """The labelled variants with their held-out scores."""
        return self.heldout

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write the prioritiser (.h5), and beside it the tables of folds and held-out scores.

        Raises:
            InputError: it exists.
        """
        out = Path(path)
        tables = [out.with_name(f"{out.name}.{name}.tsv") for name in TABLES]
        overwrite = overwrite or is_unfinished(out)
        for place in (out, *tables):
            refuse_existing(place, overwrite=overwrite)
        with outputs_together(out):
            for table, rows in zip(tables, (self.folds, self.heldout), strict=True):
                with atomic_output(table, overwrite=overwrite) as temporary:
                    rows.to_csv(temporary, sep="\t", index=False, float_format="%.9g")
            write_prioritiser(out, self.prioritiser, overwrite=overwrite)


def fit_prioritiser(
    positives: Sequence[PathLike],
    negatives: Sequence[PathLike],
    *,
    extra: PathLike | None = None,
    folds: int = 10,
    options: BoostingOptions | None = None,
) -> FittedPrioritiser:
    """Learn from labelled variants which are functional, and judge that by cross-validation.

    Args:
        positives: effect files (.h5) of functional variants, see `score_variants.py`.
        negatives: effect files of other variants, near the positives.
        extra: table with chrom, pos, ref, alt and further columns of numbers, such as
            conservation; None for none.
        folds: contiguous stretches of the genome, each held out once.
        options: number and size of the trees; None for the usual ones.

    Raises:
        InputError: the files are of different models, a variant is on both sides, or there are
            too few.
    """
    effects = [read_effects(Path(path)) for path in (*positives, *negatives)]
    first = effects[0]
    for other in effects[1:]:
        same_as(
            other,
            (first.targets, first.model, first.strands),
            f"{first.path}: it holds",
        )
    table = pd.concat([_keys(one) for one in effects], ignore_index=True)
    n_positive = sum(len(one.pos) for one in effects[: len(positives)])
    positive = np.arange(len(table)) < n_positive
    _refuse_both(table, positive)
    names, extras = _extra(None if extra is None else Path(extra), effects)
    numbers = contiguous_folds(
        table["chrom"].to_numpy(object), table["pos"].to_numpy(), positive, folds
    )
    how = options or BoostingOptions()
    features = np.vstack([features_of(*pair) for pair in zip(effects, extras, strict=True)])
    result = cross_validate(features, positive, numbers, options=how, desc="fit")
    baseline = None
    if names:
        baseline = cross_validate(
            np.vstack(extras), positive, numbers, options=how, desc="fit extra columns alone"
        )
    table = table.assign(label=positive.astype(int), fold=numbers, score=result.score)
    return FittedPrioritiser(
        Prioritiser(first.targets, first.model, first.strands, names, result.models, result.auroc),
        table,
        _fold_table(table, result, baseline),
        features.shape[1],
    )


def prioritise(
    prioritiser: PathLike, effects: PathLike, *, extra: PathLike | None = None
) -> pd.DataFrame:
    """Score variants with the mean of the fold models.

    Args:
        prioritiser: file that `FittedPrioritiser.save` wrote.
        effects: effect file (.h5) of the variants, by the same model.
        extra: table of the further columns that the prioritiser was fitted with.

    Returns:
        One row a variant: chrom, pos, id, ref, alt, and `score`, the probability that it is
        functional.

    Raises:
        InputError: the effects or the columns are others than those of the fit.
    """
    fitted = read_prioritiser(Path(prioritiser))
    read = read_effects(Path(effects))
    fitted.check(read, Path(prioritiser))
    names, extras = _extra(None if extra is None else Path(extra), [read])
    if names != fitted.extra:
        raise InputError(
            f"`extra`: the prioritiser was fitted with {_listed(fitted.extra)}. Received: "
            f"{_listed(names)}. Give the same columns in the same order."
        )
    table = _keys(read).assign(score=fitted.score(features_of(read, extras[0])))
    table.insert(2, "id", read.id)
    return table


def _keys(effects: Effects) -> pd.DataFrame:
    return pd.DataFrame({name: getattr(effects, name) for name in KEYS})


def _refuse_both(table: pd.DataFrame, positive: Flags) -> None:
    """A variant has one label."""
    labels = pd.Series(positive).groupby([table[name] for name in KEYS]).nunique()
    both = labels[labels > 1]
    if len(both):
        first = ":".join(str(part) for part in both.index[0])
        raise InputError(
            f"`negatives`: a variant is positive or negative. Received {len(both):,} as both, "
            f"first {first}. Remove them from one side."
        )


def _extra(path: Path | None, effects: Sequence[Effects]) -> tuple[tuple[str, ...], list[Doubles]]:
    """Names of the extra columns, and the values (V, E) of each file's variants."""
    if path is None:
        return (), [np.empty((len(one.pos), 0)) for one in effects]
    read = [read_extra(path, one) for one in effects]
    return read[0][0], [values for _, values in read]


def _fold_table(
    table: pd.DataFrame, result: CrossValidation, baseline: CrossValidation | None
) -> pd.DataFrame:
    folds = table.groupby("fold")["label"].agg(positives="sum", variants="size").reset_index()
    folds["negatives"] = folds.pop("variants") - folds["positives"]
    folds["auroc"] = result.auroc
    if baseline is not None:
        folds["auroc_extra"] = baseline.auroc
    return folds


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no extra columns"
