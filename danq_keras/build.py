"""FASTA + BED → store: which bins there are, which split each belongs to, and the writing of them.

`GenomeSpec` holds every choice, `build_dataset` does the work, `BuildSummary` tells what came out
and what was left out. Chromosomes are gone through one by one: first all bins are labelled and
counted, then the kept windows are written, with strands "both" and the coordinates of the window.
Rows are in the order of the chromosomes, then of the bins; so they stand together by chromosome.

Bins are given by their starts (m,) int64; a window is a bin with as many bases on either side.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.bed import Bed, covered_bases, in_genome, merge, read_bed
from danq_keras.build_summary import BuildSummary
from danq_keras.console import InputError, log, progress, refuse_existing
from danq_keras.dna import Bytes
from danq_keras.genome import Genome, PackedSequence, Positions, shorten, unknown_runs
from danq_keras.labels import (
    BinLabels,
    PeakFiles,
    Peaks,
    label_bins,
    load_peaks,
    name_targets,
)
from danq_keras.splits import (
    ACROSS_BORDER,
    IN_NO_SPLIT,
    TRAIN,
    SplitMap,
    require_chroms,
    split_by_options,
    split_by_table,
)
from danq_keras.store import SPLITS, STRANDS_BOTH, Rows, SplitWriter, StoreHeader, new_dataset
from danq_keras.targets import Targets

_BLOCK_ROWS = 8192

# Why a bin is left out, in the order of the tests: the first reason counts.
TWICE = "listed twice in --bins"
FOREIGN = "on a chromosome that the FASTA lacks"
NOT_CHOSEN = "on a chromosome that was not chosen"
SHORT = "short last bin of a chromosome"
PAST_END = "window reaches past an end of its chromosome"
EXCLUDED = "overlaps an excluded region"
UNLABELLED = "no peak"
UNWANTED = "no peak of the --keep-if targets"
BORDER = "across a border between splits"
SPLITLESS = "in no split"
UNKNOWN_BASES = "too many unknown bases"
ADJACENT = "training window overlaps a validation or test bin"
# Why a peak gave no bin a label.
NO_BIN = "covers too little of every bin"
BINS_LEFT_OUT = "its bins were left out"


@dataclass(frozen=True)
class GenomeSpec:
    """What to build a dataset from, and how.

    Attributes:
        genome: FASTA, plain, bgzip or gzip.
        peaks: BED or narrowPeak files, one a target; may be empty when `targets` names them.
        bin: bases a bin.
        window: bases a window, the bin in its middle.
        min_overlap: a bin is positive when more than this share of it lies in peaks.
        resize_peaks: bases that each peak gets around its summit or centre.
        chroms: chromosomes in use, in this order; None takes all of the FASTA, in its order.
        test_chroms: chromosomes of the test split.
        valid_region: CHROM or CHROM:START-END (1-based, inclusive) of the validation split.
        exclude: BED of regions; a bin that shares a base with one is left out.
        bins: BED of bins to use in place of all bins of the genome, in its order as far as the
            bins of a chromosome stand together.
        keep_if: targets by name or number, or groups; a bin needs a peak of one of them.
        keep_unlabelled: keep bins without a peak.
        min_signal: peaks with a lower signal (of a plain BED: score) are left out.
        max_unknown: windows with a larger share of unknown bases are left out.
        targets: table that names the targets (see `labels.name_targets`).
        split_table: table with the columns `chrom`, `split` and optional `start`, `end` (0-based,
            half-open), in place of `test_chroms` and `valid_region`; what it does not list is in
            no split.
        allow_adjacent: keep training windows that overlap a validation or test bin.
        source: what the dataset is, to stand before the description that every split carries.
    """

    genome: Path
    peaks: tuple[Path, ...] = ()
    bin: int = 200
    window: int = 1000
    min_overlap: float = 0.5
    resize_peaks: int | None = None
    chroms: tuple[str, ...] | None = None
    test_chroms: tuple[str, ...] = ()
    valid_region: str | None = None
    exclude: Path | None = None
    bins: Path | None = None
    keep_if: tuple[str, ...] = ()
    keep_unlabelled: bool = False
    min_signal: float | None = None
    max_unknown: float = 1.0
    targets: Path | None = None
    split_table: Path | None = None
    allow_adjacent: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if self.bin < 1:
            raise InputError(f"--bin: must be above zero. Received: {self.bin}.")
        if self.window % 2 or self.window < self.bin or (self.window - self.bin) % 2:
            raise InputError(
                "--window: must be even, not below the bin, and leave as many bases on either side "
                f"of it. Received: window {self.window}, bin {self.bin}."
            )
        if not 0 <= self.min_overlap < 1:
            raise InputError(f"--min-overlap: must be in [0, 1). Received: {self.min_overlap}.")
        if not 0 <= self.max_unknown <= 1:
            raise InputError(f"--max-unknown: must be in [0, 1]. Received: {self.max_unknown}.")
        if self.resize_peaks is not None and self.resize_peaks < 1:
            raise InputError(f"--resize-peaks: must be above zero. Received: {self.resize_peaks}.")
        if self.min_signal is not None and not math.isfinite(self.min_signal):
            raise InputError(f"--min-signal: must be a finite number. Received: {self.min_signal}.")
        if self.keep_if and self.keep_unlabelled:
            raise InputError("--keep-if and --keep-unlabelled exclude each other. Give one.")
        if self.split_table and (self.test_chroms or self.valid_region):
            raise InputError(
                "--split-table takes the place of --test-chroms and --valid-region. Give one kind."
            )

    @property
    def flank(self) -> int:
        """Bases of the window on either side of the bin."""
        return (self.window - self.bin) // 2

    def describe(self) -> str:
        """One line for the store's `source`."""
        choices = [f"bin {self.bin}", f"window {self.window}", f"min-overlap {self.min_overlap}"]
        for name in (
            "resize_peaks",
            "min_signal",
            "valid_region",
            "exclude",
            "bins",
            "split_table",
        ):
            value = getattr(self, name)
            if value is not None:
                text = value.name if isinstance(value, Path) else value
                choices.append(f"{name.replace('_', '-')} {text}")
        if self.test_chroms:
            choices.append(f"test-chroms {','.join(self.test_chroms)}")
        prefix = f"{self.source}; " if self.source else ""
        return f"{prefix}genome {self.genome.name}; {', '.join(choices)}"


