"""`prioritise_variants.py`: which variants are functional, learned from labelled ones."""

import argparse
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danq_keras import __version__
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError, require_library
from danq_keras.system.files import is_unfinished, refuse_existing, refuse_input
from danq_keras.system.terminal import set_up_logging

if TYPE_CHECKING:
    import pandas as pd

_EPILOG = """\
All effects are .h5 files of score_variants.py, made with the same model. Features are the log-odds
difference and the absolute difference of each target, and the columns of --extra.

fit writes OUT, and beside it OUT.folds.tsv (ROC AUC of each fold) and OUT.heldout.tsv (the score of
each variant by the model that did not learn from its fold). apply writes a table with the mean of
the fold models in the column 'score'.

examples:
  bin/prioritise_variants.py fit --positives eqtls.h5 --negatives matched.h5 --out functional.h5
  bin/prioritise_variants.py apply functional.h5 effects.h5 --out scores.tsv
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="prioritise_variants.py",
        description="Fit boosted trees to labelled variants' effects, or apply them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parts = parser.add_subparsers(dest="part", required=True, metavar="fit|apply")
    fit = parts.add_parser("fit", help="learn from labelled variants")
    for name, what in (("positives", "functional"), ("negatives", "other")):
        fit.add_argument(
            f"--{name}",
            type=Path,
            nargs="+",
            required=True,
            metavar="FILE",
            help=f"effects of {what} variants",
        )
    for flag, kind, value, what in (
        ("--folds", int, 10, "contiguous blocks of the genome"),
        ("--trees", int, 100, "trees of a fold"),
        ("--max-leaves", int, 31, "leaves of a tree"),
        ("--learning-rate", float, 0.1, "weight of each tree"),
        ("--seed", int, 0, "of the trees"),
    ):
        fit.add_argument(
            flag, type=kind, default=value, metavar="N", help=f"{what} (default: %(default)s)"
        )
    apply = parts.add_parser("apply", help="score other variants")
    apply.add_argument("prioritiser", type=Path, metavar="PRIORITISER", help="what fit wrote")
    apply.add_argument("effects", type=Path, metavar="EFFECTS", help="effects to score")
    for part, out in ((fit, "prioritiser to write (.h5)"), (apply, "table to write (.tsv[.gz])")):
        part.add_argument(
            "--extra",
            type=Path,
            metavar="TABLE",
            help="table with chrom, pos, ref, alt and further columns of numbers",
        )
        part.add_argument("--out", type=Path, required=True, metavar="OUT", help=out)
        part.add_argument("--overwrite", action="store_true", help="replace what is written")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Fit or apply.

    Raises:
        InputError: a user's mistake, such as effects of two models.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    endings = (".h5", ".hdf5") if args.part == "fit" else (".tsv", ".tsv.gz")
    if not args.out.name.endswith(endings):
        raise InputError(f"{args.out}: {' or '.join(endings)} is written. Choose such an ending.")
    if args.part == "fit":
        from danq_keras.variants.prioritiser import TABLES

        _check_numbers(args)
        _refuse_doubled(args.positives)
        _refuse_doubled(args.negatives)
        tables, inputs = [*TABLES], [*args.positives, *args.negatives]
    else:
        tables, inputs = [], [args.prioritiser, args.effects]
    for path in (args.out, *(args.out.with_name(f"{args.out.name}.{t}.tsv") for t in tables)):
        refuse_input(path, [*inputs, args.extra])
        refuse_existing(path, overwrite=args.overwrite or is_unfinished(args.out))
    require_library("xgboost", "XGBoost", program="prioritise_variants.py", extra="variants")
    if args.part == "fit":
        _fit(args)
    else:
        _apply(args)
    return 0


def _fit(args: argparse.Namespace) -> None:
    """Cross-validate on labelled variants, keep the fold models, print how well they did."""
    from danq_keras.variants.boosted_trees import BoostingOptions
    from danq_keras.variants.prioritise import fit_prioritiser

    fitted = fit_prioritiser(
        args.positives,
        args.negatives,
        extra=args.extra,
        folds=args.folds,
        options=BoostingOptions(args.trees, args.max_leaves, args.learning_rate, args.seed),
    )
    fitted.save(args.out, overwrite=args.overwrite)
    n_positive = int(fitted.heldout["label"].sum())
    print(
        f"{args.out}: {n_positive:,} positives, {len(fitted.heldout) - n_positive:,} negatives, "
        f"{fitted.n_features:,} features; ROC AUC of held-out folds "
        f"{_spread(fitted.folds['auroc'])}"
    )
    if "auroc_extra" in fitted.folds:
        names = ", ".join(fitted.prioritiser.extra)
        print(f"extra columns alone ({names}): ROC AUC {_spread(fitted.folds['auroc_extra'])}")


def _apply(args: argparse.Namespace) -> None:
    """Score variants with the mean of the fold models."""
    from danq_keras.system.files import atomic_output
    from danq_keras.variants.prioritise import prioritise

    table = prioritise(args.prioritiser, args.effects, extra=args.extra)
    text = table.to_csv(sep="\t", index=False, float_format="%.9g").encode()
    if args.out.name.endswith(".gz"):  # without a time, so that equal scores are equal bytes
        text = gzip.compress(text, mtime=0)
    with atomic_output(args.out, overwrite=args.overwrite) as temporary:
        temporary.write_bytes(text)
    print(
        f"{args.out}: {len(table):,} variants, scores {table['score'].min():.3f} to "
        f"{table['score'].max():.3f}"
    )


def _spread(auroc: "pd.Series[float]") -> str:
    return f"{auroc.mean():.3f} ± {auroc.std(ddof=1):.3f} (mean ± sd of {len(auroc)})"


def _refuse_doubled(paths: Sequence[Path]) -> None:
    """Refuse to count a file's variants twice."""
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise InputError(f"{path}: is given twice. Name each file once.")


def _check_numbers(args: argparse.Namespace) -> None:
    for name, least in (("folds", 2), ("trees", 1), ("max_leaves", 2), ("seed", 0)):
        value = getattr(args, name)
        if value < least:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: at least {least}. Received: {value}.")
    if not 0 < args.learning_rate <= 1:
        raise InputError(f"--learning-rate: above 0, at most 1. Received: {args.learning_rate:g}.")


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
