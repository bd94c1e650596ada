"""`discover_motifs.py`: motifs discovered from contributions by TF-MoDISco."""

import argparse
import sys
import time
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_databases, update_report
from danq_keras.interpret.files import SUMMARY
from danq_keras.interpret.methods import OF_FLAG
from danq_keras.interpret.patterns import ARRAYS, FEWEST_SEQLETS, MOST_SEQLETS, discover_motifs
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError, optional_module
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
explain_danq.py --bed writes the contributions; some hundred peaks of a target are enough, some
thousand are better. TF-MoDISco takes the stretches that contribute most (seqlets), clusters them
and aligns each cluster to a pattern, of which the part that contributes is looked up.

files in --out:
  patterns.tsv       a row per pattern: sign, seqlets, consensus, best match
  patterns.meme      the trimmed patterns' base frequencies, for other tools
  matches.tsv        all matches up to --threshold
  patterns.png       a row per pattern: contributions, trimmed motif, known motif
  TARGET.modisco.h5  TF-MoDISco's own file, such as `modisco report` reads

examples:
  bin/explain_danq.py runs/mine --bed ctcf.bed --genome genome.fa --targets CTCF
  bin/discover_motifs.py runs/mine/explain/ctcf_CTCF
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="discover_motifs.py",
        description="Discover the motifs that predictions rest on, with TF-MoDISco.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "explanation", type=Path, help=f"folder of explain_danq.py with {ARRAYS}, or that file"
    )
    parser.add_argument(
        "--targets", metavar="A,B", help="targets by number or name (default: all that it has)"
    )
    parser.add_argument(
        "--method",
        choices=tuple(OF_FLAG),
        help="whose contributions (default: the first of ism, expected, integrated, gradient that "
        "it has)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the files (default: EXPLANATION.motifs, which a run's report shows)",
    )
    add_databases(parser)
    parser.add_argument(
        "--max-seqlets",
        type=int,
        default=MOST_SEQLETS,
        metavar="N",
        help="most seqlets of either sign (default: %(default)s)",
    )
    parser.add_argument(
        "--min-seqlets",
        type=int,
        metavar="N",
        help="a sign with no more seqlets is left out (default: 100; with fewer than 1,000 windows "
        f"a tenth of them, at least {FEWEST_SEQLETS})",
    )
    parser.add_argument(
        "--fdr",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of seqlets expected by chance (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder --out")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Discover, match, write.

    Raises:
        InputError: a user's mistake, such as an explanation without contributions.
    """
    begin = time.monotonic()
    args = parser().parse_args(argv)
    set_up_logging()
    folder = args.explanation if args.explanation.is_dir() else args.explanation.parent
    if not args.explanation.exists():
        raise InputError(f"{args.explanation}: no such folder or file. Run explain_danq.py first.")
    if args.explanation.is_dir() and not (folder / ARRAYS).is_file():
        raise InputError(
            f"{folder}: has no {ARRAYS}. Run explain_danq.py with --bed and --table h5."
        )
    out = args.out or folder.with_name(f"{folder.resolve().name}.motifs")
    refuse_unmarked(out, "patterns", overwrite=args.overwrite, marker=SUMMARY)
    for module, extra in (("logomaker", "logos"), ("modiscolite", "modisco")):
        optional_module(module, extra)
    found = discover_motifs(
        args.explanation,
        targets=None if args.targets is None else args.targets.split(","),
        method=None if args.method is None else OF_FLAG[args.method],
        databases=args.databases,
        threshold=args.threshold,
        matcher=args.matcher,
        max_seqlets=args.max_seqlets,
        min_seqlets=args.min_seqlets,
        fdr=args.fdr,
    )
    found.save(out, overwrite=args.overwrite)
    for row in found.table.to_dict("records"):
        match = row["match_name"]
        known = "no known motif" if match != match else f"{match}, E {row['match_evalue']:.1e}"
        print(f"  {row['pattern']}: {row['seqlets']:,} seqlets, {row['consensus']}: {known}")
    update_report(out)
    print(f"{out}: {len(found.table)} patterns, {time.monotonic() - begin:.1f} s")
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