@dataclass(frozen=True, eq=False)
class _Kept:
    """The kept bins of a chromosome in row order: `starts` (n,), `split` (n,), `packed` labels."""

    chrom: str
    starts: Positions
    split: npt.NDArray[np.int8]
    packed: Bytes

    def of(self, split: int) -> tuple[Positions, Bytes]:
        rows = self.split == split
        return self.starts[rows], self.packed[rows]


@dataclass(frozen=True, eq=False)
class _Plan:
    """Everything that the labelling of a chromosome needs, and what it counts."""

    spec: GenomeSpec
    genome: Genome
    files: PeakFiles
    peaks: Peaks
    splits: SplitMap
    exclude: Bed | None
    bins: Bed | None
    bins_left_out: Counter[str] = field(default_factory=Counter)
    peaks_left_out: Counter[str] = field(default_factory=Counter)
    positives: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 0), np.int64))


def build_dataset(out: Path, spec: GenomeSpec, *, overwrite: bool = False) -> BuildSummary:
    """Build a dataset folder from a genome and peaks.

    Args:
        out: the new folder.
        spec: what to build.
        overwrite: replace `out` if it is there.

    Raises:
        InputError: a file or a choice is unusable, or no bin is left; nothing is written.
    """
    begin = time.perf_counter()
    refuse_existing(out, overwrite=overwrite)
    files = name_targets(spec.peaks, spec.targets)
    with Genome(spec.genome) as genome:
        plan = _make_plan(spec, genome, files)
        kept = _label_genome(plan)
        n_windows = {
            name: sum(int((part.split == code).sum()) for part in kept)
            for code, name in enumerate(SPLITS)
        }
        if not sum(n_windows.values()):
            reasons = ", ".join(f"{n} {why}" for why, n in (+plan.bins_left_out).most_common())
            raise InputError(f"No bin is left ({reasons}). Check the peaks and the options.")
        with new_dataset(out, overwrite=overwrite) as folder:
            _write(folder, plan, kept, n_windows)
    _warn_of_gaps(files.targets, n_windows, plan.positives)
    return BuildSummary(
        targets=files.targets,
        n_windows=n_windows,
        positives=plan.positives,
        bins_left_out=+plan.bins_left_out,
        n_peaks=plan.peaks.n_read,
        peaks_left_out=plan.peaks.left_out + plan.peaks_left_out,
        seconds=time.perf_counter() - begin,
    )


