"""A numeric variable of a MATLAB 5 file, read in one pass from its first value to its last.

scipy reads a variable whole: DeepSEA's test.mat took 1.8 GB for it, and 0.3 GB this way. What is
not laid out as MATLAB and scipy lay out real numbers in little-endian order is left to scipy.

Source: "MAT-File Format", The MathWorks, Level 5. An element is a tag (type, bytes) and its content
padded to 8 bytes; up to 4 bytes may stand in the tag itself. A variable is a matrix element, as it
is or compressed by zlib: flags with its class, dimensions, name, values.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import numpy as np
import numpy.typing as npt

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
_TYPES = {
    **{1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4"},
    **{7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"},
}
_CLASSES = range(6, 16)  # double to uint64
_COMPLEX = 0x0800
_READ = 1 << 18


class _Source(Protocol):
    def read(self, n: int) -> bytes: ...


class _Plain:
    """Bytes of an element as they are."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self._file, self.left = file, n_bytes

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes."""
        if n > self.left:
            raise ValueError("a variable is longer than its element")
        self.left -= n
        content = self._file.read(n)
        if len(content) < n:
            raise EOFError("the file ends inside a variable")
        return content

    def finish(self) -> None:
        """Refuse what is left beyond padding."""
        if self.left >= 8:
            raise ValueError("a variable is shorter than its element")


class _Inflated:
    """Bytes of a compressed element."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self._source = _Plain(file, n_bytes)
        self._inflate = zlib.decompressobj()

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes."""
        parts = []
        while n:
            part = self._more(n)
            if not part:
                raise EOFError("a compressed variable ends early")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _more(self, most: int) -> bytes:
        part = b""
        while not part and not self._inflate.eof:
            content = self._inflate.unconsumed_tail
            if not content:
                content = self._source.read(min(_READ, self._source.left))
            part = self._inflate.decompress(content, most)
            if not content and not part:
                break
        return part

    def finish(self) -> None:
        """Read to the checksum, which zlib compares."""
        left = len(self._more(_READ))
        if left >= 8 or self._more(1) or not self._inflate.eof:
            raise ValueError("a compressed variable does not end where it says")


@dataclass(frozen=True)
class _Head:
    """What stands before a variable's values; `dtype` None where scipy has to read it."""

    name: bytes
    shape: tuple[int, ...]
    dtype: str | None
    inside: bytes | None


class Numbers:
    """The values of one variable, in MATLAB's order: the first dimension runs fastest.

    Use as a context manager, which closes the file.

    Attributes:
        shape: its dimensions.
        dtype: of the values in the file.
    """

    def __init__(self, source: "_Plain | _Inflated", head: _Head, file: BinaryIO) -> None:
        assert head.dtype is not None
        self.shape, self.dtype = head.shape, np.dtype(head.dtype)
        self._source, self._inside, self._file = source, head.inside, file

    def read(self, n: int) -> npt.NDArray[np.generic]:
        """The next `n` values."""
        content = self._source.read(n * self.dtype.itemsize) if self._inside is None else b""
        if self._inside is not None:
            content, self._inside = self._inside, b""
        return np.frombuffer(content, self.dtype, n)

    def finish(self) -> None:
        """Refuse a variable that does not end with its values.

        Raises:
            ValueError: it goes on, or its checksum is wrong.
            EOFError: the file ends before.
        """
        if self._inside is None:
            self._source.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()


def open_numbers(path: Path, key: str) -> Numbers | None:
    """Open a variable of real numbers; None where it is laid out in another way.

    Raises:
        ValueError, EOFError, zlib.error, struct.error: the file is damaged.
        OSError: it cannot be read.
    """
    file = path.open("rb")
    try:
        header = file.read(_HEADER)
        places = _elements(file) if header[126:] == b"IM" else []
        named = [place for place in places if _head(_source(file, *place)).name == key.encode()]
        if len(named) == 1:
            source = _source(file, *named[0])
            head = _head(source)
            if head.dtype is not None:
                return Numbers(source, head, file)
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _elements(file: BinaryIO) -> list[tuple[int, int, int]]:
    """Type, place and bytes of each variable."""
    places, at = [], _HEADER
    end = file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        kind, n_bytes = struct.unpack("<II", file.read(8))
        if kind not in (_MATRIX, _COMPRESSED):
            return []
        places.append((kind, at + 8, n_bytes))
        at += 8 + n_bytes
    return places


def _source(file: BinaryIO, kind: int, at: int, n_bytes: int) -> "_Plain | _Inflated":
    """Where the content of a matrix element is read."""
    file.seek(at)
    if kind == _MATRIX:
        return _Plain(file, n_bytes)
    source = _Inflated(file, n_bytes)
    inner, _ = struct.unpack("<II", source.read(8))
    if inner != _MATRIX:
        raise ValueError("a compressed element is no variable")
    return source


def _tag(source: _Source) -> tuple[int, int, bytes | None]:
    """Type, bytes, and the content where it stands in the tag."""
    first, second = struct.unpack("<I4s", source.read(8))
    if first >> 16:
        n_bytes = first >> 16
        if n_bytes > 4:
            raise ValueError("a small element has more than 4 bytes")
        return first & 0xFFFF, n_bytes, second[:n_bytes]
    return first, struct.unpack("<I", second)[0], None


def _content(source: _Source, most: int) -> tuple[int, bytes]:
    """Type and bytes of a short element, its padding read too."""
    kind, n_bytes, inside = _tag(source)
    if inside is not None:
        return kind, inside
    if n_bytes > most:
        raise ValueError("a header of a variable is too long")
    return kind, source.read(-(-n_bytes // 8) * 8)[:n_bytes]


def _head(source: _Source) -> _Head:
    kind, flags = _content(source, 8)
    if kind != _UINT32 or len(flags) != 8:
        raise ValueError("a variable has no flags")
    bits = struct.unpack("<I", flags[:4])[0]
    kind, dimensions = _content(source, 256)
    if kind != _INT32 or len(dimensions) % 4 or len(dimensions) < 8:
        raise ValueError("a variable has no dimensions")
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    kind, name = _content(source, 1024)
    if kind != _INT8 or min(shape) < 0:
        raise ValueError("a variable has no name or a negative dimension")
    if bits & 0xFF not in _CLASSES or bits & _COMPLEX:
        return _Head(name, shape, None, None)
    kind, n_bytes, inside = _tag(source)
    if kind not in _TYPES:
        return _Head(name, shape, None, None)
    if n_bytes != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
        raise ValueError("a variable has not as many values as its dimensions say")
    return _Head(name, shape, _TYPES[kind], inside)
