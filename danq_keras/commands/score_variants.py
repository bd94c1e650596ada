"""`score_variants.py`: what a network says of the alleles of a VCF file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from danq_keras import __version__
from danq_keras.commands.options import (
    add_model,
    add_target_names,
    print_complete,
    require_at_least,
)
from danq_keras.data.targets import TARGET_COLUMNS
from danq_keras.genome.bed import CHROM_NAMES
from danq_keras.models.shipped import model_file
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import refuse_existing, refuse_input
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging
from danq_keras.variants.effects import EFFECTS

if TYPE_CHECKING:
    from danq_keras.genome.fasta import Genome
    from danq_keras.variants.score import ScoreSummary
    from danq_keras.variants.vcf import VcfFile

_EPILOG = """\
POS, the first base of REF, stands at index L/2 - 1 of the window (499 of 1000); ALT takes the place
of REF, and the window is cut or filled from the genome on its right. Probabilities are means of
both strands; difference = P(ALT) - P(REF), log-odds difference = logit P(ALT) - logit P(REF).

VCF is a VCF or BCF file, or a list of chrom, pos, name, ref, alt without header, as DeepSEA takes
it; - is standard input. FILE is one of
  .h5          ref_pred, alt_pred, diff, logodds (a row per alternative allele), evalue
  .tsv[.gz]    max_abs_diff, max_target, and the differences of each target; of a sorted VCF:
               tabix -s 1 -b 2 -e 2 -S 1 FILE.tsv.gz
  .vcf[.gz]    the lines of the VCF as they are, with INFO fields added: the largest difference, and
               those of --targets (DANQ_DIFF_<target>, DANQ_LOGODDS_<target>)
Alleles that cannot be scored are listed with their reason in FILE.skipped.tsv. Stopped (Ctrl-C, a
killed process, a full disk), the same command with --resume goes on.

An E-value is the share (k + 1)/(n + 1) of background variants with a larger effect on a target;
SNVs are compared with SNVs. An effect is absdiff, logodds (both absolute) or their product.

