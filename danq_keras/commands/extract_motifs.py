"""`extract_motifs.py`: what the first layer's kernels have learned, and which motifs they match."""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_databases, add_model, add_target_names
from danq_keras.data.bundle import open_dataset
from danq_keras.models.shipped import model_file
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
Each kernel has a site in every sequence in which its highest activation is above zero: the bases
under it there. Both strands of a window are sequences of their own.

files in --out:
  motifs.meme    count matrices as frequencies, A,C,G,T, for other tools
  motifs.tsv     a row per kernel: sites, information, consensus, best match
  matches.tsv    all matches up to --threshold
  matches.png    the known motifs that match best, each under its best kernel
  logos/         a PNG per kernel
  summary.json   what was read and compared

examples:
  bin/extract_motifs.py runs/danq-mine --data my_dataset
  bin/extract_motifs.py danq.keras --data deepsea_train --positives 138 282 --out motifs
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="extract_motifs.py",
        description="Motifs of the first layer's kernels, and the known motifs that they match.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="dataset folder or DeepSEA bundle"
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="where a bundle's dataset goes")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the files (default: motifs in the run folder, whose report shows them)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        default="test",
        help="split whose windows are read (default: %(default)s)",
    )
    parser.add_argument(
        "--positives",
        nargs="+",
        metavar="TARGET",
        help="only windows positive for one of these, by number or name (default: all windows)",
    )
    add_databases(parser)
    parser.add_argument("--no-logos", action="store_true", help="draw no logos")
    parser.add_argument(
        "--batch-size", type=int, default=100, metavar="N", help="windows (default: %(default)s)"
    )
    add_target_names(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the folder --out")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Extract, match, write.

    Raises:
        InputError: a user's mistake, such as a target that the dataset lacks.
    """
    begin = time.monotonic()
    args = parser().parse_args(argv)
    set_up_logging()
    if args.out is None and not args.model.is_dir():
        raise InputError(
            f"--out: needed, as {args.model} is not a run folder. Give a folder for the files."
        )
    if not args.no_logos and importlib.util.find_spec("logomaker") is None:
        raise InputError(
            "Logos are drawn by logomaker, which is not installed. Install danq_keras[logos], or "
            "pass --no-logos."
        )
    from danq_keras.evaluation.report import MOTIFS, write_report
    from danq_keras.interpret.kernel_motifs import SUMMARY

    out = args.out or args.model / MOTIFS
    refuse_unmarked(out, "motifs", overwrite=args.overwrite, marker=SUMMARY)
    model_file(args.model)
    dataset = open_dataset(args.data, store=args.store)  # before TensorFlow starts: seconds
    start_tensorflow()
    from danq_keras.interpret.motifs import first_layer_motifs
    from danq_keras.models.trained import load_model

    found = first_layer_motifs(
        load_model(args.model, targets=args.target_names),
        dataset,
        split=args.split,
        positives=args.positives,
        databases=args.databases,
        threshold=args.threshold,
        matcher=args.matcher,
        batch_size=args.batch_size,
    )
    found.save(out, logos=not args.no_logos, overwrite=args.overwrite)
    if out.resolve() == (args.model / MOTIFS).resolve() and (args.model / "report.html").is_file():
        write_report(args.model)  # it shows the motifs in the run's own folder
    seconds = time.monotonic() - begin
    print(f"{found.summary['summary']}")
    print(f"{out}: {found.summary['sequences']:,} sequences read, {seconds:.1f} s")
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
