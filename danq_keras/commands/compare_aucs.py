"""`compare_aucs.py`: AUC tables against the paper's three models, or against another table."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError

_EPILOG = """\
example:
  bin/compare_aucs.py runs/danq-deepsea --out comparison
  bin/compare_aucs.py runs/danq-yeast --reference runs/deepsea-yeast
  bin/compare_aucs.py published:danq --reference published:deepsea

One TABLE is compared with the paper's DeepSEA, DanQ and DanQ-JASPAR, by target number. With
--reference, or several TABLEs (the first is the reference then), tables are compared by name.

Two folders of repeats (or of the same folds) made by train_danq.py --repeats (--folds):
  bin/compare_aucs.py runs/random-dropout --reference runs/fixed-dropout
gives the difference of the means of every figure with a 95 % interval.
"""

_TOGETHER = "comparison"  # stands for all files of one call


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="compare_aucs.py",
        description="Compare per-target AUCs with the paper's, or with another table's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "tables",
        nargs="+",
        metavar="TABLE",
        help="a test_aucs.tsv, a run folder, or published:deepsea, published:danq, "
        "published:danq-jaspar",
    )
    parser.add_argument(
        "--reference",
        metavar="TABLE",
        help="compare each TABLE with this one (default: the paper's models)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write comparison.md, .tsv and .png there (default: only print)",
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="compare only the targets that both tables have (default: refuse other sets)",
    )
    parser.add_argument(
        "--min-positives",
        type=int,
        default=1,
        metavar="N",
        help="leave out targets with fewer positives (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files in --out (default: refuse)"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Compare, print, and write with --out.

    Raises:
        InputError: a table cannot be read or compared, or an output exists.
    """
    args = parser().parse_args(argv)
    if args.min_positives < 1:
        raise InputError(f"--min-positives: at least 1. Received: {args.min_positives}.")
    if _are_sets([*args.tables, *([args.reference] if args.reference else [])]):
        return _compare_sets(args)
    from danq_keras.evaluation import comparison, comparison_text
    from danq_keras.system.files import is_unfinished, outputs_together, refuse_existing

    if args.out is not None:
        args.overwrite = args.overwrite or is_unfinished(args.out / _TOGETHER)
        for name in comparison_text.FILES:
            refuse_existing(args.out / name, overwrite=args.overwrite)
    arguments = [*args.tables, *([args.reference] if args.reference else [])]
    tables = comparison.distinct_labels(
        [comparison.load_table(argument) for argument in arguments], arguments
    )
    if args.min_positives > 1 and all(table.published for table in tables):
        raise InputError(
            "--min-positives: the paper's table gives no numbers of positives. Leave it out, or "
            "compare a table of yours."
        )
    if len(tables) == 1:
        found = comparison.compare_with_paper(tables[0], min_positives=args.min_positives)
    else:
        reference = tables.pop() if args.reference else tables.pop(0)
        found = [
            comparison.compare(
                table, reference, common=args.common, min_positives=args.min_positives
            )
            for table in tables
        ]
    print(comparison_text.markdown(found))
    if args.out is not None:
        with outputs_together(args.out / _TOGETHER):
            paths = comparison_text.write_comparison(found, args.out, overwrite=args.overwrite)
        print(f"Written: {', '.join(str(path) for path in paths)}")
    return 0


def _are_sets(arguments: list[str]) -> bool:
    """Whether all arguments are folders of repeats or folds, to be compared as such.

    Raises:
        InputError: only some are, and one of repeats has no table of its own.
    """
    from danq_keras.runs.sets import REPEATS, set_kind

    kinds = [set_kind(Path(argument)) for argument in arguments]
    if len(arguments) > 1 and all(kinds):
        return True
    if REPEATS in kinds:
        raise InputError(
            f"{arguments[kinds.index(REPEATS)]}: holds repeats, which are compared with other "
            "repeats. Give two such folders, or one of its runs (its folder seed-…)."
        )
    return False


def _compare_sets(args: argparse.Namespace) -> int:
    from danq_keras.runs import comparison
    from danq_keras.system.files import is_unfinished, outputs_together, refuse_existing

    if args.min_positives > 1:
        raise InputError(
            "--min-positives: not for sets of runs, which have their own. Leave it out."
        )
    if args.out is not None:
        args.overwrite = args.overwrite or is_unfinished(args.out / _TOGETHER)
        for name in comparison.FILES:
            refuse_existing(args.out / name, overwrite=args.overwrite)
    tables = [Path(table) for table in args.tables]
    reference = Path(args.reference) if args.reference else tables.pop(0)
    found = [comparison.compare_sets(table, reference, common=args.common) for table in tables]
    print("\n".join(comparison.set_markdown(each) for each in found))
    if args.out is not None:
        with outputs_together(args.out / _TOGETHER):
            paths = comparison.write_set_comparison(found, args.out, overwrite=args.overwrite)
        print(f"Written: {', '.join(str(path) for path in paths)}")
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
