"""Windows of a genome as a notebook names them: a BED file's or table's features, or tiles."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from danq_keras.data.inputs import Windows
from danq_keras.data.sequence_inputs import Intervals, Skipped, record_windows, tiled_windows
from danq_keras.genome.fasta import Genome
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike

_COLUMNS = ("chrom", "start", "end")


@dataclass(frozen=True, eq=False)
class GenomeWindows:
    """Windows that are cut when a network says how long they are; see `windows`."""

    genome: Path
    bed: Path | pd.DataFrame | None = None
    tile: int | None = None
    chroms: tuple[str, ...] | None = None
    chrom_names: str | None = None

    @contextlib.contextmanager
    def cut(self, length: int) -> Iterator[tuple[Windows, list[Skipped]]]:
        """Open the genome and cut windows of `length` bases; what has no window beside them.

        Raises:
            InputError: a file is not what it should be, or there is no window.
        """
        with Genome(self.genome) as genome:
            source: Intervals | Genome = genome
            if self.bed is not None:
                source = Intervals.read(self.bed, genome, chrom_names=self.chrom_names)
            yield cut_windows(source, length, tile=self.tile, chroms=self.chroms)


def cut_windows(
    source: Intervals | Genome, length: int, *, tile: int | None, chroms: Sequence[str] | None
) -> tuple[Windows, list[Skipped]]:
    """The windows of intervals, or of a genome's records or tiles, and what has none.

    Args:
        source: open intervals, or an open genome.
        length: bases L of a window.
        tile: bases between the beginnings of tiles; None for a window a record.
        chroms: names of the records that are tiled; None for all.
    """
    if isinstance(source, Intervals):
        return source.windows(length)
    if tile is None:
        return record_windows(source, length)
    return tiled_windows(source, length, step=tile, chroms=chroms)


def windows(
    genome: PathLike,
    bed: PathLike | pd.DataFrame | None = None,
    *,
    tile: int | None = None,
    chroms: str | Sequence[str] | None = None,
    chrom_names: str | None = None,
) -> GenomeWindows:
    """Name the windows of a FASTA file that `predict` cuts and predicts.

    Args:
        genome: FASTA file, plain or gzip.
        bed: BED or peak file, or a table with the columns chrom, start (0-based), end and optional
            summit (bases after the start), name and strand: a window is centred on the summit of
            each feature, else on its middle. None for tiles, or for a window a record.
        tile: bases between the beginnings of windows along the chromosomes.
        chroms: names of the chromosomes that are tiled; None for all.
        chrom_names: "strip" or "add" the leading chr of the BED's chromosomes; None for as is.

    Returns:
        What `predict` takes as windows.

    Raises:
        InputError: the arguments contradict each other.

    Example:
        >>> dq.predict("runs/mine", dq.windows("genome.fa", "peaks.bed")).to_frame()
    """
    if bed is not None and tile is not None:
        raise InputError("`tile`: a BED file has its own windows. Give one of both.")
    if tile is not None and not (isinstance(tile, int) and tile > 0):
        raise InputError(f"`tile`: a whole number of bases from 1 on. Received: {tile!r}.")
    chroms = [chroms] if isinstance(chroms, str) else chroms
    if chroms is not None and not len(chroms):
        raise InputError("`chroms`: none. Name at least one, or leave the argument out.")
    if chroms is not None and tile is None:
        raise InputError("`chroms`: names the records that `tile` cuts. Give `tile` too.")
    if isinstance(bed, pd.DataFrame) and not set(_COLUMNS) <= set(bed):
        raise InputError(
            f"`bed`: a table with the columns {', '.join(_COLUMNS)}. Received: "
            f"{', '.join(map(str, bed.columns))}."
        )
    place = Path(bed) if bed is not None and not isinstance(bed, pd.DataFrame) else bed
    names = None if chroms is None else tuple(chroms)
    return GenomeWindows(Path(genome), place, tile, names, chrom_names)
