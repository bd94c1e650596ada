"""The kept bins of all chromosomes → the three split files of a store.

Rows are in the order of the chromosomes, then of the bins. While the windows of a chromosome are
written, the next one is read and packed in a second thread: NumPy, hashing and files let it run.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.data.build_summary import Stopwatch
from danq_keras.data.store import SPLITS, StoreHeader
from danq_keras.data.store_write import Rows, SplitWriter
from danq_keras.genome.dna import Bytes, pack_codes, reverse_complement, unpack_codes
from danq_keras.genome.fasta import Genome, Positions
from danq_keras.genome.packed import PackedSequence
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.system.terminal import progress
from danq_keras.system.threads import one_ahead

_BLOCK_ROWS = 8192
REVERSED, SHUFFLED = 1, 2


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of a chromosome: all of them, ascending, then those that are kept, in row order.

    `starts` (m,) int64; `split` (m,) int8 indexes `SPLITS` or is negative, for a bin without one;
    `labels` and, where the dataset has it, `ignore` (m, ceil(T/8)) are packed; `form` (m,) int8
    says how a window is written: 0, or the sum of `REVERSED` and `SHUFFLED`.
    """

    chrom: str
    starts: Positions
    split: npt.NDArray[np.int8]
    labels: Bytes
    ignore: Bytes | None
    form: npt.NDArray[np.int8]

    def at(self, rows: npt.NDArray[Any]) -> "Bins":
        """The bins chosen by numbers, in that order, or by booleans."""
        ignore = None if self.ignore is None else self.ignore[rows]
        return Bins(
            self.chrom,
            self.starts[rows],
            self.split[rows],
            self.labels[rows],
            ignore,
            self.form[rows],
        )

    def and_more(self, other: "Bins") -> "Bins":
        """These bins, then others of the same chromosome."""
        ignore = None
        if self.ignore is not None and other.ignore is not None:
            ignore = np.concatenate([self.ignore, other.ignore])
        return Bins(
            self.chrom,
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.split, other.split]),
            np.concatenate([self.labels, other.labels]),
            ignore,
            np.concatenate([self.form, other.form]),
        )


def write_splits(
    folder: Path,
    header: StoreHeader,
    kept: Sequence[Bins],
    *,
    genome: Genome,
    watch: Stopwatch,
    seed: int = 0,
) -> None:
    """Write `train.h5`, `valid.h5` and `test.h5`.

    Args:
        folder: the new dataset's folder, in which none of the files is there yet.
        header: window, bin, strands and targets, which all of the files tell.
        kept: the bins of each chromosome that get a window, in the order of the rows.
        genome: open FASTA file that the windows are cut from.
        watch: counts the seconds of reading, packing and writing.
        seed: number from which shuffled windows are drawn.
    """
    rng = np.random.default_rng([seed, 0x5F1])
    flank = (header.window - header.bin) // 2
    full = [part for part in kept if len(part.starts)]
    rows = np.sum([np.bincount(part.split, minlength=len(SPLITS)) for part in full], axis=0)

    def pack(part: Bins) -> tuple[Bins, PackedSequence]:
        with watch.stage("reading sequences, in a second thread"):
            packed = PackedSequence(genome.codes(part.chrom), header.window)
        with watch.stage("packing sequences, in a second thread"):
            packed.prepare(part.starts - flank)
        return part, packed

    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                SplitWriter(
                    folder / f"{name}.h5",
                    header,
                    n_windows=int(n_windows),
                    with_ignore=full[0].ignore is not None,
                    chrom_width=max(len(part.chrom.encode()) for part in full),
                )
            )
            for name, n_windows in zip(SPLITS, rows, strict=True)
        ]
        bar = stack.enter_context(
            progress(total=int(rows.sum()), desc="write", unit="window", unit_scale=True)
        )
        sequences = stack.enter_context(contextlib.closing(one_ahead(pack, full)))
        for _ in full:
            with watch.stage("waiting for the second thread"):
                part, packed = next(sequences)
            bar.set_description(f"write {part.chrom}", refresh=False)
            for code, writer in enumerate(writers):
                chosen = part.at(part.split == code)
                for block in _blocks(
                    chosen, packed, window=header.window, flank=flank, watch=watch, rng=rng
                ):
                    with watch.stage("writing"):
                        writer.append(block)
                    bar.update(len(block.sequence))


def _blocks(
    part: Bins,
    packed: PackedSequence,
    *,
    window: int,
    flank: int,
    watch: Stopwatch,
    rng: np.random.Generator,
) -> Iterator[Rows]:
    for begin in range(0, len(part.starts), _BLOCK_ROWS):
        block = slice(begin, begin + _BLOCK_ROWS)
        windows = part.starts[block] - flank
        with watch.stage("extracting windows"):
            sequence = packed.windows(windows)
            _transform(sequence, part.form[block], window, rng)
        yield Rows(
            sequence,
            part.labels[block],
            ignore=None if part.ignore is None else part.ignore[block],
            chrom=np.full(len(windows), part.chrom),
            start=windows,
        )


def _transform(
    sequence: Bytes, form: npt.NDArray[np.int8], window: int, rng: np.random.Generator
) -> None:
    """Turn and shuffle packed windows (n, ceil(L/2)) in place, as their forms (n,) say."""
    turned = form & REVERSED > 0
    if turned.any():
        sequence[turned] = reverse_complement(sequence[turned], window)
    for row in np.flatnonzero(form & SHUFFLED).tolist():
        (codes,) = unpack_codes(sequence[row : row + 1], window)
        sequence[row] = pack_codes(dinucleotide_shuffle(codes, rng)[None])[0]
