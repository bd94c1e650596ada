"""Genomes: FASTA files, regions on the command line, packed windows of a sequence.

Positions are 0-based and half-open here; a `Region` on the command line is 1-based and inclusive.
Codes are (L,) uint8 as in `dna`.
"""

import contextlib
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyfaidx

from danq_keras.genome.dna import UNKNOWN, Bytes, encode, pack_codes
from danq_keras.genome.fasta_index import fits, write_index
from danq_keras.system.command import InputError, log, progress

Positions: TypeAlias = npt.NDArray[np.int64]

_GZIP_MAGIC = b"\x1f\x8b"
_UNPACK_BYTES = 1 << 24
_READ_BYTES = 1 << 22
_SLOW_TO_INDEX = 1 << 26
_PROTEIN_LETTERS = frozenset(b"EFIJLOPQZ")  # not among the IUPAC codes of bases
_CODE_OF_BYTE = encode(np.arange(256, dtype=np.uint8)).tobytes()


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking gzip (and so bgzip) whatever the name says.

    Raises:
        InputError: no such file, or damaged gzip.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the path.")
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        try:
            if not packed:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{path}: damaged or truncated gzip ({error}). Fetch the file again."
            ) from error


class Genome:
    """A FASTA file, plain or compressed; use as a context manager.

    Only a `.fai` is ever written beside the source; where that folder cannot be written, and for a
    compressed file, everything is temporary.

    Attributes:
        path: the file.
        lengths: sequence name → length in bases, in the order of the file.

    Raises:
        InputError: missing, empty, damaged, or not FASTA.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cleanup = contextlib.ExitStack()
        try:
            plain = self._plain_file()
            self._fasta = self._cleanup.enter_context(self._open(plain))
            self._file = self._cleanup.enter_context(plain.open("rb")).fileno()
        except BaseException:
            self._cleanup.close()
            raise
        self.lengths: dict[str, int] = {
            name: record.rlen for name, record in self._fasta.faidx.index.items()
        }

    def _plain_file(self) -> Path:
        with open_bytes(self.path) as source:
            packed = not hasattr(source, "raw")
            first = source.read(4096)
            if not first.lstrip().startswith(b">"):
                received = first[:20].decode("ascii", "replace").splitlines()
                raise InputError(
                    f"{self.path}: not a FASTA file: it must begin with '>'. "
                    f"Received: {received[0] if received else 'an empty file'!r}. Check --genome."
                )
            lines = [line for line in first.splitlines() if not line.startswith(b">")]
            if foreign := _PROTEIN_LETTERS & set(b"".join(lines).upper()):
                raise InputError(
                    f"{self.path}: not DNA: it has letters that only proteins have. Received: "
                    f"{', '.join(map(chr, sorted(foreign)))}. Give the sequences of bases."
                )
            if not packed:
                return self.path
            folder = self._temporary_folder()
            plain = folder / "genome.fa"
            with plain.open("wb") as unpacked:
                unpacked.write(first)
                self._unpack(source, unpacked)
            return plain

    def _unpack(self, source: IO[bytes], target: IO[bytes]) -> None:
        with progress(
            total=None, desc=f"unpack {self.path.name}", unit="B", unit_scale=True
        ) as bar:
            while block := source.read(_UNPACK_BYTES):
                target.write(block)
                bar.update(len(block))

    def _temporary_folder(self) -> Path:
        return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="danq-genome-")))

    def _open(self, plain: Path) -> Any:
        index = plain.with_name(plain.name + ".fai")
        fresh = index.is_file() and index.stat().st_mtime >= plain.stat().st_mtime
        if fresh and not fits(plain, index):
            log.warning("%s: not the index of this FASTA file; a new one is made.", index)
            fresh = False
        if not fresh and not os.access(plain.parent, os.W_OK):
            index = self._temporary_folder() / "genome.fa.fai"
        if not fresh and not write_index(plain, index):
            index.unlink(missing_ok=True)  # pyfaidx would take one that looks new enough
            if plain.stat().st_size > _SLOW_TO_INDEX:
                log.info("%s: its lines are irregular, making its index takes longer.", self.path)
        try:
            return pyfaidx.Fasta(str(plain), indexname=str(index), as_raw=True)
        except (pyfaidx.FastaIndexingError, ValueError, AssertionError) as error:
            raise InputError(
                f"{self.path}: not a usable FASTA file ({one_line(error)}). Check --genome."
            ) from error

    def codes(self, chrom: str) -> Bytes:
        """Base codes (length,) uint8 of a whole sequence, 0-3 = A,G,C,T, 4 = unknown."""
        return self.fetch(chrom, 0, self.lengths[chrom])

    def fetch(self, chrom: str, start: int, end: int) -> Bytes:
        """Base codes (end - start,) uint8 of an interval inside a sequence.

        Raises:
            ValueError: the interval is not inside the sequence.
        """
        if not 0 <= start < end <= self.lengths[chrom]:
            raise ValueError(f"{chrom}:{start}-{end} is not inside 0-{self.lengths[chrom]}.")
        record = self._fasta.faidx.index[chrom]
        first, last = (
            record.offset + base // record.lenc * record.lenb + base % record.lenc
            for base in (start, end - 1)
        )
        codes, n_read = np.empty(end - start, np.uint8), 0
        for at in range(first, last + 1, _READ_BYTES):
            read = os.pread(self._file, min(_READ_BYTES, last + 1 - at), at)
            block = np.frombuffer(read.translate(_CODE_OF_BYTE, b"\r\n"), np.uint8)
            n_read += len(block)
            codes[n_read - len(block) : n_read] = block[: max(0, len(codes) + len(block) - n_read)]
        if n_read != len(codes):
            raise InputError(
                f"{self.path}: {chrom} has not the bases that its index says. Delete "
                f"{self.path.name}.fai, or fetch the file again."
            )
        return codes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()


@dataclass(frozen=True)
class Region:
    """A chromosome, or the part [start, end) of it; `end` is None for all the rest."""

    chrom: str
    start: int = 0
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Read CHROM or CHROM:START-END, 1-based and inclusive, commas in numbers allowed.

        Raises:
            InputError: the text is neither.
        """
        chrom, colon, numbers = text.strip().rpartition(":")
        if not colon:
            chrom, numbers = numbers, ""
        start, dash, end = numbers.replace(",", "").partition("-")
        well_formed = start.isdecimal() and end.isdecimal() and 1 <= int(start) <= int(end)
        if not chrom or (colon and not (dash and well_formed)):
            raise InputError(
                "A region is CHROM or CHROM:START-END, 1-based and inclusive, such as "
                f"chr7:30,508,751-35,296,850. Received: {text!r}."
            )
        return cls(chrom, int(start) - 1, int(end)) if colon else cls(chrom)


