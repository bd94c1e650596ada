"""Prediction files: the HDF5 file that grows while predicting, and what is made of it.

While it grows it is `<OUT>.partial`: `pred` or `embedding` (N, K) float32 and what else is
predicted, the rows' `name`, or `chrom`, `start`, `end`, and the number of rows done. It becomes
`OUT` (.h5), or a table (.tsv, .tsv.gz) or bigWig tracks are written from it, so that any of them
can be continued after a stop and none needs more memory for more rows.

A bigWig value covers the STEP bases around the centre of its window; nothing covers the first and
last (L - STEP)/2 bases of a sequence.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras import __version__
from danq_keras.data.inputs import Tiling, Windows
from danq_keras.data.store import reserve_space
from danq_keras.system.command import (
    InputError,
    Terminated,
    atomic_output,
    log,
    optional_module,
    progress,
    refuse_existing,
    signals_deferred,
)

Floats = npt.NDArray[np.float32]

SAVE_SECONDS = 20.0
"""How much work a crash may lose."""
_ROWS = 4096
_DIGITS = "%.6g"  # float32 has no more
_TRACKS = (".bw", ".bigwig")
_TABLES = (".tsv", ".tsv.gz")
_HDF5 = (".h5", ".hdf5")


def kind_of(out: Path) -> str:
    """What OUTPUT's name asks for: "hdf5", "table", "track", or "tracks" for a folder of them.

    Raises:
        InputError: another ending.
    """
    name = out.name.lower()
    for kind, endings in (("hdf5", _HDF5), ("table", _TABLES), ("track", _TRACKS)):
        if name.endswith(endings):
            return kind
    if out.suffix:
        raise InputError(
            f"{out}: predictions are an .h5, .tsv, .tsv.gz or .bw file, or a folder of bigWig "
            f"tracks (a name without ending). Received: {out.suffix!r}. Choose a name ending so."
        )
    return "tracks"


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
    """

    def __init__(self, file: h5py.File, values: Sequence[str]) -> None:
        self._file = file
        self._values = values
        self.rows_done = self.rows_saved = int(file.attrs["rows_done"])
        self.n_unknown = int(file.attrs.get("rows_unknown", 0))
        self._saved = time.monotonic()

    def append(self, values: Mapping[str, Floats], coordinates: Mapping[str, Any]) -> None:
        """Write the next rows, and every `SAVE_SECONDS` also how many there are."""
        n = len(values[self._values[0]])
        rows = slice(self.rows_done, self.rows_done + n)
        with signals_deferred():
            for name in self._values:
                self._file[name][rows] = values[name]
            for name, column in coordinates.items():
                dataset = self._file[name]
                if column.dtype.kind == "U":
                    # Cast, since HDF5 refuses to turn plain bytes into UTF-8 text.
                    column = np.char.encode(column, "utf-8").astype(dataset.dtype)
                dataset[rows] = column
            self.rows_done += n
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def __getitem__(self, name: str) -> h5py.Dataset:
        """One of the datasets."""
        return self._file[name]

    def save(self) -> None:
        """Make the rows so far those that a later process goes on from."""
        with signals_deferred():
            self._file.flush()  # the rows are on their way before their number is
            self._file.attrs.update({"rows_done": self.rows_done, "rows_unknown": self.n_unknown})
            self._file.flush()
        self.rows_saved = self.rows_done
        self._saved = time.monotonic()


@contextlib.contextmanager
def growing_file(
    out: Path, windows: Windows, contents: Contents, *, resume: bool, overwrite: bool
) -> Iterator[GrowingFile]:
    """`growing_output` of predictions.

    Args:
        out: see `kind_of`.
        windows: what is predicted.
        contents: see `Contents`.
        resume: go on with what is there.
        overwrite: replace what is there.
    """
    with growing_output(
        out,
        contents,
        create=lambda file: _create(file, windows, contents),
        publish=lambda file: _publish(file, out, windows, contents, overwrite=overwrite or resume),
        resume=resume,
        overwrite=overwrite,
    ) as growing:
        yield growing


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

    A stop (Ctrl-C, SIGTERM) keeps it if rows have been saved; a mistake removes it.

    Args:
        out: what comes of it.
        contents: see `Contents`.
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{out}: its parent is not a folder. Choose another place.") from error
    file = _open(path, contents, create, resume=resume, overwrite=overwrite)
    growing = GrowingFile(file, contents.values)
    n_rows = file[contents.values[0]].shape[0]
    keep = growing.rows_saved > 0
    try:
        yield growing
        growing.save()
        publish(file)
        keep = False
    except (KeyboardInterrupt, Terminated):
        keep = growing.rows_saved > 0
        if keep:
            if file:
                growing.save()
            log.info(
                "%s: %s of %s windows are done. --resume goes on.",
                path,
                f"{growing.rows_done:,}",
                f"{n_rows:,}",
            )
        raise
    except OSError as error:  # such as a full disk: rows that are saved stay
        error.filename = str(error.filename or out).replace(str(path), str(out))
        raise
    except BaseException:
        keep = False
        raise
    finally:
        if file:
            with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
                file.close()
        if not keep:
            path.unlink(missing_ok=True)


