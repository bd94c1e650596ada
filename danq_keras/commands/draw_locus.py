"""`draw_locus.py`: what networks say along a region, beside peaks and genes."""

import argparse
import contextlib
import sys
import time
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import (
    LONGEST,
    add_explain_out,
    add_model,
    add_prediction,
    explain_folder,
    require_at_least,
    update_report,
)
from danq_keras.genome.bed import read_bed
from danq_keras.genome.fasta import Genome
from danq_keras.genome.genes import read_genes
from danq_keras.genome.regions import Region
from danq_keras.interpret.files import SUMMARY
from danq_keras.interpret.methods import OF_FLAG
from danq_keras.models.shipped import model_file, model_place
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
A track is the probability of the window centred on each step (about 500 of them, or every --step
bases). Contributions of single bases are drawn for regions of up to ten windows: gradient × input,
or what --method says; of up to 200 bases as letters. Genes are drawn with all exons of all their
transcripts, thick where they are coding.

files in --out: tracks.png, tracks.svg, tracks.tsv, contributions.tsv

examples:
  bin/draw_locus.py yeast --locus chr8:95000-105000 --genome genome.fa --targets Reb1,Abf1
  bin/draw_locus.py runs/mine --with runs/other --locus chr8:95000-105000 --genome genome.fa \\
    --targets CTCF --peaks peaks/CTCF.bed --genes genes.gtf.gz
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="draw_locus.py",
        description="Draw what networks say along a region, beside peaks and genes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--with",
        dest="others",
        type=model_place,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="more networks, whose tracks stand below",
    )
    parser.add_argument(
        "--locus", required=True, metavar="CHROM:START-END", help="1-based and inclusive"
    )
    parser.add_argument("--genome", type=Path, required=True, metavar="FA", help="FASTA file")
    parser.add_argument("--targets", required=True, metavar="A,B", help="targets by number or name")
    parser.add_argument(
        "--genes", type=Path, metavar="FILE", help="gene models: GTF, GFF3 or BED12, also .gz"
    )
    parser.add_argument(
        "--peaks", type=Path, nargs="+", default=[], metavar="BED", help="a row of boxes a file"
    )
    parser.add_argument("--step", type=int, metavar="BP", help="bases between predictions")
    parser.add_argument(
        "--method",
        choices=(*OF_FLAG, "none"),
        help="contributions below the tracks (default: gradient, of regions of up to ten windows)",
    )
    add_explain_out(parser)
    add_prediction(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser, region="--locus")
def main(argv: list[str] | None = None) -> int:
    """Predict, explain and draw.

    Raises:
        InputError: a user's mistake, such as a region that the genome does not have.
    """
    begin = time.monotonic()
    args = parser().parse_args(argv)
    set_up_logging()
    require_at_least(args, step=1, batch_size=1)
    region = Region.parse(args.locus)
    out = args.out or explain_folder(args.model, f"tracks {args.locus}", longest=LONGEST)
    refuse_unmarked(out, "tracks", overwrite=args.overwrite, marker=SUMMARY)
    places = [args.model, *args.others]
    for place in places:
        model_file(place)
    with contextlib.ExitStack() as stack:
        genome = stack.enter_context(Genome(args.genome))  # before TensorFlow starts
        genes = [] if args.genes is None else read_genes(args.genes, region)
        peaks = {_label(path, args.peaks): read_bed(path) for path in args.peaks}
        start_tensorflow()
        from danq_keras.interpret.tracks import region_tracks
        from danq_keras.models.trained import load_model

        found = region_tracks(
            {_label(place, places): load_model(place) for place in places},
            genome,
            region,
            args.targets.split(","),
            step=args.step,
            method="" if args.method is None else OF_FLAG.get(args.method),
            strands=args.strands,
            batch_size=args.batch_size,
        )
    found.save(out, genes=genes, peaks=peaks, overwrite=args.overwrite)
    update_report(out)
    said = f"{len(found.values)} tracks every {found.step} bases, {len(genes)} genes"
    print(f"{out}: {said}, {time.monotonic() - begin:.1f} s")
    return 0


def _label(path: Path, among: list[Path]) -> str:
    """A file's name without endings, or all of the path where that is not the only one."""
    names = [each.name.split(".")[0] for each in among]
    name = path.name.split(".")[0]
    if names.count(name) == 1:
        return name
    if [str(each) for each in among].count(str(path)) > 1:
        raise InputError(f"{path} is given twice. Give it once.")
    return str(path)


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