def _make_plan(spec: GenomeSpec, genome: Genome, files: PeakFiles) -> _Plan:
    exclude, bins = (read_bed(path) if path else None for path in (spec.exclude, spec.bins))
    for bed in (exclude, bins):
        if bed is not None:
            in_genome(bed, genome.lengths)
    chroms = _chosen_chroms(spec, genome, bins)
    _keep_targets(spec, files.targets)
    if spec.split_table:
        splits = split_by_table(genome, spec.split_table)
    else:
        splits = split_by_options(
            genome, test_chroms=spec.test_chroms, valid_region=spec.valid_region
        )
    outside = [chrom for chrom in splits.by_chrom if chrom not in chroms]
    if outside:
        raise InputError(
            f"The splits name chromosomes that are not in --chroms: {shorten(outside)}. "
            "Add them there, or leave them out here."
        )
    peaks = load_peaks(
        files,
        genome.lengths,
        chroms=chroms,
        resize=spec.resize_peaks,
        min_signal=spec.min_signal,
    )
    return _Plan(
        spec=spec,
        genome=genome,
        files=files,
        peaks=peaks,
        splits=splits,
        exclude=exclude,
        bins=_check_bins(bins, spec),
        positives=np.zeros((len(SPLITS), len(files.targets)), np.int64),
    )


def _check_bins(bins: Bed | None, spec: GenomeSpec) -> Bed | None:
    if bins is not None:
        wrong = np.flatnonzero(bins.ends - bins.starts != spec.bin)
        if len(wrong):
            raise InputError(
                f"{bins.path}: every bin must have {spec.bin} bases. Received "
                f"{bins.describe(int(wrong[0]))}. Correct the file, or change --bin."
            )
    return bins


def _chosen_chroms(spec: GenomeSpec, genome: Genome, bins: Bed | None) -> list[str]:
    """The chromosomes in row order: as chosen, else as in --bins, else as in the FASTA."""
    chroms = spec.chroms or tuple(genome.lengths)
    require_chroms(chroms, genome, "--chroms")
    if bins is not None and not spec.chroms:
        listed = [bins.names[code] for code in dict.fromkeys(bins.chrom.tolist())]
        chroms = (*(chrom for chrom in listed if chrom in genome.lengths), *chroms)
    return list(dict.fromkeys(chroms))


def _keep_targets(spec: GenomeSpec, targets: Targets) -> list[int]:
    """Numbers of the targets that keep a bin: those of --keep-if, else all."""
    if not spec.keep_if:
        return list(range(len(targets)))
    groups = targets.column("group")
    found: set[int] = set()
    for text in spec.keep_if:
        members = [i for i, group in enumerate(groups) if group == text]
        found.update(targets.find([text]) if text in targets.names or not members else members)
    return sorted(found)


def _label_genome(plan: _Plan) -> list[_Kept]:
    lengths = plan.genome.lengths
    for chrom in lengths.keys() - plan.peaks.by_chrom.keys():
        on_chrom = -(-lengths[chrom] // plan.spec.bin)
        n_bins = on_chrom if plan.bins is None else len(plan.bins.on(chrom)[0])
        plan.bins_left_out[NOT_CHOSEN] += n_bins
    if plan.bins is not None:
        codes = [i for i, name in enumerate(plan.bins.names) if name not in lengths]
        plan.bins_left_out[FOREIGN] += int(np.isin(plan.bins.chrom, codes).sum())
    total = sum(lengths[chrom] for chrom in plan.peaks.by_chrom)
    kept = []
    with progress(total=total, desc="label", unit="b", unit_scale=True) as bar:
        for chrom in plan.peaks.by_chrom:
            kept.append(_label_chromosome(plan, chrom))
            bar.update(lengths[chrom])
    return kept


def _label_chromosome(plan: _Plan, chrom: str) -> _Kept:
    """Label the bins of a chromosome, choose those to keep and count the others."""
    spec, length = plan.spec, plan.genome.lengths[chrom]
    if plan.bins is None:
        bins = np.arange(0, length - spec.bin + 1, spec.bin, dtype=np.int64)
        order = np.arange(len(bins))
        plan.bins_left_out[SHORT] += int(length % spec.bin > 0)
    else:
        listed = plan.bins.on(chrom)[0]
        order = np.argsort(listed, kind="stable")
        bins = listed[order]
    above = math.floor(Fraction(str(spec.min_overlap)) * spec.bin)
    peaks = plan.peaks.by_chrom[chrom]
    labels = label_bins(peaks, bins, length=spec.bin, above=above)
    split = plan.splits.of_bins(chrom, bins, length=spec.bin)
    kept = np.ones(len(bins), bool)
    for reason, out in _reasons(plan, chrom, bins, labels, split, kept):
        plan.bins_left_out[reason] += int((kept & out).sum())
        kept &= ~out
    _count(plan, labels, np.where(kept, split, IN_NO_SPLIT))
    # Back to the order in which a list of bins has them; a grid is in order already.
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(order[rows], kind="stable")]
    return _Kept(chrom, bins[rows], split[rows], labels.packed[rows])


