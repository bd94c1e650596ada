"""`import_weights.py`: weights of the old stack to a .keras model, and back."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_target_names
from danq_keras.models.shipped import model_file
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
    add_target_names(parser)
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
    if args.export:
        model_file(args.source)
    elif not args.source.is_file():
        raise InputError(f"{args.source}: no such file. Check the path.")
    start_tensorflow()
    if args.export:
        _export(args)
    else:
        _import(args)
    return 0


def _import(args: argparse.Namespace) -> None:
    from danq_keras.models.legacy import (
        CHECK_WINDOWS,
        TOLERANCE,
        convert_weights,
        require_agreement,
    )

    model, difference = convert_weights(
        args.source,
        args.preset,
        wrapper=args.wrapper or "time",
        window=args.window,
        pool_size=args.pool_size,
        targets=args.target_names,
    )
    print(
        f"Self-check: {CHECK_WINDOWS} random windows, both strands: largest difference from a "
        f"NumPy float64 forward pass {difference:.1e} (limit {TOLERANCE:.0e})"
    )
    require_agreement(model, difference)
    model.save(args.out)
    config = model.config["model"]
    print(
        f"{args.out}: {model.network.count_params():,} parameters, windows of {config['window']} "
        f"bases, {config['n_targets']} targets, wrapper {config['wrapper']}"
    )
    if args.target_names is None:
        print("The targets are numbered; --target-names gives them names (deepsea: DeepSEA's 919).")


def _export(args: argparse.Namespace) -> None:
    from danq_keras.models.legacy import export_weights
    from danq_keras.models.trained import load_model

    model = load_model(args.source)
    export_weights(model, args.out, args.preset, overwrite=args.overwrite)
    print(f"{args.out}: {model.network.count_params():,} parameters in the layout of Keras 0.2.0")


def _refuse_import_options(args: argparse.Namespace) -> None:
    for name in ("wrapper", "window", "pool_size", "target_names"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: with --export the model itself says it. Leave it out."
            )


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
