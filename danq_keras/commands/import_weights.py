"""`import_weights.py`: weights of the old stack to a .keras model, and back."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_existing
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
examples:
  bin/import_weights.py DanQ_bestmodel.hdf5 danq.keras --preset danq
  bin/import_weights.py DanQ-JASPAR_bestmodel.hdf5 danq_jaspar.keras --preset danq-jaspar
  bin/import_weights.py --export danq.keras old.hdf5 --preset danq
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="import_weights.py",
        description="Weights saved by Keras 0.2.0 → a .keras model with the same predictions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="file to read")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write")
    parser.add_argument(
        "--preset",
        choices=("danq", "danq-jaspar"),
        required=True,
        help="the network whose layers the old file numbers",
    )
    parser.add_argument(
        "--wrapper",
        choices=("time", "seya"),
        help="what the bidirectional wrapper reversed: time, or (seya as first published) the "
        "batch, so that both directions read forward (default: time)",
    )
    parser.add_argument(
        "--window", type=int, metavar="BP", help="bases that the network reads (default: 1000)"
    )
    parser.add_argument(
        "--pool-size", type=int, metavar="N", help="positions pooled (default: the preset's)"
    )
    parser.add_argument(
        "--export",
        action="store_true",
        help="the way back: FILE is a model with hard gates and classic dropout, OUT the old file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Import, check against NumPy, write; or export.

    Raises:
        InputError: the file is not what it should be, or the self-check fails.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    refuse_existing(args.out, overwrite=args.overwrite)
    if not args.export and args.out.suffix != ".keras":
        raise InputError(f"{args.out}: a model's name ends with .keras. Choose such a name.")
    if args.export:
        _refuse_import_options(args)
    start_tensorflow()
    from danq_keras.commands import weights_session

    return weights_session.export(args) if args.export else weights_session.import_old(args)


def _refuse_import_options(args: argparse.Namespace) -> None:
    for name in ("wrapper", "window", "pool_size"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: with --export the model itself says it. Leave it out."
            )


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
