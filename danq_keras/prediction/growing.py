"""Prediction files: the HDF5 file that grows while predicting, and what is made of it.

While it grows it is `<OUT>.partial`: `pred` or `embedding` (N, K) float32 and what else is
predicted, the rows' `name`, or `chrom`, `start`, `end`, and the number of rows done. It becomes
`OUT` (.h5), or a table (.tsv, .tsv.gz) or bigWig tracks are written from it, so that any of them
can be continued after a stop and none needs more memory for more rows. With the number of rows done
goes the SHA-256 of what each dataset holds of them: a file in which one of these values has changed
is not continued.

A bigWig value covers the STEP bases around the centre of its window; nothing covers the first and
last (L - STEP)/2 bases of a sequence.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from danq_keras import __version__
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError, Terminated
from danq_keras.system.files import (
    atomic_output,
    make_parent,
    refuse_existing,
    replace_durably,
)
from danq_keras.system.hdf5 import (
    HDF5_DAMAGE,
    NO_LOCKS,
    array,
    attribute,
    check_sound,
    damage_told,
    faults_named,
    reason_of,
)
from danq_keras.system.signals import signals_deferred
from danq_keras.system.terminal import log

SAVE_SECONDS = 20.0
"""How much work a crash may lose."""
ROWS_AT_ONCE = 4096
_PROGRESS = "progress"
_PROGRESS_BYTES = 2048  # of a size that stays: a kill between two writings harms no structure
_CHECKED_BYTES = 1 << 24
_UNFINISHED = "unfinished prediction", "Pass `overwrite=True` to begin anew."


@dataclass(frozen=True)
class Contents:
    """What a prediction file holds: `values`, datasets of (N, `n_columns`); names of its columns.

    `request` is all that decides the values: a file is continued only by the same one. Its keys
    `model`, a path, and `strands` become attributes of the file.
    """

    values: tuple[str, ...]
    columns: tuple[str, ...]
    request: Mapping[str, Any]

    def fingerprint(self) -> str:
        """JSON of `request`; what is long is a digest, since HDF5 attributes are small."""
        short = {}
        for key, value in self.request.items():
            text = json.dumps(value)
            short[key] = text if len(text) < 500 else hashlib.sha256(text.encode()).hexdigest()
        return json.dumps(short)


def partial_path(out: Path) -> Path:
    """Where the predictions of `out` grow."""
    return out.with_name(f"{out.name}.partial")


class GrowingFile:
    """A prediction file that rows are appended to.

    `rows_done` of them are there; a later process would go on after `rows_saved`. `n_unknown` is
    how many of them have more unknown bases than known ones, counted by who appends them.

    Raises:
        InputError: the rows of an unfinished file are not those that were written.
        ValueError: it is no such file.
    """

    def __init__(
        self, file: h5py.File, values: Sequence[str], *, resumed: bool, path: Path | None = None
    ) -> None:
        self._file = file
        self._path = path or Path(file.filename)
        self._values = values
        self._saved = time.monotonic()
        progress = json.loads(file.attrs.get(_PROGRESS, "{}"))
        early = attribute(file, "rows_done", "number")
        self.rows_done = self.rows_saved = int(progress.get("rows_done", early))
        self.n_unknown = int(progress.get("rows_unknown", file.attrs.get("rows_unknown", 0)))
        n_rows = {len(array(file, name, kinds="fu")) for name in values}
        if len(n_rows) != 1 or not 0 <= self.rows_done <= min(n_rows):
            raise ValueError(f"{self.rows_done} rows are done of {min(n_rows)}")
        self.n_rows = min(n_rows)
        self._resumed = resumed
        self._sums: dict[str, Any] = {}
        if self.rows_done and "sha256" in progress:
            self._sums = self._check_rows(progress["sha256"])
        elif self.rows_done:
            log.warning("%s: an early version wrote it: its rows cannot be checked.", self._path)

    def _check_rows(self, expected: Mapping[str, str]) -> dict[str, Any]:
        """Read the rows that are done, compare their checksums, and go on with these."""
        sums = {}
        for name in expected:
            dataset, sums[name] = array(self._file, name), hashlib.sha256()
            if len(dataset) != self.n_rows:
                raise ValueError(f"{len(dataset)} values of {name!r} for {self.n_rows} rows")
            step = max(1, _CHECKED_BYTES // max(1, dataset.nbytes // max(1, len(dataset))))
            for begin in range(0, self.rows_done, step):
                block = dataset[begin : min(begin + step, self.rows_done)]
                sums[name].update(np.ascontiguousarray(block).data)
            if sums[name].hexdigest() != expected[name]:
                raise ValueError(f"wrong checksum of {name!r} in the rows that are done")
        return sums

    def append(self, values: Mapping[str, Floats], coordinates: Mapping[str, Any]) -> None:
        """Write the next rows, and every `SAVE_SECONDS` also how many there are."""
        n = len(values[self._values[0]])
        with signals_deferred(), self._guarded():
            for name in self._values:
                self._put(name, values[name])
            for name, column in coordinates.items():
                if column.dtype.kind == "U":
                    # Cast, since HDF5 refuses to turn plain bytes into UTF-8 text.
                    column = np.char.encode(column, "utf-8").astype(self._file[name].dtype)
                self._put(name, column)
            self.rows_done += n
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def _guarded(self) -> contextlib.AbstractContextManager[None]:
        """What h5py raises as errors for the user: in a file gone on with, it may be damaged."""
        if self._resumed:
            return damage_told(self._path, *_UNFINISHED)
        return faults_named(self._path)

    def _put(self, name: str, values: Any) -> None:
        dataset = self._file[name]
        values = np.ascontiguousarray(values, dataset.dtype)
        dataset[self.rows_done : self.rows_done + len(values)] = values
        if not self.rows_done or name in self._sums:
            self._sums.setdefault(name, hashlib.sha256()).update(values.data)

    def __getitem__(self, name: str) -> h5py.Dataset:
        """One of the datasets."""
        return self._file[name]

    def save(self) -> None:
        """Make the rows so far those that a later process goes on from."""
        done = {"rows_done": self.rows_done, "rows_unknown": self.n_unknown}
        sums = {name: digest.hexdigest() for name, digest in self._sums.items()}
        with signals_deferred(), self._guarded():
            self._file.flush()  # the rows are on their way before their number is
            # In one attribute, as a kill may come between two.
            _put_progress(self._file, done | ({"sha256": sums} if sums else {}))
            for name, number in done.items():
                self._file.attrs.modify(name, number)
            self._file.flush()
        self.rows_saved = self.rows_done
        self._saved = time.monotonic()


def _padded(progress: Mapping[str, Any]) -> bytes:
    return json.dumps(progress).ljust(_PROGRESS_BYTES).encode()


def _put_progress(file: h5py.File, progress: Mapping[str, Any]) -> None:
    """Write over the bytes of the attribute, where it has the size of today's."""
    text = _padded(progress)
    if isinstance(file.attrs.get(_PROGRESS), bytes) and len(text) == _PROGRESS_BYTES:
        file.attrs.modify(_PROGRESS, np.bytes_(text))
    else:  # of an early version
        file.attrs[_PROGRESS] = json.dumps(progress)


