"""Files of predictions by the ending of their name: HDF5, tables, tracks."""

import contextlib
import gzip
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import h5py
import numpy as np
import pandas as pd

from danq_keras.data.inputs import Tiling, Windows
from danq_keras.prediction.growing import (
    ROWS_AT_ONCE,
    Contents,
    GrowingFile,
    growing_output,
    move_complete,
    partial_path,
)
from danq_keras.system.errors import InputError, optional_module
from danq_keras.system.files import atomic_output, refuse_existing
from danq_keras.system.hdf5 import reserve_space
from danq_keras.system.terminal import progress

_DIGITS = "%.6g"  # float32 has no more


_TRACKS = (".bw", ".bigwig")


_TABLES = (".tsv", ".tsv.gz")


_HDF5 = (".h5", ".hdf5")


_MEANING = {"pred": "probability", "spread": "standard deviation over the models"}


def prediction_kind(out: Path) -> str:
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


@contextlib.contextmanager
def growing_file(
    out: Path, windows: Windows, contents: Contents, *, resume: bool, overwrite: bool
) -> Iterator[GrowingFile]:
    """`growing_output` of predictions.

    Args:
        out: file or folder to write, see `prediction_kind`.
        windows: windows that are predicted, with their places.
        contents: names of values and columns, see `Contents`.
        resume: go on with what is there.
        overwrite: replace what is there.
    """
    if prediction_kind(out) == "table":
        columns = [*windows.columns(0, 1)] or ["row"]
        taken = [name for name in _value_columns(contents) if name in columns]
        if taken:
            raise InputError(
                f"{out}: the target {taken[0]!r} is called as the column of the windows' places. "
                "Write an .h5 file, or leave the target out."
            )
    with growing_output(
        out,
        contents,
        create=lambda file: _create(file, windows, contents),
        publish=lambda file: _publish(file, out, windows, contents, overwrite=overwrite or resume),
        resume=resume,
        overwrite=overwrite,
    ) as growing:
        yield growing


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


def _publish(
    file: h5py.File, out: Path, windows: Windows, contents: Contents, *, overwrite: bool
) -> None:
    kind = prediction_kind(out)
    if kind == "hdf5":
        refuse_existing(out, overwrite=overwrite)  # somebody else may have been quicker
        move_complete(file, partial_path(out), out)
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
        for begin in range(0, windows.n_windows, ROWS_AT_ONCE):
            end = min(windows.n_windows, begin + ROWS_AT_ONCE)
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
    count = Counter(name.lower() for name in plain)
    taken = {name for name, times in count.items() if times == 1}
    names = []
    for i, name in enumerate(plain):
        if count[name.lower()] > 1:
            name = f"{name}_{i}"
            while name.lower() in taken:
                name += "_"
            taken.add(name.lower())
        names.append(name)
    return names


def _write_tracks(
    file: h5py.File, path: Path, windows: Windows, contents: Contents, *, folder: bool
) -> None:
    """One bigWig file, or a folder with one for each target and two files that list them.

    These are `tracks.tsv` and a session of the browser IGV; for a packed genome, or
    one from a pipe, there is also a file of its chromosomes' lengths, which the session needs.
    """
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
    rows = [line.rstrip("\n").split("\t") for line in lines[2:]]
    if windows.fasta is None:
        genome = f"{windows.path.name.removesuffix('.gz')}.chrom.sizes"
        lengths = (f"{name}\t{length}\n" for name, length in tiling.lengths.items())
        (path / genome).write_text("".join(lengths), encoding="utf-8")
    else:
        genome = str(windows.fasta.resolve())
    _write_session(path / "igv_session.xml", genome, rows)


def _write_session(path: Path, genome: str, rows: Sequence[Sequence[str]]) -> None:
    """A session that opens the tracks over their genome in IGV's desktop program.

    Tracks are named by paths beside the session, a FASTA file by its own: where a folder is copied
    to another machine, IGV asks for it. IGV reads no packed FASTA (tried with 2.16): there the
    genome is a file of chromosome lengths beside the session, which shows no bases. Source: the
    user guide of IGV, "Session file format", by which tracks without a panel of their own come
    into the first.
    """
    session = ElementTree.Element("Session", genome=genome, version="8")
    resources = ElementTree.SubElement(session, "Resources")
    for file, target, value in rows:
        name = target if value == _MEANING["pred"] else f"{target}, {value}"
        ElementTree.SubElement(resources, "Resource", name=name, path=file, type="bw")
    ElementTree.indent(session)
    ElementTree.ElementTree(session).write(path, encoding="utf-8", xml_declaration=True)


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
            for first in range(begin, end, ROWS_AT_ONCE):
                values = dataset[first : min(end, first + ROWS_AT_ONCE), column]
                start = tiling.covered_from(first - begin)
                track.addEntries(
                    name, start, values=values.tolist(), span=tiling.step, step=tiling.step
                )
    finally:
        track.close()