def _open(
    path: Path,
    contents: Contents,
    create: Callable[[h5py.File], object],
    *,
    resume: bool,
    overwrite: bool,
) -> h5py.File:
    if path.exists() and not overwrite:
        if not resume:
            raise InputError(
                f"{path}: an unfinished prediction is there. Pass --resume to go on with it, or "
                "--overwrite to begin anew."
            )
        return _reopen(path, contents)
    try:
        with signals_deferred():
            path.unlink(missing_ok=True)
            path.touch(exist_ok=False)  # says why, where h5py would only say no
            file = h5py.File(path, "w")
            file.attrs.update(
                {
                    "model": contents.request["model"],
                    "strands": contents.request["strands"],
                    "package_version": __version__,
                    "rows_done": 0,
                    "request": contents.fingerprint(),
                }
            )
            create(file)
    except OSError as error:
        path.unlink(missing_ok=True)
        error.filename = str(error.filename or path).removesuffix(".partial")
        raise
    except (KeyboardInterrupt, Terminated):
        path.unlink(missing_ok=True)
        raise
    return file


def _reopen(path: Path, contents: Contents) -> h5py.File:
    try:
        file = h5py.File(path, "r+")
    except BlockingIOError as error:
        raise InputError(f"{path}: another process is writing it. Wait for its end.") from error
    except OSError as error:
        raise InputError(
            f"{path}: not readable as an unfinished prediction. Pass --overwrite to begin anew."
        ) from error
    before = json.loads(file.attrs.get("request", "{}"))
    now = json.loads(contents.fingerprint())
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        file.close()
        raise InputError(
            f"{path}: was begun with another {', '.join(differing)}. Repeat the first command with "
            "--resume, or pass --overwrite to begin anew."
        )
    return file


def _create(file: h5py.File, windows: Windows, contents: Contents) -> None:
    """A file with everything but the values, whose space is taken already."""
    shape = (windows.n_windows, len(contents.columns))
    for name in contents.values:
        file.create_dataset(name, shape, np.float32)
    text = h5py.string_dtype("utf-8")
    if "embedding" not in contents.values:
        file.create_dataset("targets", data=np.array(contents.columns, object), dtype=text)
    for name, column in windows.columns(0, 1).items():
        is_text = column.dtype.kind == "U"
        dtype = h5py.string_dtype("utf-8", windows.text_bytes[name]) if is_text else np.int64
        file.create_dataset(name, (windows.n_windows,), dtype)
    file.attrs["source"] = str(windows.path)
    if windows.tiling is not None:
        file.attrs["tile"] = windows.tiling.step
        file.attrs["covers"] = coverage(windows.tiling)
    n_bytes = sum(file[name].nbytes for name in file if name != "targets")
    reserve_space(file, n_bytes)


def coverage(tiling: Tiling) -> str:
    """What a value of tiled windows stands for."""
    return (
        f"a value covers the {tiling.step} bases around the centre of its {tiling.window}-base "
        "window"
    )


def move_complete(file: h5py.File, path: Path) -> None:
    """Close a grown file and give it its place."""
    grown, size = Path(file.filename), file.id.get_filesize()
    file.close()
    os.truncate(grown, size)  # gives back what was reserved for metadata
    grown.replace(path)


def _publish(
    file: h5py.File, out: Path, windows: Windows, contents: Contents, *, overwrite: bool
) -> None:
    kind = kind_of(out)
    if kind == "hdf5":
        refuse_existing(out, overwrite=overwrite)  # somebody else may have been quicker
        move_complete(file, out)
        return
    with atomic_output(out, overwrite=overwrite) as temporary:
        if kind == "table":
            with _text_file(temporary, packed=out.name.lower().endswith(".gz")) as handle:
                _write_table(file, handle, windows, contents)
        else:
            _write_tracks(file, temporary, windows, contents, folder=kind == "tracks")
    file.close()


