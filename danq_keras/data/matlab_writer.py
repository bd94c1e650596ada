"""Packed rows as 0/1 variables of MATLAB files: MATLAB 7.3 (HDF5) and MATLAB 5.

Variables are uint8 with the samples on MATLAB's first axis, (N, ...); see `matlab`. MATLAB 7.3 is
written a block of rows at a time; of MATLAB 5 a whole variable is in memory, twice when scipy
writes it and three times where it is small enough to be compressed.
"""

import contextlib
import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from danq_keras.data.matlab import Advance, ignore_progress
from danq_keras.genome.dna import Bytes
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import machine_fault

MATLAB5_MAX_BYTES = (1 << 31) - 1  # Source: MATLAB's limit of a variable in a version 5 file
_CHUNK_SAMPLES = 128
_COMPRESS_BELOW = 1 << 28  # scipy holds a compressed variable three times in memory


@dataclass(frozen=True)
class BitVariable:
    """A 0/1 variable to write.

    `inner` is what h5py shows before the sample axis: (L, 4) or (T,); `blocks` packed rows
    (n, ceil(R/8)) uint8, `n_samples` in all.
    """

    key: str
    inner: tuple[int, ...]
    n_samples: int
    blocks: Iterable[Bytes]

    @property
    def n_bytes(self) -> int:
        """Size as uint8, one value a byte."""
        return math.prod(self.inner) * self.n_samples

    def unpacked(self, advance: Advance) -> Iterator[tuple[slice, Bytes]]:
        """Blocks (..., n) uint8 with the samples they stand for."""
        begin = 0
        for packed in self.blocks:
            end = begin + len(packed)
            bits = np.unpackbits(packed, axis=1, count=math.prod(self.inner))
            yield slice(begin, end), np.ascontiguousarray(bits.T).reshape(*self.inner, -1)
            advance(bits.size)
            begin = end


def write_matlab73(
    path: Path,
    variables: Iterable[BitVariable],
    *,
    attributes: Mapping[str, Any] | None = None,
    advance: Advance = ignore_progress,
) -> None:
    """Write uint8 variables as a MATLAB 7.3 file: chunked and compressed HDF5.

    `attributes` of the file itself are for other readers; MATLAB does not show them.
    """
    # Without a chunk cache a full disk shows when a chunk is written: HDF5 crashes when it cannot
    # write the cached ones as it closes the file.
    new_file = h5py.File(path, "x", locking=False, userblock_size=512, rdcc_nbytes=0)
    with _complete_hdf5(new_file) as file:
        file.attrs.update(attributes or {})
        for variable in variables:
            shape = (*variable.inner, variable.n_samples)
            layout: dict[str, Any] = {}
            if variable.n_samples:
                chunk = (*variable.inner, min(_CHUNK_SAMPLES, variable.n_samples))
                layout = {"chunks": chunk, "compression": "gzip", "compression_opts": 1}
            dataset = file.create_dataset(variable.key, shape, np.uint8, **layout)
            dataset.attrs["MATLAB_class"] = np.bytes_("uint8")
            for samples, values in variable.unpacked(advance):
                dataset[..., samples] = values
    with path.open("r+b") as raw:
        raw.write(_matlab73_header())


@contextlib.contextmanager
def _complete_hdf5(file: h5py.File) -> Iterator[h5py.File]:
    """Close a file that is being written, so that a full disk shows as an OSError that names it.

    On a full disk closing fails too, and not as an OSError.
    """
    path = file.filename
    try:
        yield file
        file.close()
    except BaseException as error:
        with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
            file.close()
        fault = machine_fault(error, Path(path))
        if fault is not None:
            raise fault from error
        raise


def _matlab73_header() -> bytes:
    """Return the first 128 bytes of the user block, by which MATLAB knows its own."""
    created = datetime.datetime.now(datetime.UTC).strftime("%a %b %d %H:%M:%S %Y")
    text = f"MATLAB 7.3 MAT-file, Platform: danq_keras, Created on: {created} HDF5 schema 1.00 ."
    # Source: MATLAB's MAT-file format: text, subsystem offset, version 0x0200, byte order
    return text.encode().ljust(116) + bytes(8) + b"\x00\x02" + b"IM"


def write_matlab5(
    path: Path, variables: Iterable[BitVariable], *, advance: Advance = ignore_progress
) -> None:
    """Write uint8 variables as a MATLAB 5 file, one at a time.

    Raises:
        InputError: a variable is larger than the format allows.
    """
    with path.open("xb") as stream:
        for variable in variables:
            if variable.n_bytes > MATLAB5_MAX_BYTES:
                raise InputError(
                    f"{path}: a variable of a MATLAB 5 file holds at most {MATLAB5_MAX_BYTES} "
                    f"bytes, {variable.key!r} has {variable.n_bytes}. Use a smaller split."
                )
            values = np.empty((*variable.inner, variable.n_samples), np.uint8)
            for samples, block in variable.unpacked(advance):
                values[..., samples] = block
            # scipy writes the header at the beginning of a stream and appends further on.
            compress = values.size < _COMPRESS_BELOW
            scipy.io.savemat(stream, {variable.key: values.T}, do_compression=compress)
            del values