examples:
  bin/score_variants.py runs/danq-mine variants.vcf.gz --genome genome.fa --out effects.h5
  bin/score_variants.py runs/danq-mine common.vcf.gz --genome genome.fa --save-background bg.h5
  bin/score_variants.py runs/danq-mine variants.vcf.gz --genome genome.fa --out effects.tsv.gz \\
      --background bg.h5 --targets Reb1,Abf1
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="score_variants.py",
        description="Predict the effect of every allele of a VCF file on every target.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument("vcf", type=Path, metavar="VCF", help="variants, see below")
    parser.add_argument("--genome", type=Path, required=True, metavar="FA", help="FASTA file")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--out", type=Path, metavar="FILE", help="effects to write, see below")
    output.add_argument(
        "--save-background",
        type=Path,
        metavar="FILE",
        help="instead keep the sizes of the effects as a background (.h5)",
    )
    parser.add_argument(
        "--targets",
        metavar="A,B",
        help="targets to write, by number or name (default: all; in a .vcf none but the largest)",
    )
    parser.add_argument(
        "--with-probs",
        action="store_true",
        help="also P(REF) and P(ALT) in text files (an .h5 always has them)",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="in a .tsv, instead of all targets: the N that gain and the N that lose most",
    )
    parser.add_argument(
        "--by",
        choices=TARGET_COLUMNS,
        help="in a .tsv, instead of all targets: the largest difference of all targets of an "
        "assay (factor), cell type, treatment or group",
    )
    parser.add_argument(
        "--background",
        type=Path,
        metavar="FILE",
        help="for E-values: a VCF file, or what --save-background wrote",
    )
    parser.add_argument(
        "--effect",
        choices=EFFECTS,
        help="effect of the background (default: absdiff, or that of a saved background)",
    )
    parser.add_argument(
        "--measured",
        type=Path,
        metavar="TABLE",
        help="with an .h5: hold the log-odds against measured effects (contig or chrom, position, "
        "ref, alt, effect; by experiment): FILE.measured.tsv and .png",
    )
    parser.add_argument(
        "--on-mismatch",
        choices=("error", "skip"),
        default="error",
        help="when REF differs from the genome (default: %(default)s)",
    )
    parser.add_argument(
        "--chrom-names",
        choices=CHROM_NAMES,
        help="take chr away from the chromosomes of the VCF, or put it before them, to fit FA",
    )
    parser.add_argument(
        "--strands",
        choices=("both", "forward"),
        help="mean of both strands, or the forward one alone (default: what the network "
        "was trained on)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=200,
        metavar="N",
        help="windows at once (default: %(default)s)",
    )
    add_target_names(parser)
    parser.add_argument("--resume", action="store_true", help="go on with a FILE that was stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace what is written")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _check_outputs(args: argparse.Namespace) -> None:
    """Everything that is wrong with the outputs is found before any work."""
    from danq_keras.variants.files import output_kind, skipped_path

    if args.out is not None:
        output_kind(args.out)
        outputs = [args.out, skipped_path(args.out)]
    else:
        outputs = [args.save_background]
        if args.save_background.suffix not in (".h5", ".hdf5"):
            raise InputError(
                f"{args.save_background}: a background is an .h5 file. Choose a name ending so."
            )
        if args.background is not None:
            raise InputError("--background: is for --out. Leave it out with --save-background.")
        if args.resume:
            raise InputError("--resume: is for --out. Leave it out with --save-background.")
    if args.measured is not None:
        if args.out is None or output_kind(args.out) != ".h5":
            raise InputError("--measured: goes with --out FILE.h5. Choose a name ending so.")
        outputs += [measured_path(args.out), measured_path(args.out).with_suffix(".png")]
    if (args.top, args.by) != (None, None) and not (
        args.out and output_kind(args.out).startswith(".tsv")
    ):
        raise InputError("--top and --by: for a .tsv or .tsv.gz as --out. Leave them out.")
    if args.effect is not None and args.background is args.save_background is None:
        raise InputError("--effect: is of a background. Give --background or --save-background.")
    for path in outputs:
        if path.is_dir():
            raise InputError(f"{path}: this is a folder, a file is written. Choose another name.")
        refuse_input(path, (args.vcf, args.genome, args.background, args.measured))
        refuse_existing(path, overwrite=args.overwrite or args.resume)


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Score and write.

    Raises:
        InputError: a user's mistake, such as a VCF file made with another genome.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    require_at_least(args, top=1)
    if args.batch_size < 2:
        raise InputError(
            f"--batch-size: at least 2, the windows of an SNV. Received: {args.batch_size}."
        )
    _check_outputs(args)
    from danq_keras.variants.growing import is_complete

    if args.resume and is_complete(args.out):
        print_complete(args.out)
        if args.measured is not None:
            _hold_against(args)
        return 0
    model_file(args.model)
    if args.measured is not None:
        from danq_keras.variants.measured import check_measured

        check_measured(args.measured)
    from danq_keras.genome.fasta import Genome
    from danq_keras.variants.vcf import VcfFile

    vcf = VcfFile(args.vcf)
    with Genome(args.genome) as genome:  # before TensorFlow starts
        start_tensorflow()
        _score(args, vcf, genome)
    return 0