def _reasons(
    plan: _Plan,
    chrom: str,
    bins: Positions,
    labels: BinLabels,
    split: npt.NDArray[np.int8],
    kept: npt.NDArray[np.bool_],
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Each reason to leave bins out, with the bins (m,) bool that it meets.

    `kept` is updated by the caller between two reasons: the last two look at what is left.
    """
    spec, length = plan.spec, plan.genome.lengths[chrom]
    yield TWICE, np.concatenate([[False], bins[1:] == bins[:-1]])[: len(bins)]
    yield PAST_END, (bins < spec.flank) | (bins + spec.bin + spec.flank > length)
    if plan.exclude is not None:
        excluded = merge(*plan.exclude.on(chrom))
        yield EXCLUDED, covered_bases(*excluded, bins=bins, length=spec.bin) > 0
    if not spec.keep_unlabelled:
        yield UNLABELLED, ~_marked(labels, range(len(labels.positive)), len(bins))
    if spec.keep_if:
        yield UNWANTED, ~_marked(labels, _keep_targets(spec, plan.files.targets), len(bins))
    yield BORDER, split == ACROSS_BORDER
    yield SPLITLESS, split == IN_NO_SPLIT
    windows = bins - spec.flank
    if spec.max_unknown < 1 and kept.any():
        unknown = covered_bases(
            *unknown_runs(plan.genome.codes(chrom)), bins=windows, length=spec.window
        )
        most = math.floor(Fraction(str(spec.max_unknown)) * spec.window)
        yield UNKNOWN_BASES, unknown > most
    if not spec.allow_adjacent:
        held = bins[kept & (split != TRAIN)]
        near = covered_bases(*merge(held, held + spec.bin), bins=windows, length=spec.window) > 0
        yield ADJACENT, near & (split == TRAIN)


def _marked(labels: BinLabels, targets: Sequence[int], n_bins: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(n_bins, bool)
    for target in targets:
        marked[labels.positive[target]] = True
    return marked


def _count(plan: _Plan, labels: BinLabels, split: npt.NDArray[np.int8]) -> None:
    """Count positives by split, and the peaks that gave no kept bin a label."""
    for target, positive in enumerate(labels.positive):
        kept = positive[split[positive] >= 0]
        plan.positives[:, target] += np.bincount(split[kept], minlength=len(SPLITS))
        first, last = labels.peak_bins[target]
        any_bin = np.searchsorted(positive, last) > np.searchsorted(positive, first)
        any_kept = np.searchsorted(kept, last) > np.searchsorted(kept, first)
        plan.peaks_left_out[NO_BIN] += int((~any_bin).sum())
        plan.peaks_left_out[BINS_LEFT_OUT] += int((any_bin & ~any_kept).sum())


def _write(folder: Path, plan: _Plan, kept: list[_Kept], n_windows: dict[str, int]) -> None:
    spec = plan.spec
    header = StoreHeader(spec.window, spec.bin, STRANDS_BOTH, plan.files.targets, spec.describe())
    width = max(len(part.chrom.encode()) for part in kept)
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                SplitWriter(
                    folder / f"{name}.h5", header, n_windows=n_windows[name], chrom_width=width
                )
            )
            for name in SPLITS
        ]
        bar = stack.enter_context(
            progress(
                total=sum(n_windows.values()),
                desc="write",
                unit="window",
                unit_scale=True,
            )
        )
        for part in kept:
            if not len(part.starts):
                continue
            packed = PackedSequence(plan.genome.codes(part.chrom), spec.window)
            for code, writer in enumerate(writers):
                starts, labels = part.of(code)
                for begin in range(0, len(starts), _BLOCK_ROWS):
                    block = slice(begin, begin + _BLOCK_ROWS)
                    windows = starts[block] - spec.flank
                    writer.append(
                        Rows(
                            packed.windows(windows),
                            labels[block],
                            chrom=np.full(len(windows), part.chrom),
                            start=windows,
                        )
                    )
                    bar.update(len(windows))


def _warn_of_gaps(
    targets: Targets, n_windows: dict[str, int], positives: npt.NDArray[np.int64]
) -> None:
    for row, split in enumerate(SPLITS):
        if not n_windows[split]:
            log.warning("The %s split has no windows.", split)
            continue
        missing = [targets.names[i] for i in np.flatnonzero(positives[row] == 0)]
        if missing:
            log.warning(
                "%d of %d targets have no positive in the %s split: %s.",
                len(missing),
                len(targets),
                split,
                shorten(missing, 20),
            )
