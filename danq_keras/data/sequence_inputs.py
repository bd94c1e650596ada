"""FASTA records and BED intervals as windows to predict, cut from the file when they are needed.

In: a `genome.Genome` and the length of a window. Out: `inputs.Windows`, and what could not become
a window as `Skipped`, each with its reason; nothing is left out in silence. Rows keep the order of
the file. Only lengths and coordinates are in memory, never the sequences.

A tile is a window every `step` bases, the first at base 0 of its record. A value belongs to the
`step` bases around the window's centre: [start + L/2 - step//2, … + step).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.inputs import Columns, Tiling, Windows, text_bytes
from danq_keras.genome.bed import Bed, bed_from_frame, centres, locate, read_bed
from danq_keras.genome.dna import Bytes, pack_codes
from danq_keras.genome.fasta import Genome, Positions
from danq_keras.genome.fasta_index import begins_as_fasta
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import atomic_output, open_bytes
from danq_keras.system.terminal import log

_BLOCK_ROWS = 2048
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Skipped:
    """What became no window: a record or chromosome, 0-based half-open `start`, `end`, and why."""

    name: str
    start: int
    end: int
    reason: str


def is_fasta(path: Path) -> bool:
    """Whether a file, plain or gzip, begins as FASTA does.

    Raises:
        InputError: no such file, or damaged gzip.
    """
    with open_bytes(path) as handle:
        return begins_as_fasta(handle.read(_HEAD_BYTES))


def record_windows(genome: Genome, window: int) -> tuple[Windows, list[Skipped]]:
    """Each FASTA record of exactly `window` bases as one window.

    Raises:
        InputError: no record has that length.
    """
    names, skipped = [], []
    for name, length in genome.lengths.items():
        if length == window:
            names.append(name)
            continue
        kind = "shorter" if length < window else "longer"
        advice = "" if length < window else ", `tile=STEP` cuts it into windows"
        reason = f"{kind} than the window of {window} bases{advice}"
        skipped.append(Skipped(name, 0, length, reason))
    if not names:
        raise InputError(
            f"{genome.path}: no record has the {window} bases of a window; {_reasons(skipped)}."
        )

    def blocks(first: int) -> Iterator[Bytes]:
        for begin in range(first, len(names), _BLOCK_ROWS):
            yield pack_codes(
                np.stack([genome.codes(n) for n in names[begin : begin + _BLOCK_ROWS]])
            )

    text = np.array(names, np.str_)
    windows = Windows(
        path=genome.path,
        n_windows=len(names),
        window=window,
        both_strands=True,
        blocks=blocks,
        columns=lambda begin, end: {"name": text[begin:end]},
        text_bytes={"name": text_bytes(names)},
    )
    return windows, skipped


def tiled_windows(
    genome: Genome, window: int, *, step: int, chroms: Sequence[str] | None = None
) -> tuple[Windows, list[Skipped]]:
    """A window every `step` bases along each record.

    Args:
        genome: open FASTA file whose records are tiled.
        window: length L of a window in bases.
        step: bases from one window to the next.
        chroms: records to tile, in the file's order; None for all.

    Raises:
        InputError: one of `chroms` is not in the file, or no record has `window` bases.
    """
    lengths = {name: genome.lengths[name] for name in _chosen(genome, chroms)}
    skipped = [
        Skipped(name, 0, length, f"shorter than the window of {window} bases")
        for name, length in lengths.items()
        if length < window
    ]
    tiling = Tiling.of(lengths, window=window, step=step)
    if not tiling.n_windows:
        raise InputError(
            f"{genome.path}: no record has the {window} bases of a window; {_reasons(skipped)}."
        )

    def blocks(first: int) -> Iterator[Bytes]:
        for name, numbers in tiling.parts(first, tiling.n_windows, most=_BLOCK_ROWS):
            start, last = numbers[0] * step, numbers[-1] * step
            codes = genome.fetch(name, start, last + window)
            views = np.lib.stride_tricks.sliding_window_view(codes, window)[::step]
            yield pack_codes(views)

    windows = Windows(
        path=genome.path,
        n_windows=tiling.n_windows,
        window=window,
        both_strands=True,
        blocks=blocks,
        columns=tiling.columns,
        text_bytes={"chrom": text_bytes(lengths)},
        tiling=tiling,
        fasta=genome.plain,
    )
    return windows, skipped


def _chosen(genome: Genome, chroms: Sequence[str] | None) -> list[str]:
    """Names of records in the file's order."""
    if chroms is None:
        return list(genome.lengths)
    unknown = [name for name in chroms if name not in genome.lengths]
    if unknown:
        raise InputError(
            f"`chroms`: {shorten(unknown, 3)} not in {genome.path}, which has "
            f"{shorten(list(genome.lengths), 5)}. Name some of those."
        )
    return [name for name in genome.lengths if name in chroms]


