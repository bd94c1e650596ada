"""`predict_danq.py`: probabilities of every target for every window of a file."""

import argparse
import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_ensemble, add_model, add_target_names, print_complete
from danq_keras.data.inputs import Windows, open_windows
from danq_keras.data.sequence_inputs import (
    Intervals,
    is_fasta,
    skipped_line,
    write_skipped,
)
from danq_keras.genome.bed import CHROM_NAMES
from danq_keras.genome.fasta import Genome
from danq_keras.models.shipped import model_file
from danq_keras.prediction.growing import partial_path
from danq_keras.prediction.outputs import coverage, prediction_kind
from danq_keras.system.command import command, name_flags, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_existing
from danq_keras.system.inputs import is_pipe
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import log, set_up_logging

_STRANDS = {
    "forward": "forward strand, rows as given",
    "both": "both strands, mean with the reverse complement",
}
_EPILOG = """\
INPUT is one of (FASTA and BED may come through a pipe; - is standard input)
  a FASTA file, plain or gzip: each record of the model's window length, or --tile STEP along all
  a BED or peak file with --genome: windows centred on a narrowPeak's summits, or on the intervals,
    (start + end) // 2 in the middle
  an .h5 or .mat file with 'testxdata' (N, 4, L), as the DeepSEA pipeline makes it
  a split file of a dataset (train.h5, valid.h5, test.h5)
  a dataset folder, with --split
Records of another length, and intervals without a window inside their chromosome, are counted and
listed with the reason in OUTPUT.skipped.tsv.

OUTPUT is one of
  .h5: 'pred' (N, T) and 'targets' (T,), a row for each row of INPUT, in order; with 'name', or
    'chrom', 'start' and 'end' of the windows (0-based, half-open), where INPUT has them, and a BED
    file's 'name' and 'strand' (windows are of the genome's forward strand, whatever the interval's)
  .tsv or .tsv.gz: the same as a table with a column for each target
  .bw: a bigWig track of one target along a FASTA with --tile STEP
  a name without ending: a folder with such a track for each target, and tracks.tsv
A bigWig value covers the STEP bases around the centre of its window; the first and last
(L - STEP)/2 bases of a chromosome have none.

While it is made, OUTPUT is OUTPUT.partial. A stop keeps it (once 20 seconds of work are done), and
the same command with --resume goes on from there.

examples:
  bin/predict_danq.py runs/danq-mine example.h5 example.pred.h5
  bin/predict_danq.py danq.keras my_dataset predictions.h5 --split valid --strands both
  bin/predict_danq.py runs/danq-mine peaks.bed peaks.tsv.gz --genome genome.fa --targets CTCF,12
  bin/predict_danq.py runs/danq-mine genome.fa tracks --tile 200 --targets CTCF,12
  bin/predict_danq.py runs/a/seed-1 x.fa mean.h5 --ensemble runs/a/seed-2 runs/a/seed-3
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="predict_danq.py",
        description="Predict every target for every window of a file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument("input", type=Path, metavar="INPUT", help="windows, see below")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="what to write, see below")
    _add_input(parser.add_argument_group("input"))
    _add_values(parser.add_argument_group("what is predicted"))
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="windows at once (default: what fits the network and the device)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="go on with an OUTPUT that was stopped"
    )
    existing.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    add_target_names(parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="split of a dataset folder (default: test)",
    )
    group.add_argument("--genome", type=Path, metavar="FA", help="FASTA that a BED file refers to")
    group.add_argument(
        "--tile", type=int, metavar="STEP", help="a window every STEP bases along a FASTA"
    )
    group.add_argument("--chroms", metavar="A,B", help="with --tile: only these records")
    group.add_argument(
        "--chrom-names",
        choices=CHROM_NAMES,
        help="a BED file's chromosomes without (strip) or with (add) a leading chr",
    )


def _add_values(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--strands",
        choices=("forward", "both"),
        help="forward: the rows as they are; both: the mean with the reverse complement (default: "
        "both; forward for a network trained on one strand, and for rows that are strands)",
    )
    group.add_argument("--targets", metavar="A,B", help="targets by number or name (default: all)")
    add_ensemble(group, "'pred', and 'spread' their standard deviation (n - 1)")
    group.add_argument(
        "--output",
        dest="values",
        choices=("probabilities", "embedding"),
        default="probabilities",
        help="embedding: the units of the dense layer before the output (default: %(default)s)",
    )


def _check_output(args: argparse.Namespace) -> None:
    """Everything that is wrong with OUTPUT's name is found before any work."""
    out = args.output
    kind = prediction_kind(out)
    if out.is_dir() and kind != "tracks":
        raise InputError(f"{out}: this is a folder, a file is written. Choose another name.")
    if not args.resume:
        refuse_existing(out, overwrite=args.overwrite)
    sources = [args.input, *(args.input / f"{name}.h5" for name in ("train", "valid", "test"))]
    if args.genome is not None:
        sources.append(args.genome)
    written = [path for path in (out, partial_path(out)) if path.exists()]
    if any(source.exists() and path.samefile(source) for source in sources for path in written):
        raise InputError(f"{out}: is the input itself. Choose another name for OUTPUT.")
    if kind == "tracks" and out.is_dir() and args.overwrite and not _is_tracks(out):
        raise InputError(f"{out}: not a folder of tracks. Choose another name, or remove it.")


