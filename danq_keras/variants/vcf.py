"""VCF files: plain, bgzip or gzip text, or BCF, read with pysam, record by record, in order.

Positions are 1-based, as in the file. What a record's alleles mean is not judged here (see
`variants`), genotypes are not read, and no index is needed. pysam belongs to the extra `variants`:
nobody else in the package imports it, so writing bgzip is here too.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import pysam

from danq_keras.system.errors import InputError
from danq_keras.system.files import open_bytes

_GZIP_MAGIC = b"\x1f\x8b"
_BGZF_FIELD = slice(12, 14)  # Source: the SAM specification, 4.1: the extra field "BC"
_DAMAGED = (OSError, ValueError, NotImplementedError)  # what pysam may say of a file
MISSING = "."


class Record(NamedTuple):
    """A line of a VCF file: `pos` is 1-based, `id` "." where it has none, `alts` as written.

    `line` is the whole line without its end, empty unless it was asked for.
    """

    chrom: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]
    line: str = ""


class VcfFile:
    """An open VCF file; use as a context manager. It is unpacked at most once.

    Args:
        path: plain, bgzip or gzip text, or BCF.

    Attributes:
        path: the file.
        header: its header lines, each with its end, up to and with #CHROM.

    Raises:
        InputError: no such file, no VCF header, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cleanup = contextlib.ExitStack()
        try:
            self._readable = self._seekable()
            with self._open() as file:
                self.header = str(file.header)
        except BaseException:
            self._cleanup.close()
            raise

    def _seekable(self) -> Path:
        """The file, or a temporary copy of what ordinary gzip packed: pysam cannot read that."""
        with open_bytes(self.path) as content:
            if not content.read(1):
                raise InputError(f"{self.path}: the file is empty. Give a VCF file with variants.")
            content.seek(0)
            with self.path.open("rb") as raw:
                first = raw.read(16)
            if not first.startswith(_GZIP_MAGIC) or first[_BGZF_FIELD] == b"BC":
                return self.path
            folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="danq-vcf-"))
            plain = Path(folder) / "variants.vcf"
            with plain.open("wb") as unpacked:
                shutil.copyfileobj(content, unpacked)
            return plain

    def _open(self) -> pysam.VariantFile:
        try:
            with _silent():
                return pysam.VariantFile(str(self._readable))
        except _DAMAGED as error:
            if "truncated" in str(error):
                raise InputError(
                    f"{self.path}: truncated: its last block is missing. Fetch the file again."
                ) from error
            raise InputError(
                f"{self.path}: not a VCF file: it must begin with ##fileformat=VCFv4 and have a "
                "#CHROM line. Put the header back, or check the path."
            ) from error

    def records(self, *, with_lines: bool = False) -> Iterator[Record]:
        """The records from the first on; each call is a pass of its own.

        Args:
            with_lines: whether a record has its whole line too.

        Raises:
            InputError: a line is malformed, or the file is truncated.
        """
        with self._open() as file:
            yield from self._read(iter(file), with_lines=with_lines)

    def _read(self, records: Iterator[Any], *, with_lines: bool) -> Iterator[Record]:
        n_read, last = 0, ""
        while True:
            try:
                with _silent():
                    record = next(records)
                    text = str(record).rstrip("\r\n") if with_lines else ""
            except StopIteration:
                return
            except _DAMAGED as error:
                raise InputError(
                    f"{self.path}: record {n_read + 1}{last} is malformed, or the file ends in it. "
                    "A record is CHROM, POS (a whole number), ID, REF, ALT, QUAL, FILTER and INFO, "
                    "separated by tabs. Correct the file."
                ) from error
            n_read, last = n_read + 1, f", after {record.chrom}:{record.pos},"
            name, ref = record.id or MISSING, record.ref or MISSING
            yield Record(record.chrom, record.pos, name, ref, tuple(record.alts or ()), text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hold back htslib's own messages, such as of contigs that a header leaves out."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


@contextlib.contextmanager
def text_output(path: Path, *, packed: bool) -> Iterator[BinaryIO]:
    """A new file to write bytes into, packed as bgzip does (any gunzip reads it) or plain."""
    with pysam.BGZFile(str(path), "wb") if packed else path.open("wb") as file:
        yield file