@dataclass(frozen=True, eq=False)
class Intervals:
    """The features of a BED file beside their genome, ready to be cut."""

    bed: Bed
    genome: Genome
    known: npt.NDArray[np.bool_]

    @classmethod
    def read(
        cls, source: Path | pd.DataFrame, genome: Genome, *, chrom_names: str | None = None
    ) -> "Intervals":
        """Read a BED or peak file, or take a data frame (see `bed.bed_from_frame`).

        Raises:
            InputError: it is not one, or does not fit the genome.
        """
        if isinstance(source, Path):
            bed = read_bed(source, with_names=True)
        else:
            bed = bed_from_frame(source, "`bed`")
        bed, known = locate(bed, genome.lengths, chrom_names=chrom_names)
        if bed.summits is not None:
            log.info(
                "%s: windows are centred on summits, which %s of %s peaks have.",
                bed.path,
                f"{int((bed.summits >= 0).sum()):,}",
                f"{len(bed):,}",
            )
        return cls(bed, genome, known)

    @classmethod
    def whole(cls, genome: Genome) -> "Intervals":
        """An interval a record of a FASTA file, from its first base to its last.

        Records without bases, which opening the file tells of, have none.
        """
        lengths = {name: length for name, length in genome.lengths.items() if length}
        frame = pd.DataFrame({"chrom": list(lengths), "start": 0, "end": list(lengths.values())})
        bed = bed_from_frame(frame, str(genome.path))
        return cls(bed, genome, np.ones(len(bed), np.bool_))

    def centred(self, window: int) -> tuple[Positions, list[Skipped], Positions]:
        """Windows of `window` bases centred on the features.

        At L/2 is the summit of a narrowPeak, as where datasets are built, else (start + end) // 2.

        Returns:
            Feature numbers (n,) that have a window, what has none, and the windows' starts (n,).

        Raises:
            InputError: no feature has one.
        """
        bed, lengths = self.bed, self.genome.lengths
        starts = centres(bed) - window // 2
        limit = np.array([lengths.get(name, 0) for name in bed.names], np.int64)[bed.chrom]
        reasons = {
            "its chromosome is not in the FASTA": ~self.known,
            "its window begins before the chromosome": self.known & (starts < 0),
            "its window ends beyond the chromosome": self.known
            & (starts >= 0)
            & (starts + window > limit),
        }
        left_out = {int(i): why for why, found in reasons.items() for i in np.flatnonzero(found)}
        skipped = [
            Skipped(bed.names[bed.chrom[i]], int(bed.starts[i]), int(bed.ends[i]), left_out[i])
            for i in sorted(left_out)
        ]
        kept = np.flatnonzero(~np.logical_or.reduce(list(reasons.values())))
        if not len(kept):
            raise InputError(f"{bed.path}: no feature has a window; {_reasons(skipped)}.")
        return kept, skipped, starts[kept]

    def windows(self, window: int) -> tuple[Windows, list[Skipped]]:
        """The features' windows, with their names and strands, as rows to predict.

        Windows are of the genome's forward strand, whatever strand a feature is on.

        Raises:
            InputError: no feature has a window inside its chromosome.
        """
        kept, skipped, starts = self.centred(window)
        names = np.array(self.bed.names, np.str_)[self.bed.chrom[kept]]
        described = {"name": self.bed.feature_names, "strand": self.bed.strands}
        texts = {key: column[kept] for key, column in described.items() if column is not None}

        def blocks(first: int) -> Iterator[Bytes]:
            for begin in range(first, len(starts), _BLOCK_ROWS):
                rows = slice(begin, begin + _BLOCK_ROWS)
                yield pack_codes(self.codes(names[rows], starts[rows], window))

        def columns(begin: int, end: int) -> Columns:
            rows = slice(begin, end)
            places = {"chrom": names[rows], "start": starts[rows], "end": starts[rows] + window}
            return places | {key: column[rows].astype(np.str_) for key, column in texts.items()}

        windows = Windows(
            path=self.bed.path,
            n_windows=len(starts),
            window=window,
            both_strands=True,
            blocks=blocks,
            columns=columns,
            text_bytes={
                key: text_bytes(column) for key, column in {"chrom": names, **texts}.items()
            },
        )
        return windows, skipped

    def codes(self, names: npt.NDArray[np.str_], starts: Positions, window: int) -> Bytes:
        """Base codes (n, L) uint8 of windows that lie inside their chromosomes."""
        places = zip(names.tolist(), starts.tolist(), strict=True)
        return np.stack([self.genome.fetch(name, at, at + window) for name, at in places])


def _reasons(skipped: Sequence[Skipped]) -> str:
    counts = Counter(each.reason for each in skipped)
    return "; ".join(f"{n:,} {reason}" for reason, n in counts.most_common())


def skipped_line(out: Path, skipped: Sequence[Skipped], what: str) -> str:
    """One line for the user about a list that `write_skipped` has written."""
    path = out.with_name(f"{out.name}.skipped.tsv")
    return f"{path}: {len(skipped):,} {what} without a prediction: {_reasons(skipped)}"


def write_skipped(out: Path, skipped: Sequence[Skipped], what: str) -> str | None:
    """List what was skipped in `<out>.skipped.tsv`; without any, an earlier list is removed.

    Args:
        out: the output that lacks them.
        skipped: in the order of the input.
        what: what they are, such as "records".

    Returns:
        One line for the user; None when nothing was skipped.
    """
    path = out.with_name(f"{out.name}.skipped.tsv")
    if not skipped:
        path.unlink(missing_ok=True)
        return None
    rows = [f"{each.name}\t{each.start}\t{each.end}\t{each.reason}\n" for each in skipped]
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text("name\tstart\tend\treason\n" + "".join(rows), encoding="utf-8")
    return skipped_line(out, skipped, what)
