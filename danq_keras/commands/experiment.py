"""`experiment_danq.py`: motifs put into windows or taken out, and what the network says."""

import argparse
import contextlib
import math
import re
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
from danq_keras.data.sequence_inputs import Intervals, Skipped, is_fasta, write_skipped
from danq_keras.genome.bed import CHROM_NAMES
from danq_keras.genome.dna import UNKNOWN, Bytes
from danq_keras.genome.fasta import Genome
from danq_keras.interpret.files import SUMMARY
from danq_keras.models.shipped import model_file
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_unmarked
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import log, set_up_logging

_EPILOG = """\
experiments
  marginal  each motif is put into the middle of background windows: how far does the score rise?
            Beside it as many sequences of its letters in another order. Without --motifs all of
            --motif-file are tried on all targets, and drawn as a heat map.
  ablate    all sites of a motif in the windows (peaks, say) are replaced by shuffles of themselves,
            or --bases A:B are: how far does the score fall? Beside it as many bases elsewhere. Of
            two motifs also what both do beyond the sum of each (epistasis).
  spacing   one motif over its place, or two over the bases between them: --spacing A:B[:STEP].

WINDOWS are the intervals of a BED file of --genome, whose windows are centred on them (on the
summits of a narrowPeak), or the records of a FASTA file of windows, such as the windows.fa that
every experiment leaves. marginal draws 100 of them and shuffles each, keeping its pairs of
neighbouring bases; spacing and ablate take them as they are. Scores are logits, of both strands
the mean. p-values are two-sided, q-values corrected for all rows (Benjamini and Hochberg).

files in --out: effects.tsv or spacing.tsv, a picture, windows.fa

examples:
  bin/experiment_danq.py marginal yeast peaks.bed --genome sacCer3.fa --motifs CGGGTAA \\
    --targets Reb1
  bin/experiment_danq.py ablate yeast reb1.bed --genome sacCer3.fa --motifs CGGGTAA TCACGTG \\
    --targets Reb1
  bin/experiment_danq.py spacing runs/mine background.bed --genome genome.fa \\
    --motifs CGGGTAA TTACCCG --spacing 0:100 --targets Reb1
  bin/experiment_danq.py marginal runs/mine peaks.bed --genome genome.fa --motif-file fungi.meme
"""
KINDS = ("marginal", "ablate", "spacing")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiment_danq.py",
        description="Put motifs into windows or take them out, and see what the network says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=KINDS, help="see below")
    add_model(parser)
    parser.add_argument("windows", type=Path, metavar="WINDOWS", help="BED or FASTA file")
    parser.add_argument("--genome", type=Path, metavar="FA", help="FASTA file that BED is about")
    parser.add_argument(
        "--motifs",
        nargs="+",
        metavar="MOTIF",
        help="a motif's id or name (its consensus; _rc behind it: reverse complement), or bases, "
        "IUPAC's too",
    )
    parser.add_argument(
        "--motif-file",
        type=Path,
        metavar="FILE",
        help="JASPAR, MEME, HOMER or TRANSFAC file of motifs (default: JASPAR 2016 vertebrates)",
    )
    parser.add_argument(
        "--targets", metavar="A,B", help="targets by number or name (default: all of them)"
    )
    parser.add_argument(
        "--bases", metavar="A:B", help="ablate: bases [A, B) of each window, from 0, not sites"
    )
    parser.add_argument(
        "--spacing",
        metavar="A:B[:STEP]",
        help="spacing: bases between two motifs, or from the window's middle to a single one's; "
        "--spacing=-100:100 where A is negative",
    )
    parser.add_argument(
        "--draw",
        type=int,
        metavar="N",
        help="draw N of the windows (default: 100 of marginal, else all)",
    )
    parser.add_argument(
        "--background",
        choices=("shuffled", "genomic"),
        help="shuffles of the windows, or themselves (default: shuffled of marginal, else genomic)",
    )
    parser.add_argument(
        "--controls",
        type=int,
        default=20,
        metavar="N",
        help="marginal: other orders of a motif's letters (default: %(default)s)",
    )
    parser.add_argument(
        "--shuffles",
        type=int,
        default=10,
        metavar="N",
        help="ablate: orders of the bases of sites, whose mean counts (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)"
    )
    add_explain_out(parser)
    parser.add_argument(
        "--chrom-names",
        choices=CHROM_NAMES,
        help="a BED file's chromosomes without (strip) or with (add) a leading chr",
    )
    add_prediction(parser)
    add_target_names(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _check_options(args: argparse.Namespace) -> None:
    """Numbers out of range, and options that an experiment does not take."""
    require_at_least(args, draw=2, batch_size=1, seed=0)
    for flag, kind in (("bases", "ablate"), ("spacing", "spacing")):
        if getattr(args, flag) is not None and args.experiment != kind:
            raise InputError(f"--{flag}: goes with {kind}. Leave it out.")
    if args.experiment == "spacing" and args.spacing is None:
        raise InputError("--spacing: needed, A:B[:STEP]. Add it.")
    if args.experiment == "ablate" and (args.motifs is None) == (args.bases is None):
        raise InputError("ablate takes --motifs or --bases. Give one of the two.")
    if args.experiment == "spacing" and not 1 <= len(args.motifs or ()) <= 2:
        raise InputError(f"--motifs: one or two. Received: {len(args.motifs or ())}.")
    if args.experiment == "marginal" and args.motifs is None and args.motif_file is None:
        raise InputError("marginal takes --motifs, or --motif-file for all of its motifs. Add one.")


def _bases(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None:
        raise InputError(f"--bases: A:B, from base A up to B, from 0. Received: {text!r}.")
    return int(found[1]), int(found[2])


def default_out(args: argparse.Namespace) -> Path:
    """Where an experiment goes that was not told: into the run, for its report."""
    what = args.bases or "+".join(args.motifs or [args.motif_file.name.split(".")[0]])
    name = f"{args.experiment} {what} {args.targets or ''}"
    return explain_folder(args.model, name, longest=LONGEST)


@command(parser, insert="--motifs", sites="--motifs or --bases")
def main(argv: list[str] | None = None) -> int:
    """Make the experiment and write it.

    Raises:
        InputError: a user's mistake, such as a motif longer than the window.
    """
    begin = time.monotonic()
    args = parser().parse_args(argv)
    set_up_logging()
    _check_options(args)
    args.out = args.out or default_out(args)
    refuse_unmarked(args.out, "experiments", overwrite=args.overwrite, marker=SUMMARY)
    model_file(args.model)
    with contextlib.ExitStack() as stack:
        source = _open(args, stack)  # before TensorFlow starts, which takes seconds
        start_tensorflow()
        from danq_keras.models.trained import load_model, window_of

        model = load_model(args.model, targets=args.target_names)
        targets = None if args.targets is None else args.targets.split(",")
        codes, skipped = _windows(args, source, window_of(model))
        how = {"strands": args.strands, "batch_size": args.batch_size}
        if args.motif_file is not None:
            how["motif_file"] = args.motif_file
        if args.experiment == "spacing":
            _spacing(args, model, codes, targets, how)
        else:
            _effects(args, model, codes, targets, how)
        left_out = write_skipped(args.out, skipped, "intervals")
        if left_out is not None:
            log.info("%s", left_out)
    update_report(args.out)
    print(f"{args.out}: {len(codes):,} windows, {time.monotonic() - begin:.1f} s")
    return 0


def _effects(args: argparse.Namespace, model, codes, targets, how) -> None:  # type: ignore[no-untyped-def]
    """`marginal` and `ablate`."""
    from danq_keras.interpret.experiments import ablation_effects, marginal_effects
    from danq_keras.interpret.insertions import named_motifs

    if args.experiment == "marginal":
        motifs = args.motifs or [motif.id for motif in named_motifs(args.motif_file)]
        found = marginal_effects(
            model, codes, motifs, targets, controls=args.controls, seed=args.seed, **how
        )
        what = f"{shown(motifs)} put into {len(codes):,} {_background(args)} windows"
    else:
        sites = args.motifs or _bases(args.bases)
        found = ablation_effects(
            model, codes, sites, targets, shuffles=args.shuffles, seed=args.seed, **how
        )
        what = f"{shown(args.motifs or [f'bases {args.bases}'])} taken out of {args.windows.name}"
    found.save(args.out, title=what, overwrite=args.overwrite)
    table = found.table.sort_values("q_value", kind="stable").head(20)
    for row in table.to_dict("records"):
        line = f"  {row[found.rows]} on {row['target']}: {row['effect']:+.3f} "
        line += f"({row['low']:+.3f} to {row['high']:+.3f})"
        if not math.isnan(row["control"]):
            line += f", chance {row['control']:+.3f}"
        print(line if math.isnan(row["q_value"]) else f"{line}, q {row['q_value']:.1e}")
    if len(found.table) > len(table):
        print(f"  … {len(found.table) - len(table):,} more rows in effects.tsv")


def _spacing(args: argparse.Namespace, model, codes, targets, how) -> None:  # type: ignore[no-untyped-def]
    from danq_keras.interpret.experiments import experiment_folder
    from danq_keras.interpret.files import write_summary
    from danq_keras.interpret.insertions import spacing_response

    targets = list(model.targets.names) if targets is None else targets
    found = spacing_response(model, codes, args.motifs, targets, spacing=args.spacing, **how)
    with experiment_folder(args.out, codes, overwrite=args.overwrite) as folder:
        found.table.to_csv(folder / "spacing.tsv", sep="\t", index=False, float_format="%.6g")
        found.plot(folder / "spacing.png")
        title = f"{' and '.join(found.motifs)} in {len(codes):,} windows of {args.windows.name}"
        caption = f"{title}: response of the targets, 95 % bands over windows; shaded: at least "
        caption += "half-way up from the lowest to the highest, around it"
        pictures = [{"file": "spacing.png", "caption": caption}]
        write_summary(folder, {"title": title, "pictures": pictures})
    for line in found.peaks():
        print(line)


def shown(names: list[str]) -> str:
    """Such as `A, B and 3 more`."""
    few = ", ".join(names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"


def _background(args: argparse.Namespace) -> str:
    default = "shuffled" if args.experiment == "marginal" else "genomic"
    return str(args.background or default)


def _open(args: argparse.Namespace, stack: contextlib.ExitStack) -> Genome | Intervals:
    """The FASTA file of windows, or the intervals of a BED file in their genome."""
    if is_fasta(args.windows):
        if args.genome is not None:
            raise InputError(f"--genome: {args.windows} is FASTA itself. Leave it out.")
        return stack.enter_context(Genome(args.windows))
    if args.genome is None:
        raise InputError(f"--genome: needed for the intervals of {args.windows}. Add the FASTA.")
    genome = stack.enter_context(Genome(args.genome))
    return Intervals.read(args.windows, genome, chrom_names=args.chrom_names)


def _windows(
    args: argparse.Namespace, source: Genome | Intervals, window: int
) -> tuple[Bytes, list[Skipped]]:
    """Codes (n, L) of the windows, drawn and shuffled as is wanted, and what has no window."""
    skipped: list[Skipped] = []
    if isinstance(source, Genome):
        names = [name for name, length in source.lengths.items() if length == window]
        if len(names) < len(source.lengths):
            log.warning(
                "%s: %d of %d records are left out, as they are not of the network's %d bases.",
                source.path,
                len(source.lengths) - len(names),
                len(source.lengths),
                window,
            )
        codes = [source.codes(name) for name in names]
    else:
        kept, skipped, starts = source.centred(window)
        bed = source.bed
        codes = list(source.codes(np.array(bed.names, np.str_)[bed.chrom[kept]], starts, window))
    n = args.draw or (100 if args.experiment == "marginal" else len(codes))
    rng = np.random.default_rng([args.seed, 0xD6])
    if n < len(codes):
        codes = [codes[i] for i in np.sort(rng.choice(len(codes), n, replace=False))]
    if len(codes) < 2 or not (np.stack(codes) < UNKNOWN).any():
        raise InputError(
            f"{args.windows}: at least 2 windows of {window} bases are needed, with known bases. "
            f"Received: {len(codes)}. Give others."
        )
    if _background(args) == "genomic":
        return np.stack(codes), skipped
    from danq_keras.interpret.experiments import shuffled_windows

    return shuffled_windows(np.stack(codes), n, seed=args.seed), skipped


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
