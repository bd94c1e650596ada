"""`predict_danq.py`: probabilities of every target for every window of a file."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.start import start_tensorflow
from danq_keras.console import InputError, refuse_existing, run_command, set_up_logging

_EPILOG = """\
INPUT is one of
  an .h5 or .mat file with 'testxdata' (N, 4, L), as the DeepSEA pipeline makes it
  a split file of a dataset (train.h5, valid.h5, test.h5)
  a dataset folder, with --split

OUTPUT holds 'pred' (N, T) and 'targets' (T,), a row for each row of INPUT, in order; with 'chrom',
'start' and 'end' of the windows where INPUT has coordinates.

examples:
  bin/predict_danq.py runs/danq-mine example.h5 example.pred.h5
  bin/predict_danq.py danq.keras my_dataset predictions.h5 --split valid --strands both
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="predict_danq.py",
        description="Predict every target for every window of a file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder or .keras file")
    parser.add_argument("input", type=Path, metavar="INPUT", help="windows, see below")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help=".h5 file to write")
    parser.add_argument(
        "--strands",
        choices=("forward", "both"),
        help="forward: the rows as they are; both: the mean with the reverse complement (default: "
        "both for a dataset whose rows stand for both strands, otherwise forward)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="split of a dataset folder (default: test)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=200,
        metavar="N",
        help="windows at once (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _check_output(args: argparse.Namespace) -> None:
    """Everything that is wrong with OUTPUT is found before any work."""
    if args.output.suffix not in (".h5", ".hdf5"):
        raise InputError(f"{args.output}: predictions are an .h5 file. Choose a name ending so.")
    if args.output.is_dir():
        raise InputError(
            f"{args.output}: this is a folder, a file is written. Choose another name."
        )
    refuse_existing(args.output, overwrite=args.overwrite)
    sources = [args.input, *(args.input / f"{name}.h5" for name in ("train", "valid", "test"))]
    if any(
        source.exists() and args.output.exists() and args.output.samefile(source)
        for source in sources
    ):
        raise InputError(f"{args.output}: is the input itself. Choose another name for OUTPUT.")


def main(argv: list[str] | None = None) -> int:
    """Predict and write.

    Raises:
        InputError: a user's mistake, such as windows of another length than the model's.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    if args.batch_size < 1:
        raise InputError(f"--batch-size: at least 1. Received: {args.batch_size}.")
    _check_output(args)
    from danq_keras.inputs import open_windows

    windows = open_windows(args.input, args.split)  # before TensorFlow starts, which takes seconds
    start_tensorflow()
    from danq_keras.commands import predict_session

    return predict_session.predict(args, windows)


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))