def _is_tracks(folder: Path) -> bool:
    return not any(folder.iterdir()) or (folder / "tracks.tsv").is_file()


def _check_options(args: argparse.Namespace) -> None:
    """Numbers out of range, and options that contradict each other."""
    for name in ("batch_size", "tile"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')}: at least 1. Received: {value}.")
    if args.chroms is not None and args.tile is None:
        raise InputError("--chroms: names the records that --tile STEP cuts. Add --tile.")
    if args.chrom_names is not None and args.genome is None:
        raise InputError("--chrom-names: for a BED file with --genome. Leave it out.")
    if args.tile is not None and args.genome is not None:
        raise InputError("--tile: for a FASTA file; a BED file has its own windows. Leave it out.")
    if args.values == "embedding" and (args.targets or args.ensemble):
        raise InputError(
            "--output embedding: has no targets and is of one model. Leave --targets and "
            "--ensemble out."
        )


@command(parser, output="--output", tile="--tile")
def main(argv: list[str] | None = None) -> int:
    """Predict and write.

    Raises:
        InputError: a user's mistake, such as windows of another length than the model's.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    _check_options(args)
    _check_output(args)
    if args.resume and args.output.exists() and not partial_path(args.output).exists():
        print_complete(args.output)
        return 0
    for path in (args.model, *args.ensemble):
        model_file(path)
    with contextlib.ExitStack() as stack:
        source = _open_source(args, stack)  # before TensorFlow starts, which takes seconds
        start_tensorflow()
        return _predict(args, source)


def _predict(args: argparse.Namespace, source: Windows | Intervals | Genome) -> int:
    """Load the models, predict, say what was done."""
    from danq_keras.models.trained import load_model, window_of
    from danq_keras.prediction.stream import (
        EMBEDDING,
        Request,
        check_window,
        strands_of,
        write_predictions,
    )
    from danq_keras.prediction.windows import cut_windows

    begin = time.monotonic()
    models = [load_model(path, targets=args.target_names) for path in (args.model, *args.ensemble)]
    targets = None
    if args.targets is not None:
        targets = tuple(models[0].targets.find(args.targets.split(",")))
    if not isinstance(source, Windows):
        chroms = None if args.chroms is None else args.chroms.split(",")
        windows, skipped = cut_windows(source, window_of(models[0]), tile=args.tile, chroms=chroms)
    else:
        windows, skipped = source, []
    check_window(models[0], windows)
    windows.check()
    strands = args.strands or strands_of(windows, models[0])
    # The reasons name arguments; what the user reads names flags.
    skipped = [replace(each, reason=name_flags(each.reason, parser())) for each in skipped]
    what = "records" if isinstance(source, Genome) else "intervals"
    n_unknown = write_predictions(
        models,
        windows,
        out=args.output,
        request=Request(strands, args.values, targets, args.batch_size),
        resume=args.resume,
        overwrite=args.overwrite,
        at_end=lambda: write_skipped(args.output, skipped, what),
    )
    if skipped:
        log.info(skipped_line(args.output, skipped, what))
    if n_unknown:
        log.info(
            f"{args.output}: {n_unknown:,} windows have more unknown bases (not A, C, G, T) than "
            "known ones: their predictions say little"
        )
    n_targets = len(models[0].targets) if targets is None else len(targets)
    values = "embeddings" if args.values == EMBEDDING else f"{n_targets:,} targets"
    parts = [f"{windows.n_windows:,} windows × {values}", _STRANDS[strands]]
    if len(models) > 1:
        parts.append(f"mean and spread of {len(models)} models")
    if windows.tiling is not None:
        parts.append(coverage(windows.tiling))
    print(f"{args.output}: {', '.join(parts)}, {time.monotonic() - begin:.1f} s")
    return 0


def _open_source(
    args: argparse.Namespace, stack: contextlib.ExitStack
) -> Windows | Intervals | Genome:
    """`Windows`, `Intervals`, or a `Genome` whose records are the windows."""
    if args.genome is not None:
        genome = stack.enter_context(Genome(args.genome))
        return Intervals.read(args.input, genome, chrom_names=args.chrom_names)
    is_file = (args.input.is_file() or is_pipe(args.input)) and args.split is None
    if is_file and is_fasta(args.input):
        return stack.enter_context(Genome(args.input))
    if is_file and is_pipe(args.input):
        raise InputError(
            f"{args.input}: only FASTA, or BED with --genome, is read from a pipe. Write this to a "
            "file first, and name that."
        )
    if args.tile is not None:
        raise InputError(f"--tile: for a FASTA file. Received: {args.input}. Leave it out.")
    if is_file and any(word in args.input.name.lower() for word in (".bed", "peak")):
        raise InputError(f"{args.input}: a BED file needs its genome. Add --genome FASTA.")
    return open_windows(args.input, args.split)


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
