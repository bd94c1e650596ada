"""0/1 variables of MATLAB files as packed rows: MATLAB 7.3 (HDF5) and MATLAB 5.

A variable has the samples on MATLAB's first axis, (N, ...), so they are the *last* axis on disk:
h5py sees MATLAB 7.3 as (..., N), scipy gives MATLAB 5 in Fortran order. Either way it is a table
of R bits by N samples, and comes out as packed rows (N, ceil(R/8)) uint8, first bit on top.

HDF5 variables are streamed: at most two blocks of `BLOCK_BYTES` are in memory, and the next block
is read while one is packed. Where the chunks are too long for that, the packed bits go through a
temporary file once. Of a MATLAB 5 variable the packed bits are in memory, an eighth of it.

Nothing here knows what the bits mean: `deepsea` does. `matlab_writer` is the way back.
"""

import contextlib
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
import scipy.io.matlab

from danq_keras.data.matlab5 import Numbers, open_numbers
from danq_keras.genome.dna import Bytes
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import array, check_sound, damage_told, reason_of
from danq_keras.system.inputs import refuse_pipe
from danq_keras.system.threads import one_ahead

BLOCK_BYTES = 1 << 26
DIRECT_BYTES = 1 << 28  # the largest slab of whole chunks that is read at once
_MATLAB5_ERRORS = (EOFError, struct.error, zlib.error, scipy.io.matlab.MatReadError)
"""Beside HDF5's."""
_KIND = ".mat or HDF5 file, or a truncated one", "Get the file again."

Advance = Callable[[int], object]


def ignore_progress(_n_bytes: int) -> None:
    """Stand in for a progress bar."""


@dataclass(frozen=True)
class Place:
    """A variable of a file, for messages."""

    path: Path
    key: str

    def __str__(self) -> str:
        return f"{self.path}: {self.key!r}"


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn the libraries' many ways to say that a file is damaged into one line."""
    with damage_told(path, *_KIND):
        try:
            yield
        except _MATLAB5_ERRORS as error:
            raise ValueError(reason_of(error)) from error


def pack_bits(rows: npt.NDArray[Any], place: Place, first: int = 0) -> Bytes:
    """Pack a table of 0/1 along its first axis.

    Args:
        rows: (R, n) of any real type, samples last.
        place: where it comes from.
        first: number of the first sample, for messages.

    Returns:
        (n, ceil(R/8)) uint8, first bit on top; a last incomplete byte ends in zeros.

    Raises:
        InputError: a value is neither 0 nor 1.
    """
    return np.ascontiguousarray(_pack_rows(checked_bits(rows, place, first=first, sample_axis=1)).T)