@contextlib.contextmanager
def growing_output(
    out: Path,
    contents: Contents,
    *,
    create: Callable[[h5py.File], object],
    publish: Callable[[h5py.File], object],
    resume: bool,
    overwrite: bool,
) -> Iterator[GrowingFile]:
    """Open `<out>.partial`, new or to go on with; when the block succeeds it becomes `out`.

    Whatever stops the block, rows that have been saved are kept, and can be gone on with.

    Args:
        out: what comes of it.
        contents: names of values and columns, and what they are of.
        create: makes the datasets of a new file, and takes their space.
        publish: makes `out` of the complete file, which it may close and move.
        resume: go on with what is there.
        overwrite: replace what is there.

    Raises:
        InputError: `out` exists, or an unfinished file does and may be neither continued nor
            replaced, or is of another request.
    """
    if not resume:
        refuse_existing(out, overwrite=overwrite)
    path = partial_path(out)
    make_parent(out)
    resumed = path.exists() and resume and not overwrite
    file = _open(path, contents, create, resume=resume, overwrite=overwrite)
    try:
        with damage_told(path, *_UNFINISHED):
            growing = GrowingFile(file, contents.values, resumed=resumed, path=path)
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):
            file.close()
        raise
    done = False
    try:
        yield growing
        growing.save()
        publish(file)
        done = True
    except (KeyboardInterrupt, Terminated):
        if growing.rows_saved and file:
            growing.save()
        raise
    except OSError as error:  # such as a full disk
        error.filename = str(error.filename or out).replace(str(path), str(out))
        raise
    finally:
        if file:
            with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
                file.close()
        if done or not growing.rows_saved:
            path.unlink(missing_ok=True)
        else:
            n, n_rows = f"{growing.rows_saved:,}", f"{growing.n_rows:,}"
            log.info("%s: %s of %s windows are done. --resume goes on.", path, n, n_rows)


