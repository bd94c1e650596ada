"""FASTA + BED → store: which bins there are, which split each belongs to, which of them are kept.

`build_dataset` takes paths, data frames and choices; `GenomeSpec` holds every choice,
`build_from_spec` does the work, `BuildSummary` tells what came out and what was left out.
Chromosomes are gone through one by one: first all bins are labelled and counted, then
`build_write` writes the kept windows, with the coordinates of the window. Rows
are in the order of the chromosomes, then of the bins; so they stand together by chromosome.

Bins are given by their starts (m,) int64; a window is a bin with as many bases on either side.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.build_summary import BuildSummary, Stopwatch
from danq_keras.data.build_write import REVERSED, SHUFFLED, Bins, write_splits
from danq_keras.data.labels import (
    NOT_CHOSEN,
    NOT_IN_GENOME,
    BinLabels,
    PeakSource,
    label_bins,
    load_ignored,
    load_peaks,
    name_targets,
    read_regions,
)
from danq_keras.data.negatives import Negatives, composition, draw_matching
from danq_keras.data.spec import BuildChoices, GenomeSpec
from danq_keras.data.splits import (
    ACROSS_BORDER,
    IN_NO_SPLIT,
    LEFT_OUT,
    TRAIN,
    SplitMap,
    require_chroms,
    split_by_options,
    split_by_table,
)
from danq_keras.data.store import DATASET_FILES, SPLITS, STRANDS, Dataset, StoreHeader, open_store
from danq_keras.data.store_write import new_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome.bed import Bed
from danq_keras.genome.dna import Bytes, pack_labels
from danq_keras.genome.fasta import Genome, Positions
from danq_keras.genome.intervals import SpanLists, Spans, covered_bases, merge
from danq_keras.genome.packed import unknown_runs
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike, refuse_existing, refuse_replacing
from danq_keras.system.terminal import log, progress

PeakInput: TypeAlias = PathLike | pd.DataFrame | Sequence[PathLike | pd.DataFrame]

# Why a bin is left out, in the order of the tests: the first reason counts.
TWICE = "listed twice in `bins`"
SHORT = "short last bin of a chromosome"
PAST_END = "window reaches past an end of its chromosome"
EXCLUDED = "overlaps an excluded region"
UNLABELLED = "no peak"
NEAR_A_PEAK = "no peak, but a window that touches one or an excluded region"
NOT_DRAWN = "no peak, and not drawn as a negative"
UNWANTED = "no peak of the `keep_if` targets"
BORDER = "across a border between splits"
SPLITLESS = "in no split"
UNKNOWN_BASES = "too many unknown bases"
ADJACENT = "training window overlaps a validation or test bin"
BEYOND_FIRST = "after the first `max_train` training windows"
# Why a peak gave no bin a label.
NO_BIN = "covers too little of every bin"
IGNORED = "its bins do not count for its target (`ignore`)"
BINS_LEFT_OUT = "its bins were left out"


@dataclass(frozen=True, eq=False)
class _Plan:
    """Everything that the labelling of a chromosome needs."""

    spec: GenomeSpec
    genome: Genome
    peaks: SpanLists
    splits: SplitMap
    wanted: Bytes | None  # the label bits (ceil(T/8),) of the targets that keep a bin
    exclude: Bed | None
    bins: Bed | None
    ignore: SpanLists | None

    @property
    def strands(self) -> tuple[int, ...]:
        """0 for the forward strand or for both, 1 for the reverse strand."""
        return (0, 1) if self.spec.strands == "given" else (0,)

    @property
    def from_genome(self) -> bool:
        """Whether windows without a peak are looked for."""
        negatives = self.spec.negatives
        return negatives is not None and Negatives.parse(negatives).kind == "genome"

    def peaks_on(self, chrom: str, strand: int) -> list[Spans]:
        """The peaks of each target on a strand."""
        n_targets = len(self.peaks[chrom]) // len(self.strands)
        return self.peaks[chrom][strand * n_targets : (strand + 1) * n_targets]


def build_dataset(
    out: PathLike,
    *,
    genome: PathLike,
    peaks: PeakInput | Mapping[str, PeakInput] = (),
    targets: PathLike | None = None,
    test_chroms: Sequence[str] = (),
    valid_region: str | None = None,
    overwrite: bool = False,
    **choices: Unpack[BuildChoices],
) -> Dataset:
    """Build a dataset from a genome and peaks.

    Args:
        out: the new dataset folder.
        genome: FASTA file, plain, bgzip or gzip.
        peaks: BED or narrowPeak files, one a target, named by the file; or target → its file or
            files, or its peaks as a data frame with the columns `chrom`, `start`, `end` (0-based,
            half-open) and optional `signal` and `summit`.
        targets: table that names the targets of files, with the columns `file` and `name` and
            optional `cell_type`, `assay`, `treatment`, `group`; None names them by file.
        test_chroms: names of the chromosomes of the test split.
        valid_region: CHROM or CHROM:START-END (1-based, inclusive) of the validation split.
        overwrite: whether to replace `out` if it is there.
        **choices: everything else that can be chosen, such as `bin`, `window` and `min_overlap`:
            see `spec.GenomeSpec`.

    Returns:
        The dataset; its `summary` says what was left out, and why.

    Raises:
        InputError: a file or a choice is unusable, or no bin is left, or their number is not the
            expected one; nothing is written.

    Example:
        data = build_dataset("data/yeast", genome="sacCer3.fa.gz", peaks={"REB1": peaks},
                             test_chroms=["chr8", "chr9"], valid_region="chr7")
        print(data.summary.describe())
    """
    out = Path(out)
    refuse_replacing(out, "genome", overwrite=overwrite, written=DATASET_FILES)
    spec = GenomeSpec.of(
        genome=genome,
        peaks=peaks,
        targets=targets,
        test_chroms=test_chroms,
        valid_region=valid_region,
        **choices,
    )
    summary = build_from_spec(out, spec, overwrite=overwrite)
    return dataclasses.replace(open_store(out), summary=summary)


def build_from_spec(out: Path, spec: GenomeSpec, *, overwrite: bool = False) -> BuildSummary:
    """Build a dataset folder from a genome and peaks.

    Args:
        out: the new dataset folder.
        spec: every choice of the build.
        overwrite: whether to replace `out` if it is there.

    Returns:
        What came out, and what was left out.

    Raises:
        InputError: a file or a choice is unusable, or no bin is left, or their number is not the
            expected one; nothing is written.
    """
    begin, watch = time.perf_counter(), Stopwatch()
    refuse_existing(out, overwrite=overwrite)
    targets, sources = name_targets(spec.peaks, spec.targets)
    summary = BuildSummary.empty(targets, SPLITS)
    with contextlib.ExitStack() as stack:
        with watch.stage("opening the FASTA (its index is made when missing)"):
            genome = stack.enter_context(Genome(spec.genome))
        with watch.stage("reading peaks and regions"):
            plan = _make_plan(spec, genome, sources, summary)
        with watch.stage("labelling bins"):
            kept = _label_genome(plan, summary)
        if spec.negatives is not None:
            with watch.stage("choosing negatives"):
                kept = _with_negatives(plan, kept, summary)
        _check_counts(spec, summary)
        header = StoreHeader(
            spec.window,
            spec.bin,
            STRANDS[spec.strands],
            targets,
            spec.describe(),
            one_strand=spec.strands == "given",
        )
        with new_dataset(out, overwrite=overwrite) as folder:
            write_splits(folder, header, kept, genome=genome, watch=watch, seed=spec.seed)
    summary.warn_of_gaps()
    summary.seconds, summary.stages = time.perf_counter() - begin, watch.seconds
    return summary


def _check_counts(spec: GenomeSpec, summary: BuildSummary) -> None:
    n_windows = summary.n_windows
    if not sum(n_windows.values()):
        reasons = ", ".join(f"{n} {why}" for why, n in summary.bins_left_out.most_common())
        raise InputError(f"No bin is left ({reasons}). Check the peaks and the options.")
    if spec.expect_windows is not None and spec.expect_windows != tuple(n_windows.values()):
        expected = dict(zip(SPLITS, spec.expect_windows, strict=True))
        raise InputError(
            f"`expect_windows`: expected {_listed(expected)}. Received {_listed(n_windows)}. "
            "Check the bins and the splits; nothing was written."
        )


def _listed(n_windows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in n_windows.items())


def _make_plan(
    spec: GenomeSpec,
    genome: Genome,
    sources: Sequence[Sequence[PeakSource]],
    summary: BuildSummary,
) -> _Plan:
    targets, lengths, names = summary.targets, genome.lengths, spec.chrom_names
    exclude, bins = (
        read_regions(path, lengths, chrom_names=names) if path else None
        for path in (spec.exclude, spec.bins)
    )
    chroms = _chosen_chroms(spec, genome, bins)
    wanted = _wanted_bits(spec, targets) if spec.keep_if else None
    if spec.split_table:
        splits = split_by_table(genome, spec.split_table, chrom_names=names)
    else:
        splits = split_by_options(
            genome, test_chroms=spec.test_chroms, valid_region=spec.valid_region
        )
    outside = [chrom for chrom in splits.by_chrom if chrom not in chroms]
    if outside:
        raise InputError(
            f"The splits name chromosomes that are not in `chroms`: {shorten(outside)}. "
            "Add them there, or leave them out here."
        )
    ignore = None
    if spec.ignore:
        ignore = load_ignored(spec.ignore, targets, lengths, chroms=chroms, chrom_names=names)
    peaks = load_peaks(
        sources,
        lengths,
        chroms=chroms,
        summary=summary,
        resize=spec.resize_peaks,
        min_signal=spec.min_signal,
        chrom_names=names,
        by_strand=spec.strands == "given",
    )
    return _Plan(spec, genome, peaks, splits, wanted, exclude, _check_bins(bins, spec), ignore)


def _check_bins(bins: Bed | None, spec: GenomeSpec) -> Bed | None:
    if bins is not None:
        wrong = np.flatnonzero(bins.ends - bins.starts != spec.bin)
        if len(wrong):
            raise InputError(
                f"{bins.path}: every bin must have {spec.bin} bases. Received "
                f"{bins.describe(int(wrong[0]))}. Correct the file, or change `bin`."
            )
        if np.count_nonzero(np.diff(bins.chrom)) >= len(bins.names):
            log.warning(
                "%s: the bins of a chromosome do not stand together; the rows of the dataset will.",
                bins.path,
            )
    return bins


def _chosen_chroms(spec: GenomeSpec, genome: Genome, bins: Bed | None) -> list[str]:
    """The chromosomes in row order: as chosen, else as in `bins`, else as in the FASTA."""
    chroms = spec.chroms or tuple(genome.lengths)
    require_chroms(chroms, genome, "`chroms`")
    if bins is not None and not spec.chroms:
        listed = [bins.names[code] for code in dict.fromkeys(bins.chrom.tolist())]
        chroms = (*(chrom for chrom in listed if chrom in genome.lengths), *chroms)
    return list(dict.fromkeys(chroms))


def _wanted_bits(spec: GenomeSpec, targets: Targets) -> Bytes:
    """Label bits of the targets of `keep_if`: names, numbers or groups."""
    groups = targets.column("group")
    wanted = np.zeros(len(targets), bool)
    for text in spec.keep_if:
        members = [i for i, group in enumerate(groups) if group == text]
        wanted[targets.find([text]) if text in targets.names or not members else members] = True
    return pack_labels(wanted)


def _label_genome(plan: _Plan, summary: BuildSummary) -> list[Bins]:
    lengths, left_out = plan.genome.lengths, summary.bins_left_out
    for chrom in lengths.keys() - plan.peaks.keys():
        on_chrom = -(-lengths[chrom] // plan.spec.bin)
        left_out[NOT_CHOSEN] += on_chrom if plan.bins is None else len(plan.bins.on(chrom)[0])
    if plan.bins is not None:
        codes = [i for i, name in enumerate(plan.bins.names) if name not in lengths]
        left_out[NOT_IN_GENOME] += int(np.isin(plan.bins.chrom, codes).sum())
    total = sum(lengths[chrom] for chrom in plan.peaks)
    kept = []
    with progress(total=total, desc="label", unit="b", unit_scale=True) as bar:
        for chrom in plan.peaks:
            bar.set_description(f"label {chrom}", refresh=False)
            strands = [_label_chromosome(plan, chrom, strand, summary) for strand in plan.strands]
            kept.append(strands[0] if len(strands) == 1 else strands[0].and_more(strands[1]))
            bar.update(lengths[chrom])
    # Without the reasons that were met 0 times.
    summary.bins_left_out, summary.peaks_left_out = (
        +counts for counts in (summary.bins_left_out, summary.peaks_left_out)
    )
    return kept


def _label_chromosome(plan: _Plan, chrom: str, strand: int, summary: BuildSummary) -> Bins:
    """Label the bins of a chromosome, choose those to keep and count the others."""
    starts, place = _starts(plan, chrom, summary)
    spec = plan.spec
    labels = label_bins(
        plan.peaks_on(chrom, strand),
        starts,
        length=spec.bin,
        above=math.floor(Fraction(str(spec.min_overlap)) * spec.bin),
        ignore=None if plan.ignore is None else plan.ignore[chrom],
    )
    split = plan.splits.of_bins(chrom, starts, length=spec.bin)
    form = np.full(len(starts), REVERSED if strand else 0, np.int8)
    bins = Bins(chrom, starts, split, labels.packed, labels.ignored, form)
    for reason, out in _reasons(plan, bins, place, summary):
        out &= split != LEFT_OUT
        summary.bins_left_out[reason] += int(out.sum())
        split[out] = LEFT_OUT
    _count(summary, labels, split)
    # Back to the order in which a list of bins has them; a grid is in order already.
    rows = np.flatnonzero(split >= 0)
    return bins.at(rows[np.argsort(place[rows], kind="stable")])


def _is_free(plan: _Plan, bins: Bins) -> npt.NDArray[np.bool_]:
    """Bins (m,) whose window touches no peak of any target, on any strand, and no `exclude`."""
    starts, spec = bins.starts - plan.spec.flank, plan.spec
    spans = list(plan.peaks[bins.chrom])
    if plan.exclude is not None:
        spans.append(plan.exclude.on(bins.chrom))
    merged = merge(*(np.concatenate(ends) for ends in zip(*spans, strict=True)))
    return np.asarray(covered_bases(*merged, bins=starts, length=spec.window) == 0)


def _with_negatives(plan: _Plan, kept: list[Bins], summary: BuildSummary) -> list[Bins]:
    """The bins with a peak, and for each so many negatives as were asked for, in its split."""
    spec = plan.spec
    negatives = Negatives.parse(str(spec.negatives))
    if negatives.kind == "shuffle":
        return [_with_shuffles(part, negatives.copies, summary) for part in kept]
    rng = np.random.default_rng([spec.seed, 0x6E0])
    bound = [np.logical_or.reduce(part.labels, axis=1) for part in kept]
    kinds = [
        composition(plan.genome.codes(part.chrom), part.starts - spec.flank, spec.window)
        if len(part.starts)
        else np.empty(0, np.int16)
        for part in kept
    ]
    splits, every = (np.concatenate([part.split for part in kept]), np.concatenate(kinds))
    positive = np.concatenate(bound)
    chosen = positive.copy()
    for code, name in enumerate(SPLITS):
        here = splits == code
        offered = np.flatnonzero(here & ~positive)
        wanted = every[here & positive]
        drawn = draw_matching(wanted, every[offered], negatives.copies, rng)
        chosen[offered[drawn]] = True
        unused = len(offered) - len(drawn)
        summary.bins_left_out[NOT_DRAWN] += unused
        summary.n_windows[name] -= unused
        if len(drawn) < len(wanted) * negatives.copies:
            log.warning(
                "The %s split has %s windows that no peak touches: fewer than %d for each of %s "
                "with a peak.",
                name,
                f"{len(drawn):,}",
                negatives.copies,
                f"{len(wanted):,}",
            )
    edges = np.cumsum([len(part.starts) for part in kept])[:-1]
    return [part.at(rows) for part, rows in zip(kept, np.split(chosen, edges), strict=True)]


def _with_shuffles(part: Bins, copies: int, summary: BuildSummary) -> Bins:
    rows = np.repeat(np.arange(len(part.starts)), copies)
    shuffled = part.at(rows)
    for code, name in enumerate(SPLITS):
        summary.n_windows[name] += int((shuffled.split == code).sum())
    shuffled = dataclasses.replace(
        shuffled,
        labels=np.zeros_like(shuffled.labels),
        ignore=None if shuffled.ignore is None else np.zeros_like(shuffled.ignore),
        form=shuffled.form | np.int8(SHUFFLED),
    )
    return part.and_more(shuffled)


def _starts(
    plan: _Plan, chrom: str, summary: BuildSummary
) -> tuple[Positions, npt.NDArray[np.intp]]:
    """Ascending starts (m,) of all bins of a chromosome, and the place (m,) of each in the list."""
    if plan.bins is not None:
        listed = plan.bins.on(chrom)[0]
        place = np.argsort(listed, kind="stable")
        return listed[place], place
    length, size = plan.genome.lengths[chrom], plan.spec.bin
    starts = np.arange(0, length - size + 1, size, dtype=np.int64)
    summary.bins_left_out[SHORT] += int(length % size > 0)
    return starts, np.arange(len(starts))


def _reasons(
    plan: _Plan, bins: Bins, place: npt.NDArray[np.intp], summary: BuildSummary
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Each reason to leave bins out, with the bins (m,) bool that it meets.

    `bins.split` is updated by the caller between two reasons: the last ones look at what is left.
    """
    spec, length = plan.spec, plan.genome.lengths[bins.chrom]
    starts, split = bins.starts, bins.split
    yield TWICE, np.concatenate([[False], starts[1:] == starts[:-1]])[: len(starts)]
    yield PAST_END, (starts < spec.flank) | (starts + spec.bin + spec.flank > length)
    if plan.exclude is not None:
        excluded = merge(*plan.exclude.on(bins.chrom))
        yield EXCLUDED, covered_bases(*excluded, bins=starts, length=spec.bin) > 0
    labelled = np.logical_or.reduce(bins.labels, axis=1)
    if plan.from_genome:
        yield NEAR_A_PEAK, ~labelled & ~_is_free(plan, bins)
    elif not spec.keep_unlabelled:
        yield UNLABELLED, ~labelled
    if plan.wanted is not None:
        yield UNWANTED, labelled & ~np.logical_or.reduce(bins.labels & plan.wanted, axis=1)
    yield BORDER, split == ACROSS_BORDER
    yield SPLITLESS, split == IN_NO_SPLIT
    windows = starts - spec.flank
    if spec.max_unknown < 1 and (split >= 0).any():
        unknown = covered_bases(
            *unknown_runs(plan.genome.codes(bins.chrom)), bins=windows, length=spec.window
        )
        most = math.floor(Fraction(str(spec.max_unknown)) * spec.window)
        yield UNKNOWN_BASES, unknown > most
    if not spec.allow_adjacent:
        held = starts[split > TRAIN]
        near = covered_bases(*merge(held, held + spec.bin), bins=windows, length=spec.window) > 0
        yield ADJACENT, near & (split == TRAIN)
    if spec.max_train is not None:
        train = np.flatnonzero(split == TRAIN)
        train = train[np.argsort(place[train], kind="stable")]
        beyond = np.zeros(len(starts), bool)
        beyond[train[spec.max_train - summary.n_windows["train"] :]] = True
        yield BEYOND_FIRST, beyond


def _count(summary: BuildSummary, labels: BinLabels, split: npt.NDArray[np.int8]) -> None:
    """Count windows and positives by split, and the peaks that gave no kept bin a label."""
    in_split = split >= 0
    for name, count in zip(SPLITS, np.bincount(split[in_split], minlength=3).tolist(), strict=True):
        summary.n_windows[name] += count
    if labels.ignored is not None:
        summary.ignored += int(np.bitwise_count(labels.ignored[in_split]).sum(dtype=np.int64))
    for target, (first, last) in enumerate(labels.peak_bins):
        covered, positive = labels.covered[target], labels.positive[target]
        kept = positive[in_split[positive]]
        summary.positives[:, target] += np.bincount(split[kept], minlength=len(SPLITS))
        summary.ignored_positives += int(in_split[covered].sum()) - len(kept)
        any_bin, any_counted, any_kept = (
            np.searchsorted(bins, last) > np.searchsorted(bins, first)
            for bins in (covered, positive, kept)
        )
        summary.peaks_left_out[NO_BIN] += int((~any_bin).sum())
        summary.peaks_left_out[IGNORED] += int((any_bin & ~any_counted).sum())
        summary.peaks_left_out[BINS_LEFT_OUT] += int((any_counted & ~any_kept).sum())