def _pack_rows(rows: Bytes) -> Bytes:
    """(ceil(R/8), n) of checked (R, n)."""
    packed = np.zeros((-(-len(rows) // 8), rows.shape[1]), np.uint8)
    # A byte row at a time stays in the processor's cache, and adding is faster than shifting:
    # forty times as fast as np.packbits along this axis.
    for target, begin in zip(packed, range(0, len(rows), 8), strict=True):
        for bits in rows[begin : begin + 8]:
            np.add(target, target, out=target)
            np.bitwise_or(target, bits, out=target)
    if len(rows) % 8:
        packed[-1] <<= 8 - len(rows) % 8
    return packed


def checked_bits(
    values: npt.NDArray[Any], place: Place, *, first: int = 0, sample_axis: int = 0
) -> Bytes:
    """The same values as uint8.

    Args:
        values: of any shape and real type.
        place: where they come from.
        first: number of the first sample, for messages.
        sample_axis: the axis of the samples, for messages.

    Raises:
        InputError: a value is neither 0 nor 1.
    """
    if values.dtype == np.uint8 and (not values.size or values.max() <= 1):
        return values
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        raise InputError(
            f"{place} must hold only 0 and 1. Received: {values[at]} in row "
            f"{first + int(at[sample_axis])}. Was the file converted? Use the original."
        )
    return values.astype(np.uint8)


class MatFile:
    """A MATLAB 5 or MATLAB 7.3 (HDF5) file; use as a context manager.

    Args:
        path: a MATLAB 5 or 7.3 file, or an HDF5 file of the same layout.
        scratch: folder for a temporary file as large as a packed variable, where one is needed;
            None: the system's.

    Raises:
        InputError: neither of the two, or truncated.
    """

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.path = path
        self._scratch = scratch
        self._file: h5py.File | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        refuse_pipe(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file. Check the path.")
        with _damaged(path):
            with path.open("rb"):  # says why, where h5py would only say no
                pass
            if h5py.is_hdf5(path):
                check_sound(path, *_KIND)
                self._file = h5py.File(path, "r", locking=False)
                self._list_hdf5(self._file)
            else:
                listed = scipy.io.whosmat(path, appendmat=False)
                self._shapes = {key: tuple(shape) for key, shape, _ in listed}
                self._kinds = {
                    key: kind not in ("char", "cell", "struct", "object", "sparse", "function")
                    for key, _, kind in listed
                }

    def _list_hdf5(self, file: h5py.File) -> None:
        links = {key: file.get(key, getlink=True) for key in file}
        items = {
            key: file[key] for key, link in links.items() if not isinstance(link, h5py.ExternalLink)
        }
        self._shapes = {
            key: item.shape
            for key, item in items.items()
            if isinstance(item, h5py.Dataset) and item.shape is not None
        }
        self._kinds = {key: items[key].dtype.kind in "buif" for key in self._shapes}

    @property
    def is_hdf5(self) -> bool:
        """Whether this is MATLAB 7.3 (or any other HDF5 file)."""
        return self._file is not None

    def keys(self) -> list[str]:
        """Names of the variables."""
        return list(self._shapes)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape as h5py (MATLAB 7.3) or scipy (MATLAB 5) gives it.

        Raises:
            InputError: there is no such variable, or it does not hold numbers.
        """
        if key not in self._shapes:
            held = reason_of(", ".join(self._shapes)) if self._shapes else "nothing"
            raise InputError(
                f"{self.path}: expected the key {key!r}, received: {held}. "
                "Is this the right file, and complete?"
            )
        if not self._kinds[key]:
            raise InputError(f"{Place(self.path, key)} must be numbers. Use the original file.")
        if self._file is not None:
            with _damaged(self.path):
                array(self._file, key)
        return self._shapes[key]

    def attribute(self, name: str) -> Any:
        """An attribute of an HDF5 file; None where there is none."""
        return self._file.attrs.get(name) if self._file is not None else None

    def samples_last(self, key: str) -> bool:
        """Whether h5py shows the samples on the last axis: MATLAB wrote the variable."""
        return self._file is not None and "MATLAB_class" in self._file[key].attrs

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def blocks(self, key: str, advance: Advance = ignore_progress) -> Generator[Bytes, None, None]:
        """Packed rows of a variable with samples on MATLAB's first axis.

        Args:
            key: the variable, (N, ...) to MATLAB, R values a sample.
            advance: called with the bytes of the variable that have been read.

        Yields:
            (n, ceil(R/8)) uint8, in order, N rows in all.

        Raises:
            InputError: the file is damaged or a value is neither 0 nor 1.
        """
        place = Place(self.path, key)
        if self._file is None:
            yield from _matlab5_blocks(place, advance)
        else:
            yield from _hdf5_blocks(self._file[key], place, scratch=self._scratch, advance=advance)

    def row_major_blocks(self, key: str) -> Iterator[npt.NDArray[Any]]:
        """Values of an HDF5 variable with samples on h5py's first axis, a block at a time."""
        if self._file is None:
            raise ValueError("Only HDF5 files have row-major variables.")
        dataset = self._file[key]
        step = _whole_chunks(dataset, axis=0)
        for begin in range(0, len(dataset), step):
            with _damaged(self.path):
                block = dataset[begin : begin + step]
            yield block


def _matlab5_blocks(place: Place, advance: Advance) -> Iterator[Bytes]:
    """Pack a variable in the order in which it is stored, then give its samples."""
    with _damaged(place.path):
        numbers = open_numbers(place.path, place.key)
    packed = _read_whole(place, advance) if numbers is None else _packed(numbers, place, advance)
    step = max(1, BLOCK_BYTES // 4 // max(1, len(packed)))
    for begin in range(0, packed.shape[1], step):
        yield np.ascontiguousarray(packed[:, begin : begin + step].T)


def _packed(numbers: Numbers, place: Place, advance: Advance) -> Bytes:
    """Packed bits (ceil(R/8), N) of a variable, eight rows of bits at a time."""
    n_samples, n_rows = numbers.shape[0], math.prod(numbers.shape[1:])
    packed = np.empty((-(-n_rows // 8), n_samples), np.uint8)
    with numbers:
        for number, begin in enumerate(range(0, n_rows, 8)):
            n = min(8, n_rows - begin)
            with _damaged(place.path):
                rows = numbers.read(n * n_samples).reshape(n, n_samples)
            packed[number] = _pack_rows(checked_bits(rows, place, sample_axis=1))[0]
            advance(rows.nbytes)
        with _damaged(place.path):
            numbers.finish()
    return packed


def _read_whole(place: Place, advance: Advance) -> Bytes:
    """Packed bits (ceil(R/8), N) of a variable that scipy reads at once."""
    with _damaged(place.path):
        loaded = scipy.io.loadmat(place.path, variable_names=[place.key], appendmat=False)
        values = loaded.pop(place.key)
    rows = values.T.reshape(-1, values.shape[0])
    packed = _pack_rows(checked_bits(rows, place, sample_axis=1))
    advance(rows.nbytes)
    return packed


def _whole_chunks(dataset: h5py.Dataset, axis: int) -> int:
    """Samples a block: as many whole chunks as `BLOCK_BYTES` hold, and at least one."""
    n_samples = max(1, int(dataset.shape[axis]))
    sample_bytes = max(1, int(dataset.size) // n_samples * dataset.dtype.itemsize)
    chunk: int = min(dataset.chunks[axis], n_samples) if dataset.chunks else 1
    n_chunks: int = max(1, BLOCK_BYTES // sample_bytes // chunk)
    return n_chunks * chunk


def _hdf5_blocks(
    dataset: h5py.Dataset, place: Place, *, scratch: Path | None, advance: Advance
) -> Iterator[Bytes]:
    """Stream a variable (..., N) along its last axis."""
    n_samples = dataset.shape[-1]
    if not dataset.size:
        yield np.zeros((n_samples, -(-math.prod(dataset.shape[:-1]) // 8)), np.uint8)
        return
    step = _whole_chunks(dataset, axis=-1)
    slab_bytes = step * dataset.size // n_samples * dataset.dtype.itemsize
    if dataset.chunks and slab_bytes > DIRECT_BYTES:
        yield from _spilled_blocks(dataset, place, scratch=scratch, advance=advance)
        return
    spans = [(begin, min(begin + step, n_samples)) for begin in range(0, n_samples, step)]
    reads = ((dataset, (..., slice(*span))) for span in spans)
    with contextlib.closing(_read_ahead(reads, place.path)) as values:
        for (begin, end), block in zip(spans, values, strict=True):
            yield pack_bits(block.reshape(-1, end - begin), place, begin)
            advance(block.nbytes)


def _read_ahead(
    reads: Iterable[tuple[h5py.Dataset, Any]], path: Path
) -> Generator[npt.NDArray[Any], None, None]:
    """Values of the selections in order; the next is read while the caller works on one.

    h5py lets go of the interpreter while it reads and inflates.
    """

    def read(part: tuple[h5py.Dataset, Any]) -> npt.NDArray[Any]:
        dataset, selection = part
        with _damaged(path):
            values: npt.NDArray[Any] = dataset[selection]
        return values

    return one_ahead(read, reads)


def _spilled_blocks(
    dataset: h5py.Dataset, place: Place, *, scratch: Path | None, advance: Advance
) -> Iterator[Bytes]:
    """Stream a variable whose chunks span too many samples.

    One pass reads every chunk once, by groups of rows, and leaves the packed bits byte row by
    byte row in a temporary file, an eighth of the variable; the second reads them by samples.
    """
    n_rows, n_samples = math.prod(dataset.shape[:-1]), dataset.shape[-1]
    width = -(-n_rows // 8)
    with tempfile.TemporaryFile(dir=scratch) as spill:
        for byte_row, begin, packed in _packed_by_rows(dataset, place, advance):
            for k, row in enumerate(packed):
                spill.seek((byte_row + k) * n_samples + begin)
                spill.write(row.data)
        spill.flush()
        step = max(1, BLOCK_BYTES // 4 // width)
        for begin in range(0, n_samples, step):
            block = np.empty((width, min(step, n_samples - begin)), np.uint8)
            for k, row in enumerate(block):
                spill.seek(k * n_samples + begin)
                spill.readinto(row.data)
            yield np.ascontiguousarray(block.T)


def _packed_by_rows(
    dataset: h5py.Dataset, place: Place, advance: Advance
) -> Iterator[tuple[int, int, Bytes]]:
    """Every value once, chunk after chunk: (first byte row, first sample, packed (bytes, n))."""
    per_item = math.prod(dataset.shape[1:-1])  # bits of one step on the first axis
    chunk_items, chunk_samples = dataset.chunks[0], min(dataset.chunks[-1], dataset.shape[-1])
    # Groups must begin at a byte and, so that no chunk is inflated twice, at a chunk.
    items = math.lcm(chunk_items, 8 // math.gcd(8, per_item))
    item_bytes = per_item * chunk_samples * dataset.dtype.itemsize
    if items * item_bytes <= BLOCK_BYTES:
        items *= BLOCK_BYTES // (items * item_bytes)
        step = chunk_samples
    else:  # the chunks stay in HDF5's cache while they are read a part at a time
        step = max(1, BLOCK_BYTES // (items * item_bytes // chunk_samples))
        dataset = _with_cache(dataset, items * item_bytes)
    spans = [
        (item, min(item + items, dataset.shape[0]), begin, min(begin + step, band + chunk_samples))
        for item in range(0, dataset.shape[0], items)
        for band in range(0, dataset.shape[-1], chunk_samples)
        for begin in range(band, min(band + chunk_samples, dataset.shape[-1]), step)
    ]
    reads = ((dataset, (slice(a, b), ..., slice(c, d))) for a, b, c, d in spans)
    with contextlib.closing(_read_ahead(reads, place.path)) as values:
        for (item, _, begin, _), block in zip(spans, values, strict=True):
            rows = block.reshape(-1, block.shape[-1])
            rows = checked_bits(rows, place, first=begin, sample_axis=1)
            yield item * per_item // 8, begin, _pack_rows(rows)
            advance(block.nbytes)


def _with_cache(dataset: h5py.Dataset, n_bytes: int) -> h5py.Dataset:
    """The same variable, opened with a chunk cache of `n_bytes`."""
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(521, n_bytes + (1 << 20), 1.0)
    name = dataset.name.encode()
    return h5py.Dataset(h5py.h5d.open(dataset.file.id, name, access))
