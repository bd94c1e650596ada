"""Writes the split files that `store` reads, row block by row block."""

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras import __version__
from danq_keras.data.store import FORMAT, FORMAT_VERSION, StoreHeader
from danq_keras.data.stored import digest_of_targets, raw_bytes
from danq_keras.data.targets import TARGET_COLUMNS
from danq_keras.genome.dna import Bytes, packed_width
from danq_keras.system.files import atomic_output
from danq_keras.system.hdf5 import faults_named, new_hdf5, reserve_space


@dataclass(frozen=True)
class Rows:
    """A block of rows to append.

    `sequence` (n, ceil(L/2)) and `labels` (n, ceil(T/8)) packed uint8; `ignore` like labels;
    `chrom` (n,) str and `start` (n,) int64 window starts, where the split has them.
    """

    sequence: Bytes
    labels: Bytes
    ignore: Bytes | None = None
    chrom: npt.NDArray[np.str_] | None = None
    start: npt.NDArray[np.int64] | None = None


class SplitWriter:
    """Writes one split file row block by row block; use as a context manager.

    Args:
        path: final file name; must not exist. The caller writes into a temporary folder
            (`new_dataset`) so that a dataset appears complete or not at all.
        header: what the split is.
        n_windows: number of rows N that will be appended, neither more nor fewer.
        with_ignore: whether to store `ignore` too, the labels that do not count.
        chrom_width: bytes of the longest chromosome name; 0 stores no coordinates.
    """

    def __init__(
        self,
        path: Path,
        header: StoreHeader,
        *,
        n_windows: int,
        with_ignore: bool = False,
        chrom_width: int = 0,
    ) -> None:
        self.n_windows = n_windows
        self.n_written = 0
        path.touch(exist_ok=False)
        self._file = new_hdf5(path, libver=("v110", "v110"))
        label_bytes = -(-len(header.targets) // 8)
        shapes = {"sequence": packed_width(header.window), "labels": label_bytes}
        if with_ignore:
            shapes["ignore"] = label_bytes
        self._bits = {
            name: self._file.create_dataset(name, (n_windows, width), np.uint8)
            for name, width in shapes.items()
        }
        self._coordinates = bool(chrom_width)
        summed = (*shapes, "chrom", "start") if chrom_width else tuple(shapes)
        self._hashes = {name: hashlib.sha256() for name in summed}
        if chrom_width:
            text = h5py.string_dtype("utf-8", chrom_width)
            self._chrom = self._file.create_dataset("chrom", (n_windows,), text)
            self._start = self._file.create_dataset("start", (n_windows,), np.int64)
        self._write_header(header)
        values = [*self._bits.values(), *((self._chrom, self._start) if chrom_width else ())]
        try:
            reserve_space(self._file, sum(dataset.nbytes for dataset in values))
        except OSError:
            with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
                self._file.close()
            raise

    def _write_header(self, header: StoreHeader) -> None:
        self._file.attrs.update(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "window": header.window,
                "bin": header.bin,
                "n_targets": len(header.targets),
                "strands": header.strands,
                "source": header.source,
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "package_version": __version__,
            }
        )
        if header.one_strand:
            self._file.attrs["one_strand"] = True
        text = h5py.string_dtype("utf-8")
        self._file.create_dataset(
            "targets", data=np.array(header.targets.names, object), dtype=text
        )
        for column in TARGET_COLUMNS:
            values = getattr(header.targets, column)
            if values:
                self._file.create_dataset(
                    f"target_{column}", data=np.array(values, object), dtype=text
                )
        self._file.attrs["targets_sha256"] = digest_of_targets(header.targets)

    def append(self, rows: Rows) -> None:
        """Write the next rows.

        Raises:
            ValueError: more rows than announced, or a part missing.
        """
        begin, end = self.n_written, self.n_written + len(rows.sequence)
        if end > self.n_windows:
            raise ValueError(f"{end} rows appended to a split of {self.n_windows}.")
        chrom, start = rows.chrom, rows.start
        if self._coordinates and (chrom is None or start is None):
            raise ValueError("This split has coordinates: give chrom and start.")
        with faults_named(Path(self._file.filename)):
            for name, dataset in self._bits.items():
                self._put(name, dataset, begin, np.ascontiguousarray(getattr(rows, name)))
            if chrom is not None and start is not None and self._coordinates:
                # Cast, since HDF5 refuses to turn plain bytes into UTF-8 text.
                text = np.char.encode(chrom, "utf-8").astype(self._chrom.dtype)
                self._put("chrom", self._chrom, begin, text)
                self._put("start", self._start, begin, np.ascontiguousarray(start, np.int64))
        self.n_written = end

    def _put(self, name: str, dataset: h5py.Dataset, begin: int, values: npt.NDArray[Any]) -> None:
        dataset[begin : begin + len(values)] = values
        self._hashes[name].update(raw_bytes(values))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            if self.n_written != self.n_windows:
                raise ValueError(f"{self.n_written} rows written, {self.n_windows} announced.")
            path = Path(self._file.filename)
            with faults_named(path):
                for name, digest in self._hashes.items():
                    self._file.attrs[f"{name}_sha256"] = digest.hexdigest()
                self._file.flush()
                size = self._file.id.get_filesize()
                self._file.close()
            os.truncate(path, size)  # gives back what was reserved for metadata
        else:
            with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
                self._file.close()


@contextlib.contextmanager
def new_dataset(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder for the split files; it becomes `folder` when all are written.

    Raises:
        InputError: `folder` is not empty and may not be overwritten.
    """
    with atomic_output(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        yield temporary
