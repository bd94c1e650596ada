"""Which split a bin belongs to: test chromosomes and a validation region, or a table of regions.

A bin belongs to a split when it lies wholly inside one of its regions (or inside several that
touch). With test chromosomes and a validation region, all the rest is training; a table says
everything, and what it does not list is in no split.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.store import SPLITS
from danq_keras.genome.bed import rename_chrom
from danq_keras.genome.fasta import Genome, Positions
from danq_keras.genome.intervals import SpanLists, Spans, covered_bases, merge
from danq_keras.genome.regions import Region
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.tables import read_table
from danq_keras.system.terminal import log

TRAIN = SPLITS.index("train")
IN_NO_SPLIT = -1
ACROSS_BORDER = -2
_BOUNDS = {"start": "start", "end": "end", "chromstart": "start", "chromend": "end"}
LEFT_OUT = -3  # for another reason than where the splits lie


@dataclass(frozen=True, eq=False)
class SplitMap:
    """Chromosome → for each of `SPLITS` the disjoint regions, starts (n,) and ends (n,).

    `rest` is the split of bins that no region touches, or `IN_NO_SPLIT`.
    """

    by_chrom: SpanLists
    rest: int

    def of_bins(self, chrom: str, bins: Positions, *, length: int) -> npt.NDArray[np.int8]:
        """Number of the split (m,) of each bin, `IN_NO_SPLIT` or `ACROSS_BORDER`.

        Args:
            chrom: name of the chromosome that the bins lie on.
            bins: (m,) int64 bin starts, ascending.
            length: length of every bin in bases.
        """
        split = np.full(len(bins), self.rest, np.int8)
        for code, (starts, ends) in enumerate(self.by_chrom.get(chrom, [])):
            covered = covered_bases(starts, ends, bins=bins, length=length)
            split[covered > 0] = ACROSS_BORDER
            split[covered == length] = code
        return split


def split_by_options(
    genome: Genome, *, test_chroms: Sequence[str], valid_region: str | None
) -> SplitMap:
    """Splits from chromosomes for testing and one region for validation; the rest is training.

    Raises:
        InputError: one of them is not in the genome, or they overlap.
    """
    located = [
        ("test", _locate(Region(chrom), genome, "`test_chroms`"))
        for chrom in dict.fromkeys(test_chroms)
    ]
    if valid_region is not None:
        located.append(("valid", _locate(Region.parse(valid_region), genome, "`valid_region`")))
    return SplitMap(_by_chrom(located, "`test_chroms`, `valid_region`"), TRAIN)


def split_by_table(genome: Genome, table: Path, *, chrom_names: str | None = None) -> SplitMap:
    """Splits from a table with the columns `chrom`, `split` and optional `start`, `end`.

    Positions are 0-based and half-open as in BED; without them the whole chromosome is meant.

    Args:
        genome: open FASTA file with the chromosomes of the table.
        table: tab- or comma-separated text with a header; a row a region.
        chrom_names: how to rename the table's chromosomes (see `bed.rename_chrom`).

    Raises:
        InputError: the table cannot be read, names another split, lies outside the genome, or has
            regions of two splits that overlap.
    """
    located = []
    rows = _with_bounds(read_table(table, required=("chrom", "split")), table)
    for line, row in enumerate(rows.to_dict("records"), 2):
        where = f"{table}, line {line}"
        if row["split"] not in SPLITS:
            raise InputError(
                f"{where}: 'split' is one of {', '.join(SPLITS)}. Received: {row['split']!r}."
            )
        chrom = row["chrom"]
        if chrom_names is not None:
            chrom = rename_chrom(chrom, chrom_names, genome.lengths)
        region = _region(chrom, row.get("start", ""), row.get("end", ""), where=where)
        located.append((row["split"], _locate(region, genome, where)))
    return SplitMap(_by_chrom(located, str(table)), IN_NO_SPLIT)


def _with_bounds(rows: pd.DataFrame, table: Path) -> pd.DataFrame:
    """The rows with their bounds as `start` and `end`, whatever case or prefix those have.

    Raises:
        InputError: one of the two is missing, or a column that nobody knows has numbers, which may
            be bounds: without them the whole chromosome would be meant.
    """
    known = {name: _BOUNDS[name.lower()] for name in rows.columns if name.lower() in _BOUNDS}
    if sorted(known.values()) not in ([], ["end", "start"]):
        raise InputError(
            f"{table}: 'start' and 'end' are two columns, or none for whole chromosomes. Received: "
            f"{', '.join(known)}. Correct the header."
        )
    others = [name for name in rows.columns if name not in {"chrom", "split", *known}]
    numeric = [n for n in others if rows[n].str.isdecimal().any()]
    if numeric and not known:
        raise InputError(
            f"{table}: columns of numbers with a name that says nothing here: "
            f"{', '.join(numeric)}. Call bounds 'start' and 'end' (0-based, half-open), and leave "
            "others out."
        )
    if others:
        log.info("%s: not used: column %s.", table, shorten(others, 5))
    return rows.rename(columns=known)


def require_chroms(chroms: Sequence[str], genome: Genome, option: str) -> None:
    """Refuse names of chromosomes that the FASTA lacks.

    Raises:
        InputError: it lacks one.
    """
    missing = [chrom for chrom in chroms if chrom not in genome.lengths]
    if missing:
        raise InputError(
            f"{option}: {genome.path.name} has no {shorten(missing)}. It has "
            f"{shorten(list(genome.lengths), 5)}. Correct the name."
        )


def _region(chrom: str, start: str, end: str, *, where: str) -> Region:
    if (start, end) == ("", ""):
        return Region(chrom)
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
        raise InputError(
            f"{where}: 'start' and 'end' are whole numbers, 0-based and half-open, both or none. "
            f"Received: {start!r}, {end!r}. Correct the table."
        )
    return Region(chrom, int(start), int(end))


def _locate(region: Region, genome: Genome, where: str) -> Region:
    """The region with its end, inside the chromosome."""
    require_chroms([region.chrom], genome, where)
    length = genome.lengths[region.chrom]
    end = length if region.end is None else region.end
    if end > length:
        raise InputError(
            f"{where}: the region ends at {end}, {region.chrom} has {length} bases. "
            "Choose an end inside."
        )
    return Region(region.chrom, region.start, end)


def _by_chrom(located: Sequence[tuple[str, Region]], source: str) -> SpanLists:
    by_chrom = {}
    for chrom in dict.fromkeys(region.chrom for _, region in located):
        merged = []
        for name in SPLITS:
            bounds = [
                (region.start, region.end)
                for split, region in located
                if (split, region.chrom) == (name, chrom)
            ]
            starts, ends = np.array(bounds, np.int64).reshape(-1, 2).T
            merged.append(merge(starts, ends))
        _refuse_overlap(chrom, merged, source)
        by_chrom[chrom] = merged
    return by_chrom


def _refuse_overlap(chrom: str, merged: list[Spans], source: str) -> None:
    listed = sorted(
        (int(start), int(end), name)
        for name, (starts, ends) in zip(SPLITS, merged, strict=True)
        for start, end in zip(starts, ends, strict=True)
    )
    for before, after in itertools.pairwise(listed):
        if after[0] < before[1]:
            raise InputError(
                f"{source}: splits must not overlap. Received {before[2]} and {after[2]}, which "
                f"share {chrom}:{after[0] + 1}-{min(before[1], after[1])}. Correct one of them."
            )