def _score(args: argparse.Namespace, vcf: "VcfFile", genome: "Genome") -> None:
    """Score the variants, say what was done."""
    from danq_keras.models.trained import load_model
    from danq_keras.variants.background import is_background, write_background
    from danq_keras.variants.files import ShortForm
    from danq_keras.variants.score import (
        DEFAULT_EFFECT,
        ScoreOptions,
        background_for,
        describe_background,
        make_background,
        score_to_file,
        survey_variants,
    )
    from danq_keras.variants.scorer import variant_window
    from danq_keras.variants.windows import WindowCutter

    model = load_model(args.model, targets=args.target_names)
    cutter = WindowCutter(genome, variant_window(model), chrom_names=args.chrom_names)
    chosen = None if args.targets is None else model.targets.find(args.targets.split(","))
    options = ScoreOptions(
        strands=args.strands or model.strands,
        on_mismatch=args.on_mismatch,
        batch_size=args.batch_size,
        chosen=None if chosen is None else tuple(chosen),
        with_probs=args.with_probs,
        short=None if (args.top, args.by) == (None, None) else ShortForm(args.top or 0, args.by),
        overwrite=args.overwrite,
        resume=args.resume,
    )
    if args.save_background is not None:
        effect = args.effect or DEFAULT_EFFECT
        made = make_background(model, vcf, cutter, effect=effect, options=options)
        write_background(args.save_background, made[0], overwrite=args.overwrite)
        print(f"{args.save_background}: {describe_background(*made)}")
        return
    background, survey = None, None
    if args.background is not None:
        if not is_background(args.background):  # long work: check first
            survey = survey_variants(vcf, cutter, on_mismatch=args.on_mismatch)
        background, _ = background_for(
            args.background, model, cutter, effect=args.effect, options=options
        )
    done = score_to_file(
        model, vcf, cutter, args.out, options=options, background=background, survey=survey
    )
    _report(args, len(model.targets), done, options.strands)
    if args.measured is not None:
        _hold_against(args)


def measured_path(out: Path) -> Path:
    """Where the correlations with measured effects go."""
    return out.with_name(f"{out.name}.measured.tsv")


def _hold_against(args: argparse.Namespace) -> None:
    """Correlate what was scored with what was measured."""
    import pandas as pd

    from danq_keras.variants.effects import log_odds_difference
    from danq_keras.variants.measured import compare_measured
    from danq_keras.variants.reader import read_effects

    effects = read_effects(args.out)
    alleles = pd.DataFrame({n: getattr(effects, n) for n in ("chrom", "pos", "ref", "alt")})
    log_odds = log_odds_difference(effects.ref_pred, effects.alt_pred)
    found = compare_measured(alleles, log_odds, effects.targets, args.measured)
    found.save(measured_path(args.out), overwrite=args.overwrite or args.resume)
    for element, rows in found.table.groupby("element", sort=False):
        best = rows.iloc[0]
        print(
            f"  {element}: {best['variants']:,} measured; of {len(rows)} targets "
            f"{best['target']} correlates most, {best['spearman']:.2f} "
            f"({best['low']:.2f} to {best['high']:.2f})"
        )
    print(f"{measured_path(args.out)}: every element and target")


def _report(args: argparse.Namespace, n_targets: int, done: "ScoreSummary", chosen: str) -> None:
    from danq_keras.variants.files import skipped_path
    from danq_keras.variants.score import left_out

    survey = done.survey
    strands = "both strands" if chosen == "both" else "forward strand"
    seconds = max(done.seconds, 1e-9)
    print(
        f"{args.out}: {survey.n_alleles:,} alleles of {survey.n_records:,} records × "
        f"{n_targets:,} targets, {strands}, {seconds:.1f} s "
        f"({survey.n_alleles / seconds:,.0f} alleles/s, network "
        f"{100 * done.seconds_in_network / seconds:.0f} % of the time)"
    )
    if survey.n_skipped:
        print(f"{skipped_path(args.out)}: {left_out(survey)}")
    if survey.first_unsorted:
        print(
            f"{args.vcf}: not in order of position, first at {survey.first_unsorted}; scored in "
            "the file's order"
        )
    if survey.n_repeated:
        print(f"{survey.n_repeated:,} alleles repeat one at the same place; each was scored")
    if survey.n_cut:
        print(f"{survey.n_cut:,} alleles reach past the right end of the window and were cut there")
    if done.n_without_evalue:
        print(
            f"{done.n_without_evalue:,} alleles have no E-value: the background has none of their "
            "kind"
        )


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
