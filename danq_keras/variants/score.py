"""Variants scored: into arrays for a notebook, into a file of effects, or into a background.

The variants are read twice: once to check every allele against the genome, so that a wrong genome
is found before anything is scored, and once to cut windows and score them. A file of any length is
scored in constant memory.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from danq_keras.genome.bed import CHROM_NAMES, rename_chrom
from danq_keras.genome.fasta import Genome
from danq_keras.models.trained import TrainedModel, fingerprint, opened
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike
from danq_keras.system.inputs import is_pipe
from danq_keras.system.terminal import log, progress
from danq_keras.variants.background import Background, Origin, is_background, read_background
from danq_keras.variants.effects import Probs, difference, log_odds_difference
from danq_keras.variants.files import EffectsHeader, ScoredBlock, ShortForm, output_kind
from danq_keras.variants.growing import changed, growing_effects
from danq_keras.variants.scorer import VariantScorer, variant_window
from danq_keras.variants.table import VariantTable
from danq_keras.variants.vcf import VcfFile
from danq_keras.variants.windows import Allele, Reason, Survey, WindowCutter

DEFAULT_EFFECT = "absdiff"
Variants: TypeAlias = VcfFile | VariantTable


@dataclass(frozen=True)
class ScoreOptions:
    """How variants are scored.

    `strands` "both" or "forward"; `on_mismatch` "error" or "skip"; `batch_size` windows at once;
    `chosen` numbers of the targets that are written, None for all (none in a VCF file);
    `with_probs` also writes P(REF) and P(ALT) into text files; `short` writes a table for
    people instead of all targets, see `files.ShortForm`; `overwrite` replaces outputs;
    `resume` goes on with an output that was stopped.
    """

    strands: str = "both"
    on_mismatch: str = "error"
    batch_size: int = 200
    chosen: tuple[int, ...] | None = None
    with_probs: bool = False
    short: ShortForm | None = None
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True)
class ScoreSummary:
    """What was done: the survey of the variants, alleles without E-value, and times in seconds."""

    survey: Survey
    n_without_evalue: int
    seconds: float
    seconds_in_network: float


@dataclass(frozen=True, eq=False)
class VariantEffects:
    """What a network says of V alleles for T targets.

    `ref` and `alt` (V, T) float32 are the probabilities of both alleles; `evalue` (V, T) float64
    the shares of the background's alleles with at least such an effect, None without a background.
    `alleles` has one row an allele: chrom, pos (1-based), id, ref, alt; `skipped` one row for each
    allele that was left out, with the reason.
    """

    ref: Probs
    alt: Probs
    evalue: Doubles | None
    alleles: pd.DataFrame
    skipped: pd.DataFrame
    targets: tuple[str, ...]

    @property
    def difference(self) -> Doubles:
        """P(ALT) - P(REF), (V, T) float64."""
        return difference(self.ref, self.alt)

    @property
    def log_odds(self) -> Doubles:
        """Difference of the logits of P(ALT) and P(REF), (V, T) float64."""
        return log_odds_difference(self.ref, self.alt)

    def to_frame(self, values: str = "difference") -> pd.DataFrame:
        """One row an allele, then one column a target.

        Args:
            values: "difference", "log_odds", "ref", "alt" or "evalue".
        """
        table = pd.DataFrame(getattr(self, values), columns=list(self.targets))
        return pd.concat([self.alleles, table], axis=1)


def score_variants(
    model: TrainedModel | PathLike,
    variants: PathLike | pd.DataFrame,
    genome: Genome | PathLike,
    *,
    strands: str | None = None,
    background: Background | PathLike | None = None,
    on_mismatch: str = "error",
    chrom_names: str | None = None,
    batch_size: int = 200,
) -> VariantEffects:
    """Predict both alleles of variants.

    Args:
        model: the network, or its run folder or .keras file.
        variants: VCF file (plain, bgzip, gzip, BCF), or a table with the columns chrom, pos
            (1-based, as in a VCF file), ref, alt and, if wanted, id; alt may name several alleles
            with commas.
        genome: FASTA file that the variants were called against, or an open `Genome`.
        strands: "both" for the mean of both strands, "forward" for the forward strand; None for
            what the network was trained on.
        background: file of a saved background, or one, for E-values; None for none.
        on_mismatch: "error" to refuse variants whose REF the genome has not, "skip" to leave them
            out.
        chrom_names: "strip" or "add" the leading chr of the variants' chromosomes; None for as is.
        batch_size: windows at once, at least 2.

    Returns:
        Probabilities, differences and what was left out.

    Raises:
        InputError: the variants do not fit the genome, or the background is of another model.

    Example:
        >>> effects = dq.score_variants("runs/mine", "variants.vcf.gz", "genome.fa")
        >>> effects.to_frame("log_odds")
    """
    for name, value, allowed in (
        ("strands", strands, (None, "both", "forward")),
        ("on_mismatch", on_mismatch, ("error", "skip")),
        ("chrom_names", chrom_names, (None, *CHROM_NAMES)),
    ):
        if value not in allowed:
            raise InputError(f"`{name}`: one of {allowed}. Received: {value!r}.")
    if batch_size < 2:
        raise InputError(
            f"`batch_size`: at least 2, the windows of an SNV. Received: {batch_size}."
        )
    trained = opened(model)
    strands = strands or trained.strands
    options = ScoreOptions(strands=strands, on_mismatch=on_mismatch, batch_size=batch_size)
    with ExitStack() as stack:
        fasta = genome if isinstance(genome, Genome) else Genome(Path(genome))
        if fasta is not genome:
            stack.enter_context(fasta)
        source: Variants
        if isinstance(variants, pd.DataFrame):
            source = VariantTable(variants)
        else:
            source = VcfFile(Path(variants))
        cutter = WindowCutter(fasta, variant_window(trained), chrom_names=chrom_names)
        if background is not None and not isinstance(background, Background):
            background = saved_background(Path(background), trained, strands=strands)
        return _collected(trained, source, cutter, options=options, background=background)


def _collected(
    model: TrainedModel,
    source: Variants,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    background: Background | None,
) -> VariantEffects:
    survey = survey_variants(source, cutter, on_mismatch=options.on_mismatch)
    scorer = VariantScorer(model, strands=options.strands, background=background)
    with _bar(source, survey) as bar:
        blocks = list(_scored(scorer, source, cutter, options=options, bar=bar))
    empty = np.empty((0, len(model.targets)), np.float32)
    evalues = [each.evalue for each in blocks if each.evalue is not None]
    alleles = [allele for each in blocks for allele in each.block.alleles]
    skipped = [(*each.allele, str(each)) for block in blocks for each in block.block.skipped]
    return VariantEffects(
        ref=np.concatenate([empty, *(each.ref for each in blocks)]),
        alt=np.concatenate([empty, *(each.alt for each in blocks)]),
        evalue=None if background is None else np.concatenate([empty, *evalues]),
        alleles=pd.DataFrame(alleles, columns=list(Allele._fields)),
        skipped=pd.DataFrame(skipped, columns=[*Allele._fields, "reason"]),
        targets=model.targets.names,
    )


def saved_background(
    path: Path, model: TrainedModel, *, strands: str, effect: str | None = None
) -> Background:
    """Read a saved background, and make sure that it is this model's.

    Args:
        path: .h5 file of `score_variants.py --save-background`.
        model: the network that scores the variants.
        strands: how they are scored.
        effect: the effect that is wanted, one of `effects.EFFECTS`; None for the file's.

    Raises:
        InputError: no background, or one of another model, strands or effect.
    """
    saved = read_background(path)
    wanted = effect or saved.origin.effect
    saved.check(origin_of(model, effect=wanted, strands=strands, source=path), path)
    return saved


def background_for(
    path: Path,
    model: TrainedModel,
    cutter: WindowCutter,
    *,
    effect: str | None,
    options: ScoreOptions,
) -> tuple[Background, Survey | None]:
    """A saved background, or one made of a VCF file.

    Args:
        path: .h5 file of a background, or a VCF file (see `is_background`).
        model: the network that scores the variants.
        cutter: cuts windows of the network's length out of the genome.
        effect: one of `effects.EFFECTS`; None for the file's, or the usual one.
        options: strands, mismatches and batch size.

    Returns:
        The background, and the survey of the VCF file that it was made of, if it was.

    Raises:
        InputError: no such file, or see `saved_background` and `make_background`.
    """
    if not (path.exists() or is_pipe(path)):
        raise InputError(f"{path}: no such file. Check `background`.")
    if is_background(path):
        return saved_background(path, model, strands=options.strands, effect=effect), None
    vcf = VcfFile(path)
    made = make_background(model, vcf, cutter, effect=effect or DEFAULT_EFFECT, options=options)
    log.info("%s: %s", path, describe_background(*made))
    return made


def describe_background(background: Background, survey: Survey) -> str:
    """How many alleles a background has, and what was left out."""
    n = background.n
    effect = background.origin.effect
    text = f"background of {n['snv']:,} SNVs and {n['other']:,} other alleles, {effect}"
    return f"{text}; {left_out(survey)}" if survey.n_skipped else text


def survey_variants(source: Variants, cutter: WindowCutter, *, on_mismatch: str) -> Survey:
    """Look through variants before anything is scored.

    Raises:
        InputError: no variants, none on a chromosome of the genome, or (unless `on_mismatch` is
            "skip") a REF that the genome has not.
    """
    path = source.path
    survey = cutter.survey(source.records(), desc=f"check {path.name}")
    for note in source.notes:
        log.warning("%s: %s", path, note)
    if not survey.n_records:
        raise InputError(f"{path}: no variants after the header. Give a VCF file that has some.")
    n_alleles = survey.n_alleles + survey.n_skipped.total()
    lengths = cutter.genome.lengths
    if survey.n_skipped[Reason.CHROMOSOME] == n_alleles:
        fitting = [
            f"Pass `chrom_names={how}`"
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
            else "Use the genome that the file was made with, or pass `on_mismatch=skip`."
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
    model: TrainedModel,
    source: Variants,
    cutter: WindowCutter,
    *,
    effect: str,
    options: ScoreOptions,
) -> tuple[Background, Survey]:
    """Score a VCF file into a background.

    Args:
        model: the network and the names of its targets.
        source: open VCF file, or table, of the background's variants.
        cutter: of the network's window length.
        effect: kind of effect that is ranked, one of `effects.EFFECTS`.
        options: strands, mismatches and batch size.

    Raises:
        InputError: see `survey_variants`; or no allele can be scored.
    """
    survey = survey_variants(source, cutter, on_mismatch=options.on_mismatch)
    if not survey.n_alleles:
        raise InputError(f"{source.path}: none of its alleles can be scored. {left_out(survey)}.")
    origin = origin_of(model, effect=effect, strands=options.strands, source=source.path)
    background = Background(origin)
    scorer = VariantScorer(model, strands=options.strands)
    with _bar(source, survey) as bar:
        for scored in _scored(scorer, source, cutter, options=options, bar=bar):
            background.add(scored.ref, scored.alt, scored.block.is_snv)
    return background, survey


def score_to_file(
    model: TrainedModel,
    source: Variants,
    cutter: WindowCutter,
    out: Path,
    *,
    options: ScoreOptions,
    background: Background | None = None,
    survey: Survey | None = None,
) -> ScoreSummary:
    """Score variants into a file of effects, which appears complete or not at all.

    What is done is kept in `<out>.partial` after a stop, see `growing`.

    Args:
        model: the network and the names of its targets.
        source: open VCF file, or table, of the variants.
        cutter: of the network's window length.
        out: the file, see `files`; its list of left-out alleles stands beside it.
        options: strands, targets and the like, and whether to go on with a stopped `out`.
        background: for E-values; made with this model (see `Background.check`).
        survey: of these variants, where it was made already.

    Raises:
        InputError: see `survey_variants` and `growing_effects`.
    """
    if survey is None:
        survey = survey_variants(source, cutter, on_mismatch=options.on_mismatch)
    kind = output_kind(out)
    header = EffectsHeader(
        targets=model.targets,
        chosen=_chosen(model, kind, options),
        n_alleles=survey.n_alleles,
        with_evalues=background is not None,
        with_probs=options.with_probs,
        attributes=_attributes(model, source, cutter, options=options, background=background),
        vcf_header=source.header,
        vcf_tail=source.tail,
        n_letters=survey.n_letters,
        short=options.short,
    )
    if options.short is not None:
        options.short.kinds(model.targets)
    request = _request(header, kind, source, cutter, options=options, background=background)
    scorer = VariantScorer(model, strands=options.strands, background=background)
    begin = time.perf_counter()
    with (
        growing_effects(
            out, header, request=request, resume=options.resume, overwrite=options.overwrite
        ) as effects,
        _bar(source, survey, effects.alleles) as bar,
    ):
        lines, first = kind.startswith(".vcf"), effects.records
        for scored in _scored(
            scorer, source, cutter, options=options, bar=bar, with_lines=lines, first=first
        ):
            effects.write(scored)
        if effects.records != survey.n_records:
            raise changed(header)
    seconds = time.perf_counter() - begin
    return ScoreSummary(survey, effects.without_evalue, seconds, scorer.seconds)


def _request(
    header: EffectsHeader,
    kind: str,
    source: Variants,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    background: Background | None,
) -> dict[str, Any]:
    """All that decides what is written, so that only the same is gone on with."""
    genome = cutter.genome.path.stat()
    return {
        "model": header.attributes["model_fingerprint"],
        "variants": source.digest(),
        "genome": [str(cutter.genome.path.resolve()), genome.st_size, genome.st_mtime_ns],
        "chrom_names": cutter.chrom_names,
        "targets": list(header.chosen),
        "strands": options.strands,
        "on_mismatch": options.on_mismatch,
        "batch_size": options.batch_size,  # which decides how sums are rounded
        "with_probs": options.with_probs,
        **({} if options.short is None else {"short": [options.short.top, options.short.by]}),
        "background": None if background is None else _digest_of(background),
        "ending": kind,
    }


def _digest_of(background: Background) -> str:
    digest = hashlib.sha256(repr((background.origin, background.n)).encode())
    for kind in sorted(background.counts):
        digest.update(background.counts[kind].tobytes())
    return digest.hexdigest()


def _bar(source: Variants, survey: Survey, done: int = 0) -> "tqdm[Any]":
    desc = f"score {source.path.name}"
    return progress(total=survey.n_alleles, desc=desc, unit="alleles", initial=done)


def _scored(
    scorer: VariantScorer,
    source: Variants,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    bar: "tqdm[Any]",
    with_lines: bool = False,
    first: int = 0,
) -> Iterator[ScoredBlock]:
    records = itertools.islice(source.records(with_lines=with_lines), first, None)
    for scored in scorer(cutter.blocks(records, options.batch_size)):
        yield scored
        bar.update(len(scored.block.alleles))


def _chosen(model: TrainedModel, kind: str, options: ScoreOptions) -> tuple[int, ...]:
    if options.chosen is not None:
        return options.chosen
    none = kind.startswith(".vcf") or options.short is not None
    return () if none else tuple(range(len(model.targets)))


def _attributes(
    model: TrainedModel,
    source: Variants,
    cutter: WindowCutter,
    *,
    options: ScoreOptions,
    background: Background | None,
) -> dict[str, str]:
    attributes = {
        "model": str(model.path),
        "model_fingerprint": fingerprint(model),
        "source": str(source.path),
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
