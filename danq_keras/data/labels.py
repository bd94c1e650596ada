"""Peaks of many targets → labels of the bins of a chromosome.

`PeakFiles` says which file is which target; `load_peaks` reads, checks and resizes; `label_bins`
marks the bins of one chromosome. A bin is positive for a target when more than a given share of it
is covered by the union of that target's peaks. Regions that a target's assay cannot judge
(`load_ignored`) make labels that do not count. Sequences and splits are not known here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.genome.bed import Bed, read_located
from danq_keras.genome.dna import Bytes
from danq_keras.genome.fasta import Positions
from danq_keras.genome.intervals import covered_bases, merge_each, overlapped
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.tables import read_table
from danq_keras.system.terminal import log, progress

_PEAK_SUFFIXES = (".gz", ".bed", ".narrowpeak", ".broadpeak")


NOT_IN_GENOME = "on a chromosome that the FASTA lacks"
NOT_CHOSEN = "on a chromosome that was not chosen"
WEAK = "signal below `min_signal`"


@dataclass(frozen=True)
class PeakFiles:
    """The peak files, one a target, in the order of the targets."""

    paths: tuple[Path, ...]
    targets: Targets


@dataclass(frozen=True, eq=False)
class Peaks:
    """The peaks in use: chromosome → for each target its `starts` and `ends`, as in its file.

    `n_read` peaks were read; `left_out` counts those not in use by reason.
    """

    by_chrom: dict[str, list[tuple[Positions, Positions]]]
    n_read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


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
    peak_bins: list[tuple[Positions, Positions]]
    covered: list[npt.NDArray[np.intp]]
    ignored: Bytes | None = None


def target_name(path: Path) -> str:
    """Name of the target of a peak file: the file's without .bed, .narrowPeak, .broadPeak, .gz."""
    name = path.name
    while Path(name).suffix.lower() in _PEAK_SUFFIXES:
        name = name[: -len(Path(name).suffix)]
    return name


def name_targets(peaks: Sequence[Path], table: Path | None = None) -> PeakFiles:
    """Say which peak file is which target.

    Args:
        peaks: peak files in the order of the targets; none takes those of the table.
        table: tab- or comma-separated text with the columns `file` and `name`, and optional
            `cell_type`, `assay`, `treatment`, `group`. Its files are relative to its folder;
            with `peaks` they are joined by file name.

    Raises:
        InputError: no file, two files of one name, or a table that does not fit.
    """
    if table is None:
        files = PeakFiles(
            tuple(peaks), _unique_targets(peaks, [target_name(path) for path in peaks])
        )
    else:
        files = _join(peaks, table)
    if not files.paths:
        raise InputError("No peak file was given. Name one BED file a target with `peaks`.")
    return files


def _join(peaks: Sequence[Path], table: Path) -> PeakFiles:
    rows = read_table(table, required=("file", "name"))
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
    return PeakFiles(tuple(peaks), _unique_targets(peaks, list(rows["name"]), **columns))


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
    files: PeakFiles,
    lengths: dict[str, int],
    *,
    chroms: Sequence[str],
    resize: int | None = None,
    min_signal: float | None = None,
    chrom_names: str | None = None,
) -> Peaks:
    """Read all peak files.

    Args:
        files: a file a target.
        lengths: sequence name → length of all the genome's sequences.
        chroms: the sequences in use.
        resize: bases that each peak gets around its summit or centre; None leaves it.
        min_signal: weaker peaks are left out.
        chrom_names: how to rename the files' chromosomes (see `bed.rename_chrom`).

    Raises:
        InputError: a file is not BED, shares no chromosome with the genome, or has a peak beyond
            a chromosome's end.
    """
    none = np.empty(0, np.int64)
    loaded = Peaks({chrom: [(none, none)] * len(files.paths) for chrom in chroms})
    foreign: Counter[str] = Counter()
    n_read = 0
    with progress(total=len(files.paths), desc="read peaks", unit="file") as bar:
        for target, path in enumerate(files.paths):
            bed, keep = read_located(
                path, lengths, chrom_names=chrom_names, with_signal=min_signal is not None
            )
            foreign.update(bed.names[c] for c in bed.chrom[~keep])
            loaded.left_out[NOT_IN_GENOME] += int((~keep).sum())
            if min_signal is not None and bed.signal is not None:
                loaded.left_out[WEAK] += int((keep & (bed.signal < min_signal)).sum())
                keep &= bed.signal >= min_signal
            starts, ends = _resize(bed, lengths, resize) if resize else (bed.starts, bed.ends)
            for code, chrom in enumerate(bed.names):
                here = keep & (bed.chrom == code)
                if chrom in loaded.by_chrom:
                    loaded.by_chrom[chrom][target] = (starts[here], ends[here])
                else:
                    loaded.left_out[NOT_CHOSEN] += int(here.sum())
            n_read += len(bed)
            bar.update()
    if foreign:
        log.warning(
            "%d peaks lie on %d chromosomes that the FASTA lacks and are left out: %s.",
            foreign.total(),
            len(foreign),
            shorten([f"{name} ({count})" for name, count in foreign.most_common()]),
        )
    return Peaks(loaded.by_chrom, n_read, +loaded.left_out)


def _resize(bed: Bed, lengths: dict[str, int], size: int) -> tuple[Positions, Positions]:
    """Each peak as `size` bases around its summit or, without one, its centre."""
    limit = np.array([lengths.get(name, 0) for name in bed.names], np.int64)[bed.chrom]
    centre = (bed.starts + bed.ends) // 2
    if bed.summits is not None:
        has_summit = bed.summits >= 0
        inside = np.minimum(bed.starts + bed.summits, bed.ends - 1)
        centre = np.where(has_summit, inside, centre)
    start = centre - size // 2
    return np.maximum(start, 0), np.minimum(start + size, limit)


def load_ignored(
    table: Path,
    targets: Targets,
    lengths: dict[str, int],
    *,
    chroms: Sequence[str],
    chrom_names: str | None = None,
) -> dict[str, list[tuple[Positions, Positions]]]:
    """Read the regions in which targets' labels do not count.

    Args:
        table: tab- or comma-separated text with the columns `target` (name or number) and `file`
            (BED, relative to the table's folder). A target may have several files or none.
        targets: the dataset's.
        lengths: sequence name → length of all the genome's sequences.
        chroms: the sequences in use.
        chrom_names: how to rename the files' chromosomes.

    Returns:
        Chromosome → for each target the starts and ends of its regions.

    Raises:
        InputError: the table or a file cannot be read or does not fit.
    """
    none = np.empty(0, np.int64)
    regions = {chrom: [(none, none)] * len(targets) for chrom in chroms}
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
            (starts, ends), (more_starts, more_ends) = regions[chrom][target], bed.on(chrom)
            regions[chrom][target] = (
                np.concatenate([starts, more_starts]),
                np.concatenate([ends, more_ends]),
            )
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
    peaks: list[tuple[Positions, Positions]],
    bins: Positions,
    *,
    length: int,
    above: int,
    ignore: list[tuple[Positions, Positions]] | None = None,
) -> BinLabels:
    """Label the bins of one chromosome.

    Args:
        peaks: for each target its peaks' starts and ends, in any order, overlapping or not.
        bins: (m,) int64 bin starts, ascending.
        length: bases a bin.
        above: a bin with more covered bases than this is positive.
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
    intervals: list[tuple[Positions, Positions]], bins: Positions, *, length: int, above: int
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
