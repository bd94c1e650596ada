"""What `prioritise_variants.py` does; loads scikit-learn."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.variants.effects import Doubles
from danq_keras.variants.folds import (
    KEYS,
    BoostingOptions,
    CrossValidation,
    Flags,
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


def fit(args: argparse.Namespace) -> int:
    """Cross-validate on labelled variants, keep the fold models, print how well they did."""
    effects = [read_effects(path) for path in (*args.positives, *args.negatives)]
    first = effects[0]
    for other in effects[1:]:
        same_as(
            other,
            (first.targets, first.model, first.strands),
            f"{first.path}: it holds",
        )
    table = pd.concat([_keys(one) for one in effects], ignore_index=True)
    n_positive = sum(len(one.pos) for one in effects[: len(args.positives)])
    positive = np.arange(len(table)) < n_positive
    _refuse_both(table, positive)
    names, extras = _extra(args.extra, effects)
    folds = contiguous_folds(
        table["chrom"].to_numpy(object), table["pos"].to_numpy(), positive, args.folds
    )
    options = BoostingOptions(args.trees, args.max_leaves, args.learning_rate, args.seed)
    features = np.vstack([features_of(*pair) for pair in zip(effects, extras, strict=True)])
    result = cross_validate(features, positive, folds, options=options, desc="fit")
    baseline = None
    if names:
        baseline = cross_validate(
            np.vstack(extras), positive, folds, options=options, desc="fit extra columns alone"
        )
    table = table.assign(label=positive.astype(int), fold=folds, score=result.score)
    _write_tables(args, table, result, baseline)
    write_prioritiser(
        args.out,
        Prioritiser(first.targets, first.model, first.strands, names, result.models, result.auroc),
        overwrite=args.overwrite,
    )
    print(
        f"{args.out}: {n_positive:,} positives, {len(table) - n_positive:,} negatives, "
        f"{features.shape[1]:,} features; ROC AUC of held-out folds {_spread(result.auroc)}"
    )
    if baseline is not None:
        print(f"extra columns alone ({', '.join(names)}): ROC AUC {_spread(baseline.auroc)}")
    return 0


def apply(args: argparse.Namespace) -> int:
    """Score variants with the mean of the fold models."""
    prioritiser = read_prioritiser(args.prioritiser)
    effects = read_effects(args.effects)
    prioritiser.check(effects, args.prioritiser)
    names, extras = _extra(args.extra, [effects])
    if names != prioritiser.extra:
        raise InputError(
            f"--extra: the prioritiser was fitted with {_listed(prioritiser.extra)}. Received: "
            f"{_listed(names)}. Give the same columns in the same order."
        )
    table = _keys(effects).assign(score=prioritiser.score(features_of(effects, extras[0])))
    table.insert(2, "id", effects.id)
    packed = "gzip" if args.out.name.endswith(".gz") else None
    with atomic_output(args.out, overwrite=args.overwrite) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.9g", compression=packed)
    print(
        f"{args.out}: {len(table):,} variants, scores {table['score'].min():.3f} to "
        f"{table['score'].max():.3f}"
    )
    return 0


def _keys(effects: Effects) -> pd.DataFrame:
    return pd.DataFrame({name: getattr(effects, name) for name in KEYS})


def _refuse_both(table: pd.DataFrame, positive: Flags) -> None:
    """A variant has one label."""
    labels = pd.Series(positive).groupby([table[name] for name in KEYS]).nunique()
    both = labels[labels > 1]
    if len(both):
        first = ":".join(str(part) for part in both.index[0])
        raise InputError(
            f"--negatives: a variant is positive or negative. Received {len(both):,} as both, "
            f"first {first}. Remove them from one side."
        )


def _extra(path: Path | None, effects: Sequence[Effects]) -> tuple[tuple[str, ...], list[Doubles]]:
    """Names of the extra columns, and the values (V, E) of each file's variants."""
    if path is None:
        return (), [np.empty((len(one.pos), 0)) for one in effects]
    read = [read_extra(path, one) for one in effects]
    return read[0][0], [values for _, values in read]


def _write_tables(
    args: argparse.Namespace,
    table: pd.DataFrame,
    result: CrossValidation,
    baseline: CrossValidation | None,
) -> None:
    folds = table.groupby("fold")["label"].agg(positives="sum", variants="size").reset_index()
    folds["negatives"] = folds.pop("variants") - folds["positives"]
    folds["auroc"] = result.auroc
    if baseline is not None:
        folds["auroc_extra"] = baseline.auroc
    for name, rows in zip(TABLES, (folds, table), strict=True):
        path = args.out.with_name(f"{args.out.name}.{name}.tsv")
        with atomic_output(path, overwrite=args.overwrite) as temporary:
            rows.to_csv(temporary, sep="\t", index=False, float_format="%.9g")


def _spread(auroc: Doubles) -> str:
    return f"{auroc.mean():.3f} ± {auroc.std(ddof=1):.3f} (mean ± sd of {len(auroc)})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no extra columns"