@contextlib.contextmanager
def _text_file(path: Path, *, packed: bool) -> Iterator[IO[str]]:
    if packed:
        with (
            path.open("wb") as raw,
            # Without name and time of this file, so that equal predictions are equal bytes.
            gzip.GzipFile("", "wb", 5, raw, mtime=0) as packed_file,
            io.TextIOWrapper(packed_file, encoding="utf-8", newline="\n") as handle,
        ):
            yield handle
    else:
        with path.open("w", encoding="utf-8", newline="\n") as handle:
            yield handle


def _value_columns(contents: Contents) -> dict[str, tuple[str, int]]:
    """Column of a table → dataset and column in it."""
    if contents.values == ("embedding",):
        return {f"unit{i}": ("embedding", i) for i in range(len(contents.columns))}
    return {
        name if dataset == "pred" else f"{name}.{dataset}": (dataset, i)
        for i, name in enumerate(contents.columns)
        for dataset in contents.values
    }


def _write_table(file: h5py.File, handle: IO[str], windows: Windows, contents: Contents) -> None:
    """Where a row comes from (its number where nothing is known), then its values."""
    columns = _value_columns(contents)
    with progress(total=windows.n_windows, desc="write the table", unit="rows") as bar:
        for begin in range(0, windows.n_windows, _ROWS):
            end = min(windows.n_windows, begin + _ROWS)
            places = windows.columns(begin, end) or {"row": np.arange(begin, end)}
            values = {name: file[name][begin:end] for name in contents.values}
            table = pd.DataFrame(
                {**places, **{c: values[name][:, i] for c, (name, i) in columns.items()}}
            )
            table.to_csv(
                handle,
                sep="\t",
                index=False,
                header=begin == 0,
                float_format=_DIGITS,
                lineterminator="\n",
            )
            bar.update(end - begin)


def track_names(columns: Sequence[str]) -> list[str]:
    """File names for targets: what a file system may not hold becomes `_`; all differ."""
    plain = [re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_.") or "target" for name in columns]
    repeated = {name for name in plain if [p.lower() for p in plain].count(name.lower()) > 1}
    return [f"{name}_{i}" if name in repeated else name for i, name in enumerate(plain)]


def _write_tracks(
    file: h5py.File, path: Path, windows: Windows, contents: Contents, *, folder: bool
) -> None:
    """One bigWig file, or a folder with one for each target and `tracks.tsv` that lists them."""
    assert windows.tiling is not None
    tiling = windows.tiling
    if not folder:
        _write_track(file["pred"], 0, path, tiling)
        return
    path.mkdir()
    lines = [f"# bigWig tracks of {windows.path}: {coverage(tiling)}\n", "file\ttarget\tvalue\n"]
    names = track_names(contents.columns)
    total = len(names) * len(contents.values)
    with progress(total=total, desc="write tracks", unit="tracks") as bar:
        for i, (name, target) in enumerate(zip(names, contents.columns, strict=True)):
            for dataset in contents.values:
                track = f"{name}.bw" if dataset == "pred" else f"{name}.{dataset}.bw"
                _write_track(file[dataset], i, path / track, tiling)
                lines.append(f"{track}\t{target}\t{_MEANING[dataset]}\n")
                bar.update()
    (path / "tracks.tsv").write_text("".join(lines), encoding="utf-8")


_MEANING = {"pred": "probability", "spread": "standard deviation over the models"}


def _write_track(dataset: h5py.Dataset, column: int, path: Path, tiling: Tiling) -> None:
    bigwig = optional_module("pyBigWig", "tracks")
    track = bigwig.open(str(path), "w")
    try:
        # In order of their names, as the index of chromosomes in the file must be.
        ordered = sorted(tiling.lengths)
        track.addHeader([(name, tiling.lengths[name]) for name in ordered])
        numbers = {name: i for i, name in enumerate(tiling.lengths)}
        for name in ordered:
            begin, end = tiling.first_rows[numbers[name] : numbers[name] + 2].tolist()
            for first in range(begin, end, _ROWS):
                values = dataset[first : min(end, first + _ROWS), column]
                start = tiling.covered_from(first - begin)
                track.addEntries(
                    name, start, values=values.tolist(), span=tiling.step, step=tiling.step
                )
    finally:
        track.close()