class PackedSequence:
    """A sequence packed once, so that a window is a plain copy of bytes.

    Two bases share a byte: windows that begin at an odd base come from a second packing, which is
    one base later and made only when it is needed.

    Args:
        codes: (length,) uint8 base codes.
        window: L, even.
    """

    def __init__(self, codes: Bytes, window: int) -> None:
        self._codes = codes
        self._width = window // 2
        self._views: dict[int, Bytes] = {}

    def prepare(self, starts: Positions) -> None:
        """Pack all that the windows at `starts` (n,) need."""
        for phase in np.unique(starts % 2).tolist():
            self._view(phase)

    def windows(self, starts: Positions) -> Bytes:
        """Packed windows (n, L/2) at `starts` (n,)."""
        rows = np.empty((len(starts), self._width), np.uint8)
        for phase in (0, 1):
            here = starts % 2 == phase
            if here.any():
                rows[here] = self._view(phase)[starts[here] // 2]
        return rows

    def _view(self, phase: int) -> Bytes:
        if phase not in self._views:
            even = (len(self._codes) - phase) // 2 * 2
            packed = pack_codes(self._codes[phase : phase + even])
            self._views[phase] = np.lib.stride_tricks.sliding_window_view(packed, self._width)
        return self._views[phase]


def unknown_runs(codes: Bytes) -> tuple[Positions, Positions]:
    """Starts and ends of the stretches of unknown bases in codes (L,)."""
    unknown = np.concatenate([[False], codes == UNKNOWN, [False]])
    edges = np.flatnonzero(unknown[1:] != unknown[:-1])
    return edges[0::2], edges[1::2]


def one_line(error: object) -> str:
    """The text of an error without its line breaks."""
    return " ".join(str(error).split())


def shorten(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
