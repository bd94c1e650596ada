"""Reading pieces of a file that bgzip packed, without unpacking the rest.

bgzip writes gzip in blocks of at most 64 KiB, each of which says how long it is: a walk over their
heads finds every block, so no `.gzi` is needed. Positions are those of the unpacked bytes.

Source: the SAM specification, 4.1, https://samtools.github.io/hts-specs/SAMv1.pdf
"""

import functools
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from danq_keras.system.errors import InputError
from danq_keras.system.files import is_bgzip

_MAGIC = b"\x1f\x8b\x08\x04"
_HEADER, _TRAILER = 18, 8
_KEPT_BLOCKS = 256  # 16 MiB: sorted windows find their neighbours' blocks


def is_bgzf(path: Path) -> bool:
    """Whether a file begins with a block of bgzip."""
    with path.open("rb") as file:
        return is_bgzip(file.read(_HEADER))


def _block_bytes(header: bytes) -> int:
    """Packed bytes of the block with this header, 0 where it is none of bgzip."""
    is_one = header[:4] == _MAGIC and header[10:14] == b"\x06\x00BC" and len(header) == _HEADER
    return int.from_bytes(header[16:18], "little") + 1 if is_one else 0


class BgzfFile:
    """A bgzip file, open for reading anywhere; use as a context manager.

    Attributes:
        path: the file.
        size: unpacked bytes.

    Raises:
        InputError: a block is damaged or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._packed, self._starts = self._blocks()
        except BaseException:
            self._file.close()
            raise
        self.size = int(self._starts[-1])
        self._block = functools.lru_cache(_KEPT_BLOCKS)(self._unpack)

    def _blocks(self) -> tuple[list[int], "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """First packed byte of each block and the end; first unpacked byte of each and the end."""
        size = self.path.stat().st_size
        packed, starts = [0], [0]
        while packed[-1] < size:
            n_bytes = _block_bytes(os.pread(self._file.fileno(), _HEADER, packed[-1]))
            end = packed[-1] + n_bytes
            if n_bytes <= _HEADER + _TRAILER - 1 or end > size:
                raise self._damaged("a block is cut short")
            unpacked = int.from_bytes(os.pread(self._file.fileno(), 4, end - 4), "little")
            packed.append(end)
            starts.append(starts[-1] + unpacked)
        return packed, np.array(starts, np.int64)

    def _damaged(self, why: object) -> InputError:
        return InputError(f"{self.path}: damaged or truncated gzip ({why}). Fetch the file again.")

    def _unpack(self, number: int) -> bytes:
        begin, end = self._packed[number], self._packed[number + 1]
        block = os.pread(self._file.fileno(), end - begin, begin)
        try:
            unpacked = zlib.decompress(block[_HEADER:-_TRAILER], wbits=-zlib.MAX_WBITS)
        except zlib.error as error:
            raise self._damaged(error) from error
        if zlib.crc32(unpacked) != int.from_bytes(block[-_TRAILER:-4], "little"):
            raise self._damaged("a checksum differs")
        return unpacked

    def read(self, at: int, n_bytes: int) -> bytes:
        """The unpacked bytes [at, at + n_bytes), fewer where the file ends."""
        end = min(at + n_bytes, self.size)
        if at >= end:
            return b""
        first, last = np.searchsorted(self._starts, [at, end - 1], "right").tolist()
        blocks = b"".join(self._block(number) for number in range(first - 1, last))
        skipped = at - int(self._starts[first - 1])
        return blocks[skipped : skipped + end - at]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._file.close()
