"""`design_danq.py`: sequences that reach wanted predictions."""

import argparse
import contextlib
import sys
import time
from pathlib import Path

import numpy as np

from danq_keras import __version__
from danq_keras.commands.options import (
    LONGEST,
    add_explain_out,
    add_model,
    add_prediction,
    add_target_names,
    explain_folder,
    require_at_least,
    update_report,
)
from danq_keras.genome.dna import UNKNOWN, Bytes, decode
from danq_keras.genome.fasta import Genome
from danq_keras.genome.regions import Region
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.interpret.files import SUMMARY
from danq_keras.models.shipped import model_file
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
Every round predicts all single changes of the best windows so far and goes on from the best; it
ends when none gains. What counts is the sum of the logits of --higher, less those of --lower, as
long as --keep stay within half a logit of where they began and --below below their limits.

The start is the window centred on --locus, the record of --fasta, or --random bases; --shuffle
shuffles it, keeping its pairs of neighbouring bases.

files in --out: designed.fa (start and design), path.tsv (a row a round), path.png

examples:
  bin/design_danq.py yeast --random 0.4 --higher Reb1 --rounds 12
  bin/design_danq.py runs/mine --locus chr8:1000-1100 --genome genome.fa --lower CTCF \\
    --keep REST --change 400:600 --gc 0.3:0.6 --avoid GGATCC
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="design_danq.py",
        description="Change a sequence base by base until its predictions are what is wanted.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--locus", metavar="CHROM:START-END", help="1-based and inclusive")
    start.add_argument("--fasta", type=Path, metavar="FA", help="a record of the window's length")
    start.add_argument("--random", type=float, metavar="GC", help="with this share of G and C")
    parser.add_argument("--genome", type=Path, metavar="FA", help="FASTA file of --locus")
    parser.add_argument("--shuffle", action="store_true", help="begin with a shuffle of the start")
    wanted = parser.add_argument_group("what is wanted")
    wanted.add_argument("--higher", metavar="A,B", help="targets to raise, by number or name")
    wanted.add_argument("--lower", metavar="A,B", help="targets to lower")
    wanted.add_argument("--keep", metavar="A,B", help="targets that stay within half a logit")
    wanted.add_argument(
        "--below", metavar="A=X,B=Y", help="targets that must not exceed a logit, such as CTCF=0"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--change",
        action="append",
        metavar="A:B",
        help="only bases [A, B) of the window may change, from 0; may be repeated",
    )
    limits.add_argument("--gc", metavar="LOW:HIGH", help="share of G and C, such as 0.3:0.6")
    limits.add_argument(
        "--avoid",
        nargs="+",
        default=[],
        metavar="MOTIF",
        help="motifs or words of which no further site may come, on either strand",
    )
    limits.add_argument("--motif-file", type=Path, metavar="FILE", help="of named motifs")
    parser.add_argument(
        "--rounds", type=int, default=30, metavar="N", help="most changes (default: %(default)s)"
    )
    parser.add_argument(
        "--beam",
        type=int,
        default=1,
        metavar="N",
        help="windows that a round goes on from (default: %(default)s, the best)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of --random and --shuffle (default: 0)"
    )
    add_explain_out(parser)
    add_prediction(parser)
    add_target_names(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _words(text: str | None) -> list[str]:
    return [] if text is None else text.split(",")


def _limits_below(text: str | None) -> dict[str | int, float]:
    """`A=X,B=Y` as target → logit."""
    found: dict[str | int, float] = {}
    for pair in _words(text):
        name, separator, value = pair.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            separator = ""
        if not separator or not name:
            raise InputError(f"--below: TARGET=LOGIT, such as CTCF=0. Received: {pair!r}.")
    return found


def _span(text: str, flag: str, kind: type) -> tuple:  # type: ignore[type-arg]
    """`A:B` as two numbers."""
    try:
        first, second = (kind(word) for word in text.split(":"))
    except ValueError as error:
        raise InputError(f"--{flag}: two numbers, A:B. Received: {text!r}.") from error
    return first, second


def default_out(args: argparse.Namespace) -> Path:
    """Where a design goes that was not told: into the run, for its report."""
    what = [f"{flag} {getattr(args, flag)}" for flag in ("higher", "lower") if getattr(args, flag)]
    return explain_folder(args.model, f"design {' '.join(what)}", longest=LONGEST)


@command(
    parser,
    changeable="--change",
    start="--fasta",
    limits="limits",
    insert="--avoid",
    below="--below",
)
def main(argv: list[str] | None = None) -> int:
    """Design and write.

    Raises:
        InputError: a user's mistake, such as limits that exclude every sequence.
    """
    begin = time.monotonic()
    args = parser().parse_args(argv)
    set_up_logging()
    require_at_least(args, seed=0, batch_size=1)
    if (args.locus is None) != (args.genome is None):
        raise InputError("--locus and --genome go together. Give both, or none.")
    if args.random is not None and not 0 <= args.random <= 1:
        raise InputError(f"--random: a share of G and C from 0 to 1. Received: {args.random:g}.")
    below = _limits_below(args.below)
    changeable = [_span(text, "change", int) for text in args.change or ()] or None
    gc = None if args.gc is None else _span(args.gc, "gc", float)
    args.out = args.out or default_out(args)
    refuse_unmarked(args.out, "designs", overwrite=args.overwrite, marker=SUMMARY)
    model_file(args.model)
    with contextlib.ExitStack() as stack:
        source = args.genome or args.fasta
        genome = None if source is None else stack.enter_context(Genome(source))
        region = None if args.locus is None else Region.parse(args.locus)
        start_tensorflow()
        from danq_keras.interpret.design import Limits, Wanted, design
        from danq_keras.models.trained import load_model, window_of

        model = load_model(args.model, targets=args.target_names)
        lists = {name: _words(getattr(args, name)) for name in ("higher", "lower", "keep")}
        found = design(
            model,
            _start(args, genome, region, window_of(model)),
            Wanted(**lists, below=below),
            limits=Limits(changeable, gc, tuple(args.avoid), args.motif_file),
            rounds=args.rounds,
            beam=args.beam,
            strands=args.strands,
            batch_size=args.batch_size,
        )
    wanted = [f"{name} {', '.join(words)}" for name, words in lists.items() if words]
    wanted += [f"{name} below {limit:g}" for name, limit in below.items()]
    found.save(args.out, title=f"Design: {'; '.join(wanted)}", overwrite=args.overwrite)
    first, last = found.path.iloc[0], found.path.iloc[-1]
    for target in found.targets:
        print(f"  {target}: logit {first[target]:.3f} → {last[target]:.3f}")
    print(f"  {', '.join(found.path['change'][1:]) or 'no change gains'}")
    update_report(args.out)
    print(f"{args.out}: {len(found.path) - 1} changes, {time.monotonic() - begin:.1f} s")
    return 0


def _start(
    args: argparse.Namespace, genome: Genome | None, region: Region | None, window: int
) -> Bytes:
    """Codes (L,) of the window to begin with."""
    rng = np.random.default_rng([args.seed, 0xDE])
    if genome is None:
        shares = [(1 - args.random) / 2, args.random / 2, args.random / 2, (1 - args.random) / 2]
        codes = rng.choice(4, window, p=shares).astype(np.uint8)
    elif region is not None:
        from danq_keras.interpret.places import locus_of

        locus = locus_of(region, genome, window)
        codes = genome.fetch(locus.chrom, locus.start, locus.start + window)
    else:
        names = [name for name, length in genome.lengths.items() if length == window]
        if len(names) != 1:
            raise InputError(
                f"{args.fasta}: one record of the network's {window} bases is needed. Received: "
                f"{len(names)} of {len(genome.lengths)}."
            )
        codes = genome.codes(names[0])
    if (codes == UNKNOWN).any():
        raise InputError(
            f"The window has unknown bases: {decode(codes)[:40]}… Choose another place."
        )
    return dinucleotide_shuffle(codes, rng) if args.shuffle else codes


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
