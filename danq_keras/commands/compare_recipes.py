"""`compare_recipes.py`: presets on datasets with several seeds, in one table."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_set, list_settings, read_pairs
from danq_keras.data.bundle import require_data
from danq_keras.recipes.presets import FITTED, PRESETS, get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import ChildFailedError, InputError
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
example:
  bin/compare_recipes.py comparison --data data/yeast --preset danq danq-fitted --repeats 3
  bin/compare_recipes.py deepbind --data data/encode/* --published published.tsv

Each run is OUT/DATASET/PRESET/seed-N, a folder as train_danq.py makes it. OUT/recipes.tsv has a row
a recipe: means over the targets and seeds with 95 % intervals over the seeds, epochs, seconds and
parameters. The same command goes on where a stop left it; what is complete is not trained again.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="compare_recipes.py",
        description="Train presets on datasets with several seeds, and tell what they reach.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="folder of the runs and the table"
    )
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR", help="dataset folders")
    parser.add_argument(
        "--preset",
        nargs="+",
        default=[FITTED],
        metavar="NAME",
        help=f"recipes, of {', '.join(PRESETS)} (default: {FITTED})",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="seeds each (default: %(default)s)"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="MODEL",
        help="start every run from the weights of this run folder or .keras file, as train_danq.py "
        "--init does",
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="TSV",
        help="other people's figures: columns data (name of a dataset folder), recipe, source, "
        "but_for (in what it is not like for like), and of auroc, auprc, mcc what is known",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at once, each with its share of the cores (default: %(default)s)",
    )
    add_set(parser, "settings of every run, such as epochs=5")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Train what is missing, write the table, print it.

    Raises:
        InputError: a dataset, a preset, a setting or the table is not what it should be.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    if args.list_settings:
        for preset in args.preset:
            list_settings(preset, None)
        return 0
    if args.out is None or args.data is None:
        raise InputError("OUT and --data: say where the runs go, and which datasets they train on.")
    settings = read_pairs(args.pairs)
    for name in args.preset:  # before TensorFlow starts, which takes seconds
        apply_settings(get_preset(name), settings)
    for path in args.data:
        require_data(path)
    start_tensorflow()
    from danq_keras.runs.recipes import TABLE, compare_recipes, table_text

    try:
        table = compare_recipes(
            args.out,
            args.data,
            args.preset,
            repeats=args.repeats,
            settings=settings,
            published=args.published,
            init=args.init,
            jobs=args.jobs,
        )
    except ChildFailedError as error:
        return error.status
    print(table_text(table))
    print(f"Written: {args.out / TABLE}")
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
