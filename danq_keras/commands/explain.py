"""`explain_danq.py`: which bases a prediction rests on."""

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import (
    add_explain_out,
    add_model,
    add_prediction,
    add_target_names,
    explain_folder,
    print_complete,
    require_at_least,
    update_report,
)
from danq_keras.data.sequence_inputs import Intervals
from danq_keras.genome.bed import CHROM_NAMES
from danq_keras.genome.fasta import Genome
from danq_keras.genome.regions import Region
from danq_keras.interpret.files import SUMMARY
from danq_keras.interpret.methods import Ways, methods_of_flags
from danq_keras.models.shipped import model_file
from danq_keras.prediction.growing import partial_path
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError, optional_module
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
One of
  --locus explains one place: contributions.tsv and a picture for each target
  --bed or --fasta explains many: contributions.h5, pictures of the strongest, and for TF-MoDISco
    onehot.npz with <target>.<method>.npz (hypothetical contributions; both (N, 4, L), A,C,G,T):
    modisco motifs -s onehot.npz -a Reb1.gradient.npz -n 2000 -o modisco.h5

The score of a target is its logit, of both strands the mean of the window's and its reverse
complement's. ism: every change of a single base, minus the window as it is; the contribution of a
base is its score above the mean of the four bases there. gradient: gradient × input. integrated,
expected: mean gradients on the way from an empty window or from shuffles of it, whose
contributions add up to the difference in the score; by how much they miss it is printed.
A window is centred on the locus, on the summit of a narrowPeak's interval, or on the middle of any
other interval or of a record of --fasta; what has no window inside its chromosome or record is
listed in OUT.skipped.tsv. Stopped (Ctrl-C, a killed process), the same command with --resume goes
on.

examples:
  bin/explain_danq.py runs/danq-mine --locus chr8:1000-2000 --genome genome.fa --targets CTCF
  bin/explain_danq.py runs/danq-mine --bed peaks.bed --genome genome.fa --targets CTCF,12
  bin/explain_danq.py human --fasta sequences.fa --targets GABPA_GM12878
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="explain_danq.py",
        description="Explain predictions base by base.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--locus", metavar="CHROM:START-END", help="one place, 1-based and inclusive"
    )
    place.add_argument("--bed", type=Path, metavar="BED", help="many places")
    place.add_argument("--fasta", type=Path, metavar="FA", help="sequences, without a genome")
    parser.add_argument(
        "--genome", type=Path, metavar="FA", help="with --locus and --bed: FASTA file"
    )
    parser.add_argument("--targets", required=True, metavar="A,B", help="targets by number or name")
    add_explain_out(parser)
    _add_explanation(parser.add_argument_group("explanation"))
    parser.add_argument(
        "--chrom-names",
        choices=CHROM_NAMES,
        help="a BED file's chromosomes without (strip) or with (add) a leading chr",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N intervals")
    add_prediction(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an OUT that was stopped")
    add_target_names(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _add_explanation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--method",
        metavar="M,M",
        help="some of ism, gradient, integrated, expected (default: ism,gradient for --locus, "
        "gradient for others)",
    )
    group.add_argument(
        "--backgrounds",
        type=int,
        default=Ways.backgrounds,
        metavar="N",
        help="expected: shuffles of a window that it is held against (default: %(default)s)",
    )
    group.add_argument(
        "--points",
        type=int,
        metavar="N",
        help="gradients along the way from each of them, or from an empty window (default: 10 of "
        "expected, 50 of integrated)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=Ways.seed,
        metavar="N",
        help="number from which shuffles are drawn (default: %(default)s)",
    )
    group.add_argument(
        "--width", type=int, metavar="BP", help="not with --locus: explain the central BP only"
    )
    group.add_argument(
        "--table",
        choices=("tsv", "h5"),
        help="contributions.tsv or .h5 (default: tsv for --locus, h5 for others)",
    )
    group.add_argument(
        "--pictures",
        type=int,
        default=5,
        metavar="N",
        help="not with --locus: pictures a target, of the highest scores (default: %(default)s)",
    )
    group.add_argument(
        "--zoom", type=int, default=100, metavar="BP", help="bases of a logo (default: %(default)s)"
    )


def _check_options(args: argparse.Namespace) -> None:
    """Numbers out of range, and options that contradict each other."""
    require_at_least(args, width=1, pictures=0, zoom=1, limit=1, batch_size=1)
    if args.method is not None:
        methods_of_flags(args.method)
    Ways(args.backgrounds, args.points, args.seed)
    for name in ("width", "limit"):
        if args.locus is not None and getattr(args, name) is not None:
            raise InputError(f"--{name}: goes with --bed and --fasta. Leave it out.")
    if args.fasta is None and args.genome is None:
        raise InputError("--genome: missing. --locus and --bed name places of that FASTA file.")
    for name in ("genome", "chrom_names"):
        if args.fasta is not None and getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: goes with places. Leave it out.")


def default_out(args: argparse.Namespace) -> Path:
    """Where an explanation goes that was not told: into the run, for its report."""
    if args.locus is not None:
        name = args.locus
    else:
        name = (args.bed or args.fasta).name.removesuffix(".gz").rsplit(".", 1)[0]
    return explain_folder(args.model, f"{name} {args.targets}")


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Explain and write.

    Raises:
        InputError: a user's mistake, such as a locus at a chromosome's end.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    _check_options(args)
    args.out = args.out or default_out(args)
    if not args.resume:
        refuse_unmarked(args.out, "explanations", overwrite=args.overwrite, marker=SUMMARY)
    elif args.out.exists() and not partial_path(args.out).exists():
        # Only that this is a folder of explanations is asked: nothing is written.
        refuse_unmarked(args.out, "explanations", overwrite=True, marker=SUMMARY)
        print_complete(args.out)
        update_report(args.out)
        return 0
    optional_module("logomaker", "logos")
    model_file(args.model)
    with contextlib.ExitStack() as stack:
        genome, place = _open(args, stack)  # before TensorFlow starts, which takes seconds
        start_tensorflow()
        return _explain(args, genome, place)


def _explain(args: argparse.Namespace, genome: Genome, place: Region | Intervals) -> int:
    """Load the model, explain, say what was done."""
    from danq_keras.interpret.places import PlacesRequest, explain_places
    from danq_keras.models.trained import load_model

    begin = time.monotonic()
    model = load_model(args.model, targets=args.target_names)
    own = ("targets", "strands", "methods", "ways")
    fields = dataclasses.fields(PlacesRequest)
    names = [field.name for field in fields if field.name not in own]
    request = PlacesRequest(
        targets=tuple(model.targets.find(args.targets.split(","))),
        strands=args.strands or model.strands,
        methods=None if args.method is None else methods_of_flags(args.method),
        ways=Ways(args.backgrounds, args.points, args.seed),
        **{name: getattr(args, name) for name in names},
    )
    for line in explain_places(model, genome, place, request):
        print(line)
    print(f"{args.out}: {time.monotonic() - begin:.1f} s")
    update_report(args.out)
    return 0


def _open(
    args: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Genome, Region | Intervals]:
    """The genome, and the region of --locus or the intervals of --bed or --fasta."""
    region = None if args.locus is None else Region.parse(args.locus)
    if region is not None and region.end is None:
        raise InputError(f"--locus: CHROM:START-END. Received: {args.locus!r}. Add the bases.")
    genome = stack.enter_context(Genome(args.fasta or args.genome))
    if args.fasta is not None:
        return genome, Intervals.whole(genome)
    if region is not None:
        return genome, region
    return genome, Intervals.read(args.bed, genome, chrom_names=args.chrom_names)


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
