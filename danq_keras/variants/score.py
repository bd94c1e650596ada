"""A VCF file of any length → a file of effects, or a background; streamed in constant memory.

The file is read twice: once to check every allele against the genome, so that a wrong genome is
found before anything is scored, and once to cut windows and score them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from danq_keras.genome.bed import CHROM_NAMES, rename_chrom
from danq_keras.models.trained import TrainedModel, fingerprint
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import atomic_output
from danq_keras.system.terminal import progress
from danq_keras.variants.background import Background, Origin
from danq_keras.variants.files import (
    EffectsHeader,
    ScoredBlock,
    effects_writer,
    output_kind,
    skipped_path,
    skipped_writer,
)
from danq_keras.variants.scorer import VariantScorer
from danq_keras.variants.vcf import VcfFile
from danq_keras.variants.windows import Reason, Survey, WindowCutter


@dataclass(frozen=True)
class ScoreOptions:
    """How variants are scored.

    `strands` "both" or "forward"; `on_mismatch` "error" or "skip"; `batch_size` windows at once;
    `chosen` numbers of the targets that are written, None for all (none in a VCF file);
    `with_probs` also writes P(REF) and P(ALT) into text files; `overwrite` replaces outputs.
    """

    strands: str = "both"
    on_mismatch: str = "error"
    batch_size: int = 200
    chosen: tuple[int, ...] | None = None
    with_probs: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ScoreSummary:
    """What was done: the survey of the VCF file, alleles without E-value, and times in seconds."""

    survey: Survey
    n_without_evalue: int
    seconds: float
    seconds_in_network: float


def survey_file(path: Path, cutter: WindowCutter, *, on_mismatch: str) -> Survey:
    """Look through a VCF file before anything is scored.

    Raises:
        InputError: no variants, none on a chromosome of the genome, or (unless `on_mismatch` is
            "skip") a REF that the genome has not.
    """
    with VcfFile(path) as vcf:
        survey = cutter.survey(vcf, desc=f"check {path.name}")
    if not survey.n_records:
        raise InputError(f"{path}: no variants after the header. Give a VCF file that has some.")
    n_alleles = survey.n_alleles + survey.n_skipped.total()
    lengths = cutter.genome.lengths
    if survey.n_skipped[Reason.CHROMOSOME] == n_alleles:
        fitting = [
            f"Pass --chrom-names {how}"
            for how in CHROM_NAMES
            if any(rename_chrom(name, how, lengths) in lengths for name in survey.unknown_chroms)
        ]
        raise InputError(
            f"{path}: none of its chromosomes is in the FASTA. Received: "
            f"{shorten(list(survey.unknown_chroms), 3)}; the FASTA has "
            f"{shorten(list(lengths), 3)}. "
            f"{fitting[0] if fitting else 'Use the genome that the file was made with'}."
        )
    first = survey.first_mismatch
    if first is not None and on_mismatch == "error":
        advice = (
            "The file was made with another genome: give that one."
            if survey.is_of_another_genome
            else "Use the genome that the file was made with, or pass --on-mismatch skip."
        )
        raise InputError(
            f"{path}: REF differs from the genome in {survey.n_skipped[Reason.MISMATCH]:,} of "
            f"{n_alleles:,} alleles, first at {first.allele.chrom}:{first.allele.pos}: "
            f"{first.detail}. {advice}"
        )
    return survey


def origin_of(model: TrainedModel, *, effect: str, strands: str, source: Path) -> Origin:
    """What a background made of `source` with this model would be."""
    return Origin(
        effect=effect,
        model=fingerprint(model),
        targets=model.targets.names,
        strands=strands,
        source=str(source),
    )


def make_background(
    model: TrainedModel, vcf: Path, cutter: WindowCutter, *, effect: str, options: ScoreOptions
) -> tuple[Background, Survey]:
    """Score a VCF file into a background.

    Args:
        model: the network and the names of its targets.
        vcf: the background's variants.
        cutter: of the network's window length.
        effect: one of `effects.EFFECTS`.
        options: strands, mismatches and batch size.

    Raises:
        InputError: see `survey_file`; or no allele can be scored.
    """
    survey = survey_file(vcf, cutter, on_mismatch=options.on_mismatch)
    if not survey.n_alleles:
        raise InputError(f"{vcf}: none of its alleles can be scored. {left_out(survey)}.")
    origin = origin_of(model, effect=effect, strands=options.strands, source=vcf)
    background = Background(origin)
    scorer = VariantScorer(model, strands=options.strands)
    with VcfFile(vcf) as records, _bar(vcf, survey) as bar:
        for scored in _scored(scorer, records, cutter, options=options, bar=bar):
            background.add(scored.ref, scored.alt, scored.block.is_snv)
    return background, survey


def score_vcf(
    model: TrainedModel,
    vcf: Path,
    cutter: WindowCutter,
    out: Path,
    *,
    options: ScoreOptions,
    background: Background | None = None,
) -> ScoreSummary:
    """Score a VCF file into a file of effects, which appears complete or not at all.

    Args:
        model: the network and the names of its targets.
        vcf: the variants.
        cutter: of the network's window length.
        out: the file, see `effects_files`; its list of left-out alleles stands beside it.
        options: strands, targets and the like.
        background: for E-values; made with this model (see `Background.check`).

    Raises:
        InputError: see `survey_file`; or an output exists.
    """
    survey = survey_file(vcf, cutter, on_mismatch=options.on_mismatch)
    kind, overwrite = output_kind(out), options.overwrite
    header = EffectsHeader(
        targets=model.targets,
        chosen=_chosen(model, kind, options),
        n_alleles=survey.n_alleles,
        with_evalues=background is not None,
        with_probs=options.with_probs,
        attributes=_attributes(model, vcf, cutter, options=options, background=background),
    )
    scorer = VariantScorer(model, strands=options.strands, background=background)
    n_without, begin = 0, time.perf_counter()
    with (
        atomic_output(out, overwrite=overwrite) as effects_path,
        atomic_output(skipped_path(out), overwrite=overwrite) as list_path,
        effects_writer(effects_path, kind, header) as effects,
        skipped_writer(list_path) as skipped,
        VcfFile(vcf, with_lines=kind.startswith(".vcf")) as records,
        _bar(vcf, survey) as bar,
    ):
        for scored in _scored(scorer, records, cutter, options=options, bar=bar):
            effects.write(scored)
            skipped.write(scored)
            if scored.evalue is not None:
                n_without += int(np.isnan(scored.evalue[:, 0]).sum())
    return ScoreSummary(survey, n_without, time.perf_counter() - begin, scorer.seconds)


def _bar(vcf: Path, survey: Survey) -> "tqdm[Any]":
    return progress(total=survey.n_alleles, desc=f"score {vcf.name}", unit="alleles")


def _scored(
    scorer: VariantScorer,
    records: VcfFile,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    bar: "tqdm[Any]",
) -> Iterator[ScoredBlock]:
    for scored in scorer(cutter.blocks(records, options.batch_size)):
        yield scored
        bar.update(len(scored.block.alleles))


def _chosen(model: TrainedModel, kind: str, options: ScoreOptions) -> tuple[int, ...]:
    if options.chosen is not None:
        return options.chosen
    return () if kind.startswith(".vcf") else tuple(range(len(model.targets)))


def _attributes(
    model: TrainedModel,
    vcf: Path,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    background: Background | None,
) -> dict[str, str]:
    attributes = {
        "model": str(model.path),
        "model_fingerprint": fingerprint(model),
        "source": str(vcf),
        "genome": str(cutter.genome.path),
        "strands": options.strands,
    }
    if background is not None:
        attributes["background_source"] = background.origin.source
        attributes["background_effect"] = background.origin.effect
    return attributes


def left_out(survey: Survey) -> str:
    """The left-out alleles in words, by reason."""
    counts = survey.n_skipped.most_common()
    text = "left out: " + ", ".join(f"{n:,} {reason}" for reason, n in counts)
    doubt = "; most REFs differ: the file was probably made with another genome"
    return text + doubt * survey.is_of_another_genome
