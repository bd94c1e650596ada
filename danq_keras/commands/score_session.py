"""What `score_variants.py` does once its inputs are open; loads Keras."""

import argparse

import h5py

from danq_keras.genome.fasta import Genome
from danq_keras.models.trained import TrainedModel, load_model
from danq_keras.system.errors import InputError
from danq_keras.system.terminal import log
from danq_keras.variants.background import Background, read_background, write_background
from danq_keras.variants.files import skipped_path
from danq_keras.variants.score import (
    ScoreOptions,
    ScoreSummary,
    left_out,
    make_background,
    origin_of,
    score_vcf,
    survey_file,
)
from danq_keras.variants.scorer import window_of
from danq_keras.variants.windows import Survey, WindowCutter

_DEFAULT_EFFECT = "absdiff"


def run(args: argparse.Namespace, genome: Genome) -> int:
    """Score the variants, say what was done."""
    model = load_model(args.model)
    cutter = WindowCutter(genome, window_of(model), chrom_names=args.chrom_names)
    chosen = None if args.targets is None else model.targets.find(args.targets.split(","))
    options = ScoreOptions(
        strands=args.strands,
        on_mismatch=args.on_mismatch,
        batch_size=args.batch_size,
        chosen=None if chosen is None else tuple(chosen),
        with_probs=args.with_probs,
        overwrite=args.overwrite,
    )
    if args.save_background is not None:
        effect = args.effect or _DEFAULT_EFFECT
        made = make_background(model, args.vcf, cutter, effect=effect, options=options)
        write_background(args.save_background, made[0], overwrite=args.overwrite)
        print(f"{args.save_background}: {_described(*made)}")
        return 0
    background = _background(args, model, cutter, options)
    done = score_vcf(model, args.vcf, cutter, args.out, options=options, background=background)
    _report(args, model, done)
    return 0


def _background(
    args: argparse.Namespace, model: TrainedModel, cutter: WindowCutter, options: ScoreOptions
) -> Background | None:
    """What `--background` names: a saved background, or a VCF file that is scored first."""
    if args.background is None:
        return None
    if not args.background.is_file():
        raise InputError(f"{args.background}: no such file. Check --background.")
    if h5py.is_hdf5(args.background):
        saved = read_background(args.background)
        effect = args.effect or saved.origin.effect
        expected = origin_of(model, effect=effect, strands=args.strands, source=args.background)
        saved.check(expected, args.background)
        return saved
    survey_file(args.vcf, cutter, on_mismatch=args.on_mismatch)  # before the long work
    effect = args.effect or _DEFAULT_EFFECT
    made = make_background(model, args.background, cutter, effect=effect, options=options)
    log.info("%s: %s", args.background, _described(*made))
    return made[0]


def _described(background: Background, survey: Survey) -> str:
    n = background.n
    effect = background.origin.effect
    text = f"background of {n['snv']:,} SNVs and {n['other']:,} other alleles, {effect}"
    return f"{text}; {left_out(survey)}" if survey.n_skipped else text


def _report(args: argparse.Namespace, model: TrainedModel, done: ScoreSummary) -> None:
    survey = done.survey
    strands = "both strands" if args.strands == "both" else "forward strand"
    seconds = max(done.seconds, 1e-9)
    print(
        f"{args.out}: {survey.n_alleles:,} alleles of {survey.n_records:,} records × "
        f"{len(model.targets):,} targets, {strands}, {seconds:.1f} s "
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
    if survey.n_cut:
        print(f"{survey.n_cut:,} alleles reach past the right end of the window and were cut there")
    if done.n_without_evalue:
        print(
            f"{done.n_without_evalue:,} alleles have no E-value: the background has none of their "
            "kind"
        )
