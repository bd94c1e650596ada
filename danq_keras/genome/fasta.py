"""Genomes: FASTA files, plain, packed or from a pipe, whatever their lines are.

Positions are 0-based and half-open here; a `Region` on the command line is 1-based and inclusive.
Codes are (L,) uint8 as in `dna`. Only letters count as positions: blanks and line ends do not. What
is read with a doubt is counted once a record and said at the end; what is no base is refused.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.genome.bgzf import BgzfFile, is_bgzf
from danq_keras.genome.dna import ALPHABET, UNKNOWN, Bytes
from danq_keras.genome.fasta_index import (
    BLANKS,
    Layout,
    Lines,
    Pieces,
    Reader,
    begins_as_fasta,
    find_records,
    index_text,
    read_index,
)
from danq_keras.system.claims import temporary_folder
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike, atomic_output, open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK, input_file, is_utf16, room_for
from danq_keras.system.names import refuse_control
from danq_keras.system.terminal import log, progress

Positions: TypeAlias = npt.NDArray[np.int64]

_UNPACK_BYTES = 1 << 24
_READ_BYTES = 1 << 22
_HEAD_BYTES = 1 << 16
_PROTEIN_LETTERS = frozenset(b"EFIJLOPQZ")  # not among the IUPAC codes of bases
# Codes that are no ASCII, which is quick to see, are settled before anybody else meets them: U is
# T, gaps and masks are unknown, and the rest is refused.
_URACIL, _GAP, _FOREIGN = 128, 129, 130
_GAP_LETTERS = b"-.*?Xx"
_LETTERS = ((b"NRYSWKMBDHV", UNKNOWN), (b"U", _URACIL), (_GAP_LETTERS, _GAP))


def _code_table() -> bytes:
    """The code of each of 256 letters."""
    table = bytearray([_FOREIGN]) * 256
    for letters, code in (*_LETTERS, *((base.encode(), i) for i, base in enumerate(ALPHABET))):
        for letter in letters + letters.lower():
            table[letter] = code
    return bytes(table)


_CODE_OF_BYTE = _code_table()


class Genome:
    """A FASTA file, plain or compressed, or a pipe; use as a context manager.

    Only a `.fai` is ever written beside the source, and where that folder cannot be written the
    index is in memory. A bgzip file with its `.fai` beside it is read in place; any other
    compressed file is unpacked into the folder of temporary files.

    Attributes:
        path: the file.
        plain: it again where other programs can read it, None where it is packed or a pipe.
        lengths: sequence name → length in bases, in the order of the file; 0 for a mere header.

    Raises:
        InputError: missing, empty, damaged, or not FASTA.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.plain: Path | None = None
        self._cleanup = contextlib.ExitStack()
        self._doubts = _Doubts(self.path)
        try:
            self._layouts, self._read = self._open()
            refuse_control(self._layouts, self.path, "sequence")
            self.lengths = {name: layout.n_bases for name, layout in self._layouts.items()}
            self._tell_odd_records()
        except BaseException:
            self._cleanup.close()
            raise

    def _open(self) -> tuple[dict[str, Layout], Reader]:
        """Where every record is, and what reads the file that has them."""
        source = input_file(self.path)
        with open_bytes(source) as content:
            packed = not hasattr(content, "raw")
            first = content.read(_HEAD_BYTES)
            self._check_head(first)
            if packed and is_bgzf(source):
                blocks = self._cleanup.enter_context(BgzfFile(source))
                if (found := self._beside(source, blocks.read, blocks.size)) is not None:
                    return dict(found), blocks.read
            if packed:
                source = self._unpacked(first, content)
        self.plain = self.path if source == self.path else None
        file = self._cleanup.enter_context(source.open("rb")).fileno()

        def read(at: int, n_bytes: int) -> bytes:
            return os.pread(file, n_bytes, at)

        found = self._beside(source, read, source.stat().st_size)
        return dict(found) if found is not None else self._indexed(source), read

    def _check_head(self, first: bytes) -> None:
        if is_utf16(first):
            raise InputError(
                f"{self.path}: text in UTF-16, two bytes a letter. Save it as plain text (UTF-8)."
            )
        if not begins_as_fasta(first):
            received = first[:20].decode("ascii", "replace").splitlines()
            raise InputError(
                f"{self.path}: not a FASTA file: it must begin with '>'. "
                f"Received: {received[0] if received else 'an empty file'!r}. Check `genome`."
            )
        lines = first.removeprefix(BYTE_ORDER_MARK).splitlines()
        lines = [line for line in lines if not line.startswith((b">", b";"))]
        if foreign := _PROTEIN_LETTERS & set(b"".join(lines).upper()):
            raise InputError(
                f"{self.path}: not DNA: it has letters that only proteins have. Received: "
                f"{', '.join(map(chr, sorted(foreign)))}. Give the sequences of bases."
            )

    def _beside(self, source: Path, read: Reader, size: int) -> dict[str, Lines] | None:
        """The records as the `.fai` beside a file has them; None without one that is its own."""
        index = _index_path(source)
        if not index.is_file():
            return None
        if index.stat().st_mtime < source.stat().st_mtime:
            log.info("%s: older than the FASTA file; a new one is made.", index)
            return None
        found = read_index(index, read, size)
        if found is None:
            log.warning("%s: not the index of this FASTA file; a new one is made.", index)
        return found

    def _unpacked(self, first: bytes, content: IO[bytes]) -> Path:
        with room_for(f"the unpacked {self.path} (bgzip with its .fai is read where it is)"):
            folder = temporary_folder("genome")
            plain = Path(self._cleanup.enter_context(folder)) / "genome.fa"
            with (
                plain.open("wb") as unpacked,
                progress(
                    total=None, desc=f"unpack {self.path.name}", unit="B", unit_scale=True
                ) as bar,
            ):
                unpacked.write(first)
                while block := content.read(_UNPACK_BYTES):
                    unpacked.write(block)
                    bar.update(len(block))
        return plain

    def _indexed(self, plain: Path) -> dict[str, Layout]:
        """The records of a plain file, whose new `.fai` is left beside it where that can be."""
        layouts = find_records(plain, self.path)
        text = index_text(layouts)
        if text is not None and plain == self.path:
            try:
                with atomic_output(_index_path(plain), overwrite=True) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            except OSError as error:  # a folder that is not ours, a full disk
                log.debug("%s: its index stays in memory (%s)", self.path, error)
        return layouts

    def _tell_odd_records(self) -> None:
        empty = [name for name, length in self.lengths.items() if not length]
        if len(empty) == len(self.lengths):
            raise InputError(
                f"{self.path}: no record has a base. Received: {len(empty)} headers alone. Is the "
                "file cut short?"
            )
        if empty:
            log.warning("%s: %d records have no bases: %s.", self.path, len(empty), shorten(empty))
        odd = [name for name, layout in self._layouts.items() if isinstance(layout, Pieces)]
        if odd:
            log.warning(
                "%s: %d records have lines of unequal length, blanks or comments in them (%s): "
                "their letters are counted, nothing else.",
                self.path,
                len(odd),
                shorten(odd, 3),
            )

    def codes(self, chrom: str) -> Bytes:
        """Base codes (length,) uint8 of a whole sequence, 0-3 = A,G,C,T, 4 = unknown."""
        length = self.lengths[chrom]
        return self.fetch(chrom, 0, length) if length else np.empty(0, np.uint8)

    def fetch(self, chrom: str, start: int, end: int) -> Bytes:
        """Base codes (end - start,) uint8 of an interval inside a sequence.

        Raises:
            ValueError: the interval is not inside the sequence.
            InputError: a letter of it is no base, or its index is not that of the file.
        """
        layout = self._layouts[chrom]
        if not 0 <= start < end <= layout.n_bases:
            raise ValueError(f"{chrom}:{start}-{end} is not inside 0-{layout.n_bases}.")
        ranges, skip = layout.ranges(start, end)
        first, last = ranges[0]
        if len(ranges) == 1 and last - first <= _READ_BYTES:  # a window: as little as can be
            text = self._read(first, last - first).translate(_CODE_OF_BYTE, BLANKS)
            codes, n_read = np.frombuffer(text, np.uint8)[skip:].copy(), len(text) - skip
            codes, is_plain = codes[: end - start], text.isascii()
        else:
            codes, n_read, is_plain = self._fetch_in_parts(ranges, skip, end - start)
        if n_read < end - start or (n_read > end - start and isinstance(layout, Lines)):
            raise InputError(
                f"{self.path}: {chrom} has not the bases that its index says. Delete "
                f"{self.path.name}.fai, or fetch the file again."
            )
        if not is_plain:
            self._settle(codes, chrom, start)
        return codes

    def _fetch_in_parts(
        self, ranges: list[tuple[int, int]], skip: int, length: int
    ) -> tuple[Bytes, int, bool]:
        """Codes (length,) from ranges of bytes, the bases there were, and whether all are settled.

        Not the whole text is in memory beside them.
        """
        codes, n_read, is_plain = np.empty(length, np.uint8), 0, True
        for first, last in ranges:
            for at in range(first, last, _READ_BYTES):
                text = self._read(at, min(_READ_BYTES, last - at)).translate(_CODE_OF_BYTE, BLANKS)
                block = np.frombuffer(text, np.uint8)[skip:]
                is_plain &= text.isascii()
                skip = max(0, skip - len(text))
                n_read += len(block)
                codes[n_read - len(block) : n_read] = block[: max(0, length + len(block) - n_read)]
        return codes, n_read, is_plain

    def _settle(self, codes: Bytes, chrom: str, start: int) -> None:
        """Give codes (L,) in place of letters that are read with a doubt; refuse what is no base.

        Raises:
            InputError: a letter is no base.
        """
        foreign = np.flatnonzero(codes == _FOREIGN)
        if len(foreign):
            base = start + int(foreign[0])
            letter = self.letters(chrom, base, base + 1)
            raise InputError(
                f"{self.path}: {chrom} has {letter.decode('latin-1')!a} at base {base + 1:,}, "
                "which is no IUPAC code of bases. Is it DNA, and is its .fai of this file? Correct "
                "it."
            )
        self._doubts.count(chrom, lambda: self.letters(chrom, 0, self.lengths[chrom]))
        codes[codes == _URACIL] = ALPHABET.index("T")
        codes[codes == _GAP] = UNKNOWN

    def letters(self, chrom: str, start: int, end: int) -> bytes:
        """The letters of an interval inside a sequence, as the file has them, without blanks.

        `fetch` has one code for all that are no single base.
        """
        ranges, skip = self._layouts[chrom].ranges(start, end)
        read = b"".join(self._read(first, last - first) for first, last in ranges)
        return read.translate(None, BLANKS)[skip : skip + end - start]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._doubts.tell()
        self._cleanup.close()


def _index_path(fasta: Path) -> Path:
    return fasta.with_name(fasta.name + ".fai")


class _Doubts:
    """Counts letters that are read with a doubt, of each record that is read, once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: set[str] = set()
        self._uracils = self._thymines = self._gaps = 0

    def count(self, record: str, letters: Callable[[], bytes]) -> None:
        """Count the letters of a record that was not counted yet."""
        if record in self._records:
            return
        self._records.add(record)
        text = letters()
        self._uracils += _count(text, b"Uu")
        self._thymines += _count(text, b"Tt")
        self._gaps += _count(text, _GAP_LETTERS)

    def tell(self) -> None:
        """Say what was counted."""
        if self._gaps:
            log.warning(
                "%s: %s of - . * ? X are read as unknown bases.", self._path, f"{self._gaps:,}"
            )
        if self._uracils and self._thymines:
            log.warning(
                "%s: has both T and U: %s U are read as T.", self._path, f"{self._uracils:,}"
            )
        elif self._uracils:
            log.info("%s: RNA: %s U are read as T.", self._path, f"{self._uracils:,}")


def _count(text: bytes, letters: bytes) -> int:
    return sum(text.count(letter) for letter in letters)
