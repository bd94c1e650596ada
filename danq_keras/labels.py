"""Peaks of many targets → labels of the bins of a chromosome.

`PeakFiles` says which file is which target; `load_peaks` reads, checks and resizes; `label_bins`
marks the bins of one chromosome. A bin is positive for a target when more than a given share of it
is covered by the union of that target's peaks. Sequences and splits are not known here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.bed import Bed, covered_bases, in_genome, merge_each, overlapped, read_bed
from danq_keras.console import InputError, log, progress
from danq_keras.dna import Bytes, unpack_labels
from danq_keras.genome import Positions, one_line, shorten
from danq_keras.store import Split
from danq_keras.targets import TARGET_COLUMNS, Targets

_PEAK_SUFFIXES = (".gz", ".bed", ".narrowpeak", ".broadpeak")

_COUNT_ROWS = 1 << 16

NOT_IN_GENOME = "on a chromosome that the FASTA lacks"
NOT_CHOSEN = "on a chromosome that was not chosen"
WEAK = "signal below --min-signal"


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
    positive bins, and `peak_bins` the bins [first, last) that each of its peaks touches.
    """

    packed: Bytes
    positive: list[npt.NDArray[np.intp]]
    peak_bins: list[tuple[Positions, Positions]]


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
        raise InputError("No peak file was given. Name one BED file a target with --peaks.")
    return files


def _join(peaks: Sequence[Path], table: Path) -> PeakFiles:
    rows = read_table(table, required=("file", "name"))
    if rows["name"].str.strip().eq("").any() or rows["file"].eq("").any():
        raise InputError(f"{table}: 'file' and 'name' must not be empty. Fill them in.")
    if peaks:
        by_name = {Path(file).name: row for row, file in enumerate(rows["file"])}
        if len(by_name) < len(rows):
            raise InputError(
                f"{table}: a file is listed twice. With --peaks list each file name once."
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
                "Rename a file, or name the targets with --targets."
            )
        first[name] = path
    return Targets(tuple(names), **columns)


def read_table(path: Path, *, required: tuple[str, ...]) -> pd.DataFrame:
    """Read a tab- or comma-separated table with a header as text ("NA" is a text too).

    Raises:
        InputError: missing, unreadable, or without one of the `required` columns.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the path.")
    try:
        with path.open(encoding="utf-8") as handle:
            separator = "\t" if "\t" in handle.readline() else ","
        rows = pd.read_csv(path, sep=separator, dtype=str, na_filter=False, index_col=False)
    except ValueError as error:
        raise InputError(f"{path}: not a table ({one_line(error)}). Correct the file.") from error
    missing = [column for column in required if column not in rows.columns]
    if missing:
        raise InputError(
            f"{path}: expected a header with {', '.join(required)}. Missing: {', '.join(missing)}. "
            f"Received: {', '.join(map(str, rows.columns))[:80]}. Add the header line."
        )
    return rows


def load_peaks(
    files: PeakFiles,
    lengths: dict[str, int],
    *,
    chroms: Sequence[str],
    resize: int | None = None,
    min_signal: float | None = None,
) -> Peaks:
    """Read all peak files.

    Args:
        files: a file a target.
        lengths: sequence name → length of all the genome's sequences.
        chroms: the sequences in use.
        resize: bases that each peak gets around its summit or centre; None leaves it.
        min_signal: weaker peaks are left out.

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
            bed = read_bed(path, with_signal=min_signal is not None)
            keep = in_genome(bed, lengths)
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


def label_bins(
    peaks: list[tuple[Positions, Positions]], bins: Positions, *, length: int, above: int
) -> BinLabels:
    """Label the bins of one chromosome.

    Args:
        peaks: for each target its peaks' starts and ends, in any order, overlapping or not.
        bins: (m,) int64 bin starts, ascending.
        length: bases a bin.
        above: a bin with more covered bases than this is positive.
    """
    packed = np.zeros((len(bins), -(-len(peaks) // 8)), np.uint8)
    positive, peak_bins = [], []
    disjoint = merge_each(peaks)
    for target, (starts, ends) in enumerate(peaks):
        covered = covered_bases(*disjoint[target], bins=bins, length=length)
        indices = np.flatnonzero(covered > above)
        packed[indices, target // 8] |= np.uint8(0x80 >> (target % 8))
        positive.append(indices)
        peak_bins.append(overlapped(starts, ends, bins=bins, length=length))
    return BinLabels(packed, positive, peak_bins)


def count_positives(split: Split) -> Positions:
    """Positive rows (T,) int64 of each target of a stored split."""
    counts = np.zeros(split.n_targets, np.int64)
    for begin in range(0, split.n_windows, _COUNT_ROWS):
        block = np.asarray(split.labels[begin : begin + _COUNT_ROWS])
        counts += unpack_labels(block, split.n_targets).sum(axis=0, dtype=np.int64)
    return counts