def _open(
    path: Path,
    contents: Contents,
    create: Callable[[h5py.File], object],
    *,
    resume: bool,
    overwrite: bool,
) -> h5py.File:
    if overwrite or not path.exists():
        return _create(path, contents, create)
    if resume:
        return _reopen(path, contents)
    file = _hold(path)
    try:  # held until another has its place, so that no third process takes it for free
        if _rows_saved(file):
            raise _unfinished(path)
        return _create(path, contents, create)
    finally:
        file.close()


def _create(path: Path, contents: Contents, create: Callable[[h5py.File], object]) -> h5py.File:
    """Make a file without rows, open and locked; a kill leaves it whole or not there."""
    file = None
    try:
        with signals_deferred(), atomic_output(path, overwrite=True) as temporary:
            temporary.touch(exist_ok=False)  # says why, where h5py would only say no
            file = _open_locked(temporary, "w")
            file.attrs.update(
                {
                    "model": contents.request["model"],
                    "strands": contents.request["strands"],
                    "package_version": __version__,
                    "rows_done": 0,
                    "rows_unknown": 0,
                    "request": contents.fingerprint(),
                    _PROGRESS: np.bytes_(_padded({"rows_done": 0, "rows_unknown": 0})),
                }
            )
            create(file)
            with faults_named(temporary):
                file.flush()
    except BaseException as error:
        if file is not None:
            with contextlib.suppress(OSError, RuntimeError):
                file.close()
        if isinstance(error, OSError):
            error.filename = str(error.filename or path).removesuffix(".partial")
        elif isinstance(error, KeyboardInterrupt | Terminated):  # after it had its place
            path.unlink(missing_ok=True)
        raise
    return file


def _unfinished(path: Path) -> InputError:
    return InputError(
        f"{path}: an unfinished prediction is there. Pass `resume=True` to go on with it, or "
        "`overwrite=True` to begin anew."
    )


def _hold(path: Path) -> h5py.File:
    """Open a sound unfinished file that no other process is writing.

    Raises:
        InputError: it is damaged, or another process is writing it.
    """
    check_sound(path, *_UNFINISHED)
    try:
        with damage_told(path, *_UNFINISHED):
            return _open_locked(path, "r+")
    except BlockingIOError as error:
        raise InputError(f"{path}: another process is writing it. Wait for its end.") from error


def _rows_saved(file: h5py.File) -> int:
    """Whether rows have been saved, as far as can be told."""
    try:
        progress = json.loads(file.attrs.get(_PROGRESS, "{}"))
        return int(progress.get("rows_done", 1))
    except HDF5_DAMAGE:
        return 1


def _reopen(path: Path, contents: Contents) -> h5py.File:
    file = _hold(path)
    with damage_told(path, *_UNFINISHED):
        try:
            before = json.loads(attribute(file, "request", "text"))
            now = json.loads(contents.fingerprint())
            keys = sorted(before.keys() | now.keys())
            differing = [key for key in keys if before.get(key) != now.get(key)]
            if differing:
                raise InputError(
                    f"{path}: was begun with another {reason_of(', '.join(differing))}. Repeat the "
                    "first command with `resume`, or pass `overwrite=True` to begin anew."
                )
        except BaseException:
            with contextlib.suppress(OSError, RuntimeError):
                file.close()
            raise
    return file


def _open_locked(path: Path, mode: str) -> h5py.File:
    """Open a file that no other process may write; where there are no locks, without one.

    Raises:
        BlockingIOError: another process is writing it.
    """
    with faults_named(path):
        try:
            return h5py.File(path, mode)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.debug("%s: cannot be locked (%s)", path, error)
            return h5py.File(path, mode, locking=False)


def move_complete(file: h5py.File, grown: Path, path: Path) -> None:
    """Close a grown file, which lies at `grown`, and give it its place."""
    _close_complete(file, grown)
    replace_durably(grown, path)


def link_complete(file: h5py.File, grown: Path, path: Path) -> None:
    """Close a grown file and give it a second place; a kill leaves it where it has grown."""
    _close_complete(file, grown)
    try:
        path.hardlink_to(grown)
    except OSError:  # a file system without links
        shutil.copyfile(grown, path)


def _close_complete(file: h5py.File, grown: Path) -> None:
    size = file.id.get_filesize()
    with faults_named(grown):
        file.close()
    os.truncate(grown, size)  # gives back what was reserved for metadata
