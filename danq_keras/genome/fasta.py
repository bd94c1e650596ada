"""Genomes: FASTA files, regions on the command line, packed windows of a sequence.

Positions are 0-based and half-open here; a `Region` on the command line is 1-based and inclusive.
Codes are (L,) uint8 as in `dna`.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyfaidx

from danq_keras.genome.dna import Bytes, encode
from danq_keras.genome.fasta_index import fits, write_index
from danq_keras.system.errors import InputError, one_line
from danq_keras.system.files import open_bytes
from danq_keras.system.terminal import log, progress

Positions: TypeAlias = npt.NDArray[np.int64]

_UNPACK_BYTES = 1 << 24
_READ_BYTES = 1 << 22
_SLOW_TO_INDEX = 1 << 26
_PROTEIN_LETTERS = frozenset(b"EFIJLOPQZ")  # not among the IUPAC codes of bases
_CODE_OF_BYTE = encode(np.arange(256, dtype=np.uint8)).tobytes()


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
                    f"Received: {received[0] if received else 'an empty file'!r}. Check `genome`."
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
                f"{self.path}: not a usable FASTA file ({one_line(error)}). Check `genome`."
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
