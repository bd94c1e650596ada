"""Peaks of many targets → labels of the bins of a chromosome.

`name_targets` says which file is which target; `load_peaks` reads, checks and resizes; `label_bins`
marks the bins of one chromosome. A bin is positive for a target when more than a given share of it
is covered by the union of that target's peaks. Regions that a target's assay cannot judge
(`load_ignored`) make labels that do not count. Sequences and splits are not known here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.build_summary import BuildSummary
from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.genome.bed import Bed, bed_from_frame, centres, locate, read_bed, read_located
from danq_keras.genome.dna import Bytes
from danq_keras.genome.fasta import Positions
from danq_keras.genome.intervals import SpanLists, Spans, covered_bases, merge_each, overlapped
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.inputs import is_pipe
from danq_keras.system.names import refuse_control
from danq_keras.system.tables import read_table
from danq_keras.system.terminal import log, progress

_PEAK_SUFFIXES = (".gz", ".bed", ".narrowpeak", ".broadpeak")

NOT_IN_GENOME = "on a chromosome that the FASTA lacks"
NOT_CHOSEN = "on a chromosome that was not chosen"
WEAK = "signal below `min_signal`"

PeakSource: TypeAlias = Path | pd.DataFrame


@dataclass(frozen=True, eq=False)
class BinLabels:
    """Labels of the bins of one chromosome.

    `packed` (m, ceil(T/8)) uint8; `positive` has for each target the ascending indices of its
    positive bins, and `peak_bins` the bins [first, last) that each of its peaks touches. Labels
    that do not count have their bit in `ignored`, shaped like `packed`, and are not positive;
    `covered` are the positive bins with those that would be, were they not ignored.
    """

    packed: Bytes
    positive: list[npt.NDArray[np.intp]]
    peak_bins: list[Spans]
    covered: list[npt.NDArray[np.intp]]
    ignored: Bytes | None = None


def target_name(path: Path) -> str:
    """Name of the target of a peak file: the file's without .bed, .narrowPeak, .broadPeak, .gz.

    A shell numbers its pipes: such a number would be taken for that of a target.
    """
    name = path.name
    if is_pipe(path) and (name == "-" or name.isdecimal() or name == "stdin"):
        name = "stdin" if name in ("-", "0", "stdin") else f"pipe-{name}"
        log.warning("%s: a pipe has no name: its target is called %s.", path, name)
        return name
    while Path(name).suffix.lower() in _PEAK_SUFFIXES:
        name = name[: -len(Path(name).suffix)]
    return name


def name_targets(
    peaks: Sequence[Path] | Mapping[str, Sequence[PeakSource]], table: Path | None = None
) -> tuple[Targets, list[Sequence[PeakSource]]]:
    """Say which peaks are of which target.

    Args:
        peaks: peak files in the order of the targets, and none takes those of the table; or target
            → its files and data frames.
        table: tab- or comma-separated text with the columns `file` and `name`, and optional
            `cell_type`, `assay`, `treatment`, `group`. Its files are relative to its folder;
            with `peaks` they are joined by file name.

    Returns:
        The targets, and the peaks of each: one file, or what the mapping has.

    Raises:
        InputError: no file, two files of one name, or a table that does not fit.
    """
    sources: list[Sequence[PeakSource]]
    if isinstance(peaks, Mapping):
        if table is not None:
            raise InputError(
                "`targets` names peak files, and these `peaks` name their targets. Give one."
            )
        targets, sources = Targets(tuple(peaks)), list(peaks.values())
    elif table is None:
        targets = _unique_targets(peaks, [target_name(path) for path in peaks])
        sources = [(path,) for path in peaks]
    else:
        targets, paths = _join(peaks, table)
        sources = [(path,) for path in paths]
    if not sources or not all(sources):
        raise InputError("No peak file was given. Name one BED file a target with `peaks`.")
    return targets, sources


def _join(peaks: Sequence[Path], table: Path) -> tuple[Targets, Sequence[Path]]:
    for path in filter(is_pipe, peaks):
        raise InputError(
            f"{path}: `targets` is joined by the names of files, and a pipe has none. Write the "
            "peaks to a file."
        )
    rows = read_table(table, required=("file", "name"))
    refuse_control(rows["name"], table, "target")
    for column in filter(rows.columns.__contains__, TARGET_COLUMNS):
        refuse_control(rows[column], table, f"target's {column}")
    if rows["name"].str.strip().eq("").any() or rows["file"].eq("").any():
        raise InputError(f"{table}: 'file' and 'name' must not be empty. Fill them in.")
    if peaks:
        by_name = {Path(file).name: row for row, file in enumerate(rows["file"])}
        if len(by_name) < len(rows):
            raise InputError(
                f"{table}: a file is listed twice. With `peaks` list each file name once."
            )
        missing = [path.name for path in peaks if path.name not in by_name]
        if missing:
            raise InputError(
                f"{table}: no row for {len(missing)} of {len(peaks)} peak files, such as "
                f"{missing[0]!r}. Add them to the column 'file'."
            )
        rows = rows.iloc[[by_name[path.name] for path in peaks]]
        if len(rows) < len(by_name):
            log.info("%s: %d rows have no peak file here.", table, len(by_name) - len(rows))
    else:
        peaks = [table.parent / file for file in rows["file"]]
    columns = {
        column: tuple(rows[column]) if column in rows.columns else () for column in TARGET_COLUMNS
    }
    return _unique_targets(peaks, list(rows["name"]), **columns), peaks


def _unique_targets(peaks: Sequence[Path], names: list[str], **columns: tuple[str, ...]) -> Targets:
    first: dict[str, Path] = {}
    for path, name in zip(peaks, names, strict=True):
        if name in first:
            raise InputError(
                f"Target names must be unique. Received {name!r} for {first[name]} and {path}. "
                "Rename a file, or name the targets with `targets`."
            )
        first[name] = path
    return Targets(tuple(names), **columns)


def load_peaks(
    sources: Sequence[Sequence[PeakSource]],
    lengths: dict[str, int],
    *,
    chroms: Sequence[str],
    summary: BuildSummary,
    resize: int | None = None,
    min_signal: float | None = None,
    chrom_names: str | None = None,
    by_strand: bool = False,
) -> SpanLists:
    """Read all peaks.

    Args:
        sources: the files and data frames of each target.
        lengths: sequence name → length in bases of all the genome's sequences.
        chroms: names of the sequences in use.
        summary: counts the peaks read, and by reason those left out.
        resize: bases that each peak gets around its summit or centre; None leaves it.
        min_signal: peaks with a lower signal are left out.
        chrom_names: how to rename the files' chromosomes (see `bed.rename_chrom`).
        by_strand: whether to tell the strands apart.

    Returns:
        Chromosome in use → the peaks of each target, in their order; by strand those of the
        forward strand, then of each target those of the reverse strand.

    Raises:
        InputError: a file or data frame is not of peaks, shares no chromosome with the genome, or
            has a peak beyond a chromosome's end.
    """
    peaks = _nothing(chroms, len(sources) * (1 + by_strand))
    left_out, foreign = summary.peaks_left_out, Counter[str]()
    listed = [(target, source) for target, each in enumerate(sources) for source in each]
    with progress(total=len(listed), desc="read peaks", unit="file") as bar:
        for target, source in listed:
            bed = _read(
                source, summary.targets.names[target], min_signal is not None, by_strand=by_strand
            )
            reverse = _reverse(bed) if by_strand else np.zeros(len(bed), bool)
            bed, keep = locate(bed, lengths, chrom_names=chrom_names)
            foreign.update(bed.names[c] for c in bed.chrom[~keep])
            left_out[NOT_IN_GENOME] += int((~keep).sum())
            if min_signal is not None and bed.signal is not None:
                left_out[WEAK] += int((keep & (bed.signal < min_signal)).sum())
                keep &= bed.signal >= min_signal
            starts, ends = _spans(bed, lengths, resize)
            for chrom, here in bed.by_chrom(np.flatnonzero(keep)).items():
                if chrom not in peaks:
                    left_out[NOT_CHOSEN] += len(here)
                    continue
                strands = (here[~reverse[here]], here[reverse[here]]) if by_strand else (here,)
                for strand, chosen in enumerate(strands):
                    spans = starts[chosen], ends[chosen]
                    _add(peaks[chrom], target + strand * len(sources), spans)
            summary.n_peaks += len(bed)
            bar.update()
    if foreign:
        log.warning(
            "%d peaks lie on %d chromosomes that the FASTA lacks and are left out: %s.",
            foreign.total(),
            len(foreign),
            shorten([f"{name} ({count})" for name, count in foreign.most_common()]),
        )
    return peaks


def _read(source: PeakSource, target: str, with_signal: bool, *, by_strand: bool) -> Bed:
    if isinstance(source, Path):
        return read_bed(source, with_signal=with_signal, with_names=by_strand)
    return bed_from_frame(source, f"`peaks` of {target!r}", with_signal=with_signal)


def _reverse(bed: Bed) -> npt.NDArray[np.bool_]:
    """Which features (n,) lie on the reverse strand.

    Raises:
        InputError: a feature does not say its strand.
    """
    if bed.strands is None:
        raise InputError(
            f"{bed.path}: `strands=given` needs the strand of every peak, + or - in column 6 (of a "
            "data frame the column `strand`). Received: none. Leave `strands` out, or add them."
        )
    unsaid = np.flatnonzero((bed.strands != "+") & (bed.strands != "-"))
    if len(unsaid):
        raise InputError(
            f"{bed.path}: `strands=given` needs the strand of every peak, + or -. Received: "
            f"{len(unsaid):,} of {len(bed):,} peaks without, the first is "
            f"{bed.describe(int(unsaid[0]))}. Leave those out, or `strands`."
        )
    return np.asarray(bed.strands == "-")


def _nothing(chroms: Sequence[str], n_targets: int) -> SpanLists:
    none = np.empty(0, np.int64)
    return {chrom: [(none, none)] * n_targets for chrom in chroms}


def _add(spans: list[Spans], target: int, more: Spans) -> None:
    (starts, ends), (more_starts, more_ends) = spans[target], more
    spans[target] = np.concatenate([starts, more_starts]), np.concatenate([ends, more_ends])


def _spans(bed: Bed, lengths: dict[str, int], size: int | None) -> Spans:
    """Each peak, or `size` bases around its summit or centre, inside its chromosome."""
    limit = np.array([lengths.get(name, 0) for name in bed.names], np.int64)[bed.chrom]
    if size is None:
        return bed.starts, np.minimum(bed.ends, limit)
    start = np.minimum(centres(bed), limit - 1) - size // 2
    return np.maximum(start, 0), np.minimum(start + size, limit)


def load_ignored(
    table: Path,
    targets: Targets,
    lengths: dict[str, int],
    *,
    chroms: Sequence[str],
    chrom_names: str | None = None,
) -> SpanLists:
    """Read the regions in which targets' labels do not count.

    Args:
        table: tab- or comma-separated text with the columns `target` (name or number) and `file`
            (BED, relative to the table's folder). A target may have several files or none.
        targets: the targets that the table may name, by name or number.
        lengths: sequence name → length in bases of all the genome's sequences.
        chroms: names of the sequences in use.
        chrom_names: how to rename the files' chromosomes (see `bed.rename_chrom`).

    Returns:
        Chromosome → for each target the starts and ends of its regions.

    Raises:
        InputError: the table or a file cannot be read or does not fit.
    """
    regions = _nothing(chroms, len(targets))
    beds: dict[str, Bed] = {}
    for line, row in enumerate(
        read_table(table, required=("target", "file")).to_dict("records"), 2
    ):
        try:
            (target,) = targets.find([row["target"]])
        except InputError as error:
            raise InputError(f"{table}, line {line}: {error}") from error
        if not row["file"]:
            raise InputError(f"{table}, line {line}: 'file' must not be empty. Fill it in.")
        if row["file"] not in beds:
            path = table.parent / row["file"]
            beds[row["file"]] = read_regions(path, lengths, chrom_names=chrom_names)
        bed = beds[row["file"]]
        for chrom in regions.keys() & set(bed.names):
            _add(regions[chrom], target, bed.on(chrom))
    return regions


def read_regions(path: Path, lengths: dict[str, int], *, chrom_names: str | None = None) -> Bed:
    """A BED of regions; a warning counts those on chromosomes that the genome lacks.

    Raises:
        InputError: the file is not BED, or does not fit the genome.
    """
    bed, known = read_located(path, lengths, chrom_names=chrom_names)
    if not known.all():
        log.warning(
            "%s: %d of %d features lie on chromosomes that the FASTA lacks.",
            path,
            (~known).sum(),
            len(bed),
        )
    return bed


def label_bins(
    peaks: list[Spans],
    bins: Positions,
    *,
    length: int,
    above: int,
    ignore: list[Spans] | None = None,
) -> BinLabels:
    """Label the bins of one chromosome.

    Args:
        peaks: for each target its peaks' starts and ends, in any order, overlapping or not.
        bins: (m,) int64 bin starts, ascending.
        length: length of every bin in bases.
        above: a bin is positive when more than this number of its bases is covered.
        ignore: for each target the regions in which its labels do not count: those of all bins
            that share a base with one.
    """
    covered = _covered_bins(peaks, bins, length=length, above=above)
    ignored = None if ignore is None else _covered_bins(ignore, bins, length=length, above=0)
    positive = covered
    if ignored is not None:
        pairs = zip(covered, ignored, strict=True)
        positive = [np.setdiff1d(these, those, assume_unique=True) for these, those in pairs]
    return BinLabels(
        packed=_pack(positive, len(bins)),
        positive=positive,
        peak_bins=[overlapped(*target, bins=bins, length=length) for target in peaks],
        covered=covered,
        ignored=None if ignored is None else _pack(ignored, len(bins)),
    )


def _covered_bins(
    intervals: list[Spans], bins: Positions, *, length: int, above: int
) -> list[npt.NDArray[np.intp]]:
    """For each target the ascending indices of the bins of which more than `above` is covered."""
    return [
        np.flatnonzero(covered_bases(*disjoint, bins=bins, length=length) > above)
        for disjoint in merge_each(intervals)
    ]


def _pack(marked: list[npt.NDArray[np.intp]], n_bins: int) -> Bytes:
    """Bits (n_bins, ceil(T/8)) of the bins marked for each target."""
    packed = np.zeros((n_bins, -(-len(marked) // 8)), np.uint8)
    for target, indices in enumerate(marked):
        packed[indices, target // 8] |= np.uint8(0x80 >> (target % 8))
    return packed
