"""Genomes and intervals: FASTA, BED and narrowPeak files, regions, covered bases.

Positions are 0-based and half-open here; a `Region` on the command line is 1-based and inclusive.
Interval arrays are int64: `starts` (n,), `ends` (n,). Bins are given by their starts (m,),
ascending, and one length. Nothing here knows targets, labels or splits.
"""

import contextlib
import gzip
import math
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyfaidx

from danq_keras.console import InputError
from danq_keras.dna import Bytes, encode

Positions: TypeAlias = npt.NDArray[np.int64]

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_WORDS = ("#", "track", "browser")
_NARROW_PEAK_COLUMNS = 10  # Source: UCSC, ENCODE narrowPeak is BED6+4
_BROAD_PEAK_COLUMNS = 9  # Source: UCSC, ENCODE broadPeak is BED6+3
_SCORE, _SIGNAL, _SUMMIT = 4, 6, 9
_UNPACK_BYTES = 1 << 24


@contextlib.contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
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
        except BaseException:
            self._cleanup.close()
            raise
        self.lengths: dict[str, int] = {
            name: record.rlen for name, record in self._fasta.faidx.index.items()
        }

    def _plain_file(self) -> Path:
        with _open_bytes(self.path) as source:
            packed = not hasattr(source, "raw")
            first = source.read(4096)
            if not first.lstrip().startswith(b">"):
                received = first[:20].decode("ascii", "replace").splitlines()
                raise InputError(
                    f"{self.path}: not a FASTA file: it must begin with '>'. "
                    f"Received: {received[0] if received else 'an empty file'!r}. Check --genome."
                )
            if not packed:
                return self.path
            folder = self._temporary_folder()
            plain = folder / "genome.fa"
            with plain.open("wb") as unpacked:
                unpacked.write(first)
                shutil.copyfileobj(source, unpacked, _UNPACK_BYTES)
            return plain

    def _temporary_folder(self) -> Path:
        return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="danq-genome-")))

    def _open(self, plain: Path) -> Any:
        index = plain.with_name(plain.name + ".fai")
        fresh = index.is_file() and index.stat().st_mtime >= plain.stat().st_mtime
        if not fresh and not os.access(plain.parent, os.W_OK):
            index = self._temporary_folder() / "genome.fa.fai"
        try:
            return pyfaidx.Fasta(str(plain), indexname=str(index), as_raw=True)
        except (pyfaidx.FastaIndexingError, ValueError, AssertionError) as error:
            raise InputError(
                f"{self.path}: not a usable FASTA file ({_one_line(error)}). Check --genome."
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
        # pyfaidx counts from 1, last base included.
        codes = encode(self._fasta.faidx.fetch(chrom, start + 1, end))
        if len(codes) != end - start:
            raise InputError(
                f"{self.path}: {chrom} has fewer bases than its index says. Delete "
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


@dataclass(frozen=True, eq=False)
class Bed:
    """The features of a BED or peak file, in its order.

    `names` are the chromosomes; `chrom` (n,) int64 indexes them; `starts`, `ends` (n,) int64;
    `signal` (n,) float64 is narrowPeak's and broadPeak's signalValue, else the score; `summits`
    (n,) int64 are narrowPeak's, relative to the start, -1 for none. Both None where the file
    has no such column.
    """

    path: Path
    names: tuple[str, ...]
    chrom: Positions
    starts: Positions
    ends: Positions
    signal: npt.NDArray[np.float64] | None = None
    summits: Positions | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def describe(self, index: int) -> str:
        """CHROM:START-END of a feature, as the file has it (0-based, half-open)."""
        return f"{self.names[self.chrom[index]]}:{self.starts[index]}-{self.ends[index]}"


def read_bed(path: Path, *, with_signal: bool = False) -> Bed:
    """Read a BED, narrowPeak or broadPeak file, plain or gzip.

    Leading `#`, `track` and `browser` lines are passed over. A narrowPeak is recognised by its ten
    columns, the last four numbers, a broadPeak by its name and nine columns.

    Args:
        path: the file.
        with_signal: also read the signal, which must then be there; other BED files have their
            score column read as such.

    Raises:
        InputError: no features, too few columns, words for numbers, or an end not above its start;
            the message names the line.
    """
    try:
        with _open_bytes(path) as handle:
            n_header, first = _pass_header(handle)
            handle.seek(0)
            used = _columns(path, _split(first), with_signal=with_signal)
            table = pd.read_csv(
                handle,
                sep="\t" if b"\t" in first else r"\s+",
                header=None,
                skiprows=n_header,
                usecols=list(used.values()),
                dtype={column: _DTYPES[name] for name, column in used.items()},
                na_filter=False,
                quoting=3,
            )
    except (ValueError, OverflowError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        _explain(path, with_signal=with_signal, error=error)
    columns = {name: table[column] for name, column in used.items()}
    names, chrom = columns["chrom"].cat.categories, columns["chrom"].cat.codes
    bed = Bed(
        path=path,
        names=tuple(str(name) for name in names),
        chrom=chrom.to_numpy(np.int64),
        starts=columns["start"].to_numpy(np.int64),
        ends=columns["end"].to_numpy(np.int64),
        signal=columns["signal"].to_numpy(np.float64) if "signal" in columns else None,
        summits=columns["summit"].to_numpy(np.int64) if "summit" in columns else None,
    )
    bad = (bed.starts < 0) | (bed.ends <= bed.starts)
    if bed.signal is not None:
        bad |= ~np.isfinite(bed.signal)
    if bad.any() or "" in bed.names:
        _explain(path, with_signal=with_signal)
    return bed


_DTYPES = {
    "chrom": "category",
    "start": np.int64,
    "end": np.int64,
    "signal": np.float64,
    "summit": np.int64,
}


def _pass_header(handle: IO[bytes]) -> tuple[int, bytes]:
    """Number of lines before the first feature, and that feature's line (b"" for none)."""
    n_header = 0
    for line in handle:
        if line.strip() and not line.decode("utf-8", "replace").startswith(_HEADER_WORDS):
            return n_header, line
        n_header += 1
    return n_header, b""


def _split(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return text.split("\t") if "\t" in text else text.split()


def _columns(path: Path, fields: list[str], *, with_signal: bool) -> dict[str, int]:
    """Which columns to read of a file whose first feature has these fields.

    Raises:
        InputError: the file has no features, too few columns, or no signal where one is needed.
    """
    if not fields:
        raise InputError(f"{path}: no features. A BED file needs at least one line.")
    if len(fields) < 3:
        raise InputError(
            f"{path}: a BED file has at least 3 columns (chromosome, start, end). "
            f"Received: {len(fields)}. Separate the columns with tabs."
        )
    used = {"chrom": 0, "start": 1, "end": 2}
    named = path.name.lower()
    narrow = "narrowpeak" in named or all(_is_number(field) for field in fields[_SIGNAL:])
    narrow &= len(fields) == _NARROW_PEAK_COLUMNS
    broad = "broadpeak" in named and len(fields) == _BROAD_PEAK_COLUMNS
    if narrow:
        used["summit"] = _SUMMIT
    if with_signal:
        used["signal"] = _SIGNAL if narrow or broad else _SCORE
        if used["signal"] >= len(fields):
            raise InputError(
                f"{path}: no signal (narrowPeak, broadPeak) and no score (BED column 5) for "
                f"--min-signal. Received: {len(fields)} columns. Leave the option out."
            )
    return used


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _explain(path: Path, *, with_signal: bool, error: Exception | None = None) -> NoReturn:
    """Find the first line that is at fault; slow, and only for files already found wrong."""
    n_columns, used = 0, dict[str, int]()
    with _open_bytes(path) as handle:
        for number, line in enumerate(handle, 1):
            fields = _split(line)
            if not n_columns:
                if not line.strip() or fields[0].startswith(_HEADER_WORDS):
                    continue
                n_columns, used = len(fields), _columns(path, fields, with_signal=with_signal)
            # pandas passes over blank lines too.
            reason = line.strip() and _fault(fields, used, n_columns)
            if reason:
                raise InputError(
                    f"{path}, line {number}: {reason}. Received: {' '.join(fields)[:60]!r}. "
                    "Correct the file."
                )
    raise InputError(f"{path}: not a BED file ({_one_line(error)}). Correct the file.") from error


def _fault(fields: list[str], used: dict[str, int], n_columns: int) -> str:
    """What is wrong with a feature line, "" for nothing."""
    if len(fields) != n_columns:
        return f"{len(fields)} columns where the first feature has {n_columns}"
    if not fields[0]:
        return "no chromosome"
    for name, column in used.items():
        if _DTYPES[name] is np.float64 and not _is_number(fields[column]):
            return f"the {name} must be a finite number"
        if _DTYPES[name] is np.int64 and not re.fullmatch(r"-?\d{1,18}", fields[column]):
            return f"the {name} must be a whole number"
    if int(fields[1]) < 0:
        return "the start must not be negative (BED counts from 0)"
    return "the end must be above the start" if int(fields[2]) <= int(fields[1]) else ""


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def merge(starts: Positions, ends: Positions) -> tuple[Positions, Positions]:
    """Union of intervals as disjoint ones, ascending, none touching another."""
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    begins = np.concatenate([[True], starts[1:] > reach[:-1]])
    return starts[begins], reach[np.concatenate([begins[1:], [True]])]


def overlapped(
    starts: Positions, ends: Positions, *, bins: Positions, length: int
) -> tuple[Positions, Positions]:
    """Bins [first, last) that share a base with each interval; `bins` must ascend."""
    first = np.searchsorted(bins, starts - length, "right")
    return first, np.maximum(np.searchsorted(bins, ends, "left"), first)


def covered_bases(starts: Positions, ends: Positions, *, bins: Positions, length: int) -> Positions:
    """Bases of each bin that disjoint intervals cover.

    Args:
        starts: (n,) interval starts; disjoint (see `merge`), or bases are counted twice.
        ends: (n,) interval ends.
        bins: (m,) bin starts, ascending; bins may overlap.
        length: bases a bin.

    Returns:
        (m,) int64.
    """
    first, last = overlapped(starts, ends, bins=bins, length=length)
    counts = last - first
    owner = np.repeat(np.arange(len(starts)), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    shared = np.minimum(ends[owner], bins[index] + length) - np.maximum(starts[owner], bins[index])
    return np.bincount(index, weights=shared, minlength=len(bins)).astype(np.int64)
