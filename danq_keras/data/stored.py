"""The bytes of a store: rows mapped into memory, and the checksums of what is not mapped.

Mapped rows are uint8 and read-only. A file that is cut short under a running program would end it
with SIGBUS and without a word, so each access first compares the file's size with what is mapped.
"""

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.genome.dna import Bytes
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import attribute, read_array, reason_of

ADVICE = "Build the dataset again."


class StoredRows(np.memmap):
    """Rows of a split, mapped: reading them fails with a line where the file has been cut short."""

    _mmap: Any
    n_bytes_needed: int | None = None

    def __getitem__(self, index: Any) -> Any:
        """The rows that NumPy's indexing gives, after a look at the file's size."""
        self.require_whole()
        return super().__getitem__(index)

    def take(self, *arguments: Any, **options: Any) -> Any:
        """The rows of some numbers, after a look at the file's size."""
        self.require_whole()
        return super().take(*arguments, **options)

    def require_whole(self) -> None:
        """Refuse to read from a file that has been cut short since it was opened.

        Raises:
            InputError: it has been.
        """
        needed, mapped = self.n_bytes_needed, self._mmap
        if needed is not None and mapped is not None and mapped.size() < needed:
            raise InputError(
                f"{self.filename}: the file was cut short while it was in use: {mapped.size():,} "
                f"bytes are left, {needed:,} are needed. {ADVICE}"
            )

    def let_go(self) -> None:
        """Give the pages that were read back to the system, which keeps them in its cache.

        They would count as the process's memory where a batch system counts them.
        """
        if self._mmap is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mmap.madvise(mmap.MADV_DONTNEED)


def map_rows(path: Path, dataset: h5py.Dataset) -> Bytes:
    """Memory-map a contiguous array; one without values has no place in the file.

    Raises:
        InputError: the array is stored in another way, or the file is truncated.
    """
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or dataset.dtype != np.uint8:
        raise InputError(f"{path}: {dataset.name!r} must be contiguous uint8. {ADVICE}")
    if dataset.size == 0:
        return np.zeros(dataset.shape, np.uint8)
    if offset is None or offset + dataset.size > path.stat().st_size:
        raise InputError(f"{path}: the file is truncated. {ADVICE}")
    rows = StoredRows(path, np.uint8, "r", offset, dataset.shape)
    rows.n_bytes_needed = offset + dataset.size
    return rows


def raw_bytes(values: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array as they are in a file, for a checksum."""
    return np.ascontiguousarray(values).view(np.uint8).data


def digest_of_targets(targets: Targets) -> str:
    """SHA-256 of the names of targets and of what else is known of them."""
    columns = [targets.names, *(getattr(targets, column) for column in TARGET_COLUMNS)]
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def require_digest(path: Path, name: str, expected: str, received: str) -> None:
    """Refuse a part of a split whose checksum is not the one that was written.

    Raises:
        InputError: the checksums differ.
    """
    if received != expected:
        raise InputError(
            f"{path}: wrong checksum of {name!r}: expected {reason_of(expected[:12])}…, "
            f"received {received[:12]}…. The file was changed or damaged: build the dataset again."
        )


def compare_digest(path: Path, file: h5py.File, name: str, received: str) -> None:
    """`require_digest` with the checksum that a split file has for a part."""
    require_digest(path, name, attribute(file, f"{name}_sha256", "text"), received)


def read_coordinates(
    path: Path, file: h5py.File, n_windows: int
) -> tuple[npt.NDArray[np.str_] | None, npt.NDArray[np.int64] | None]:
    """`chrom` (N,) and `start` (N,) of a split, compared with their checksums; None for none.

    Raises:
        InputError: a checksum differs.
        ValueError: they are no such arrays.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for name, kinds in (("chrom", "SO"), ("start", "i")):
        if name in file:
            values = read_array(file, name, kinds=kinds, shape=(n_windows,))
            if f"{name}_sha256" in file.attrs:
                compare_digest(path, file, name, hashlib.sha256(raw_bytes(values)).hexdigest())
            found[name] = values
    chrom = found.get("chrom")
    if chrom is not None:
        chrom = np.array([text.decode() for text in chrom.tolist()], np.str_)
    return chrom, found.get("start")
