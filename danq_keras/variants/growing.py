"""Files of variant effects that grow, and can be gone on with after a stop.

While they grow they lie in the folder `<OUT>.partial`: the text, or HDF5 and a list of its alleles,
the list of left-out alleles, and `state.json`: how much of each is finished, with checksums, and
what all of it was made from. When everything is done they take their places. Going on starts where
a block ended, so that what comes out is the same, byte for byte, as without a stop.
"""

import base64
import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from danq_keras.prediction.growing import ROWS_AT_ONCE, SAVE_SECONDS, partial_path
from danq_keras.system.claims import claimed_folder
from danq_keras.system.errors import InputError, Terminated
from danq_keras.system.files import (
    BGZIP_END,
    make_parent,
    read_json,
    refuse_existing,
    write_json,
)
from danq_keras.system.hdf5 import new_hdf5, open_hdf5
from danq_keras.system.signals import signals_deferred
from danq_keras.system.terminal import log
from danq_keras.variants import bgzip
from danq_keras.variants.files import (
    NUMERIC,
    TEXTS,
    EffectsHeader,
    Rows,
    ScoredBlock,
    SkippedRows,
    TableRows,
    VcfRows,
    create_h5,
    h5_rows,
    output_kind,
    reserve_h5,
    skipped_path,
)
from danq_keras.variants.reader import CHECKSUMS, checksum_of_texts

_EFFECTS, _ALLELES, _SKIPPED, _STATE = "effects", "alleles.tsv", "skipped.tsv", "state.json"
_WRITTEN = {_EFFECTS, _ALLELES, _SKIPPED, _STATE}
_H5_TEXTS = {"chrom": 0, "id": 2, "ref": 3, "alt": 4, "max_target": 6}  # columns of alleles.tsv

State = dict[str, Any]


class _GrowingText:
    """A text file that lines are appended to, plain or packed.

    Packed text is written in whole blocks; what does not fill one is held back, in the state too.
    """

    def __init__(self, path: Path, rows: Rows, *, packed: bool, state: State | None) -> None:
        self.path, self.rows, self._packed = path, rows, packed
        self._size, self._checksum, self._held = 0, 0, b""
        if state is not None:
            self._size, self._checksum = state["bytes"], state["checksum"]
            self._held = base64.b64decode(state["held"])
            os.truncate(path, self._size)
        self._file: IO[bytes] = path.open("wb" if state is None else "ab")
        if state is None:
            self.write(rows.head())

    def write(self, text: bytes) -> None:
        if not self._packed:
            self._append(text, text)
            return
        self._held += text
        while len(self._held) >= bgzip.BLOCK:
            block, self._held = self._held[: bgzip.BLOCK], self._held[bgzip.BLOCK :]
            self._append(bgzip.packed_block(block), block)

    def _append(self, written: bytes, text: bytes) -> None:
        self._file.write(written)
        self._size += len(written)
        self._checksum = zlib.crc32(text, self._checksum)

    def state(self) -> State:
        """How much is there, all of it on the disk."""
        self._sync()
        held = base64.b64encode(self._held).decode()
        return {"bytes": self._size, "checksum": self._checksum, "held": held}

    def finish(self) -> None:
        """Write what remains."""
        self.write(self.rows.tail())
        if self._packed:
            self._file.write(bgzip.packed_block(self._held) if self._held else b"")
            self._file.write(BGZIP_END)
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Leave it as it is; the first error is the one to show."""
        with contextlib.suppress(OSError):
            self._file.close()


class _GrowingH5:
    """The HDF5 file of effects: numbers are written as they come, texts when it is finished."""

    def __init__(self, path: Path, header: EffectsHeader, state: State | None) -> None:
        self.path, self._header = path, dataclasses.replace(header, with_probs=True)
        self._checksums: dict[str, int] = dict.fromkeys(NUMERIC, 0) if state is None else state
        if state is None:
            with new_hdf5(path) as file:
                create_h5(file, header)
        self._file = h5py.File(path, "r+", locking=False)  # the folder is claimed
        reserve_h5(self._file, header)

    def write(self, scored: ScoredBlock, begin: int) -> None:
        rows = slice(begin, begin + len(scored.block.alleles))
        for name, values in h5_rows(scored, self._header).items():
            dataset = self._file[name]
            column = np.asarray(values, dataset.dtype)
            dataset[rows] = column
            self._checksums[name] = zlib.crc32(column.tobytes(), self._checksums[name])

    def state(self) -> State:
        self._file.flush()
        return dict(self._checksums)

    def finish(self, alleles: Path) -> None:
        """Take the texts from the list of alleles."""
        self._file.close()  # so that a stop before this changes no byte
        self._file = h5py.File(self.path, "r+", locking=False)
        reserve_h5(self._file, self._header)
        checksums = {name: n for name, n in self._checksums.items() if name in self._file}
        checksums |= dict.fromkeys(TEXTS, 0)
        with alleles.open("rb") as lines:
            next(lines)
            for begin in range(0, self._header.n_alleles, ROWS_AT_ONCE):
                end = min(begin + ROWS_AT_ONCE, self._header.n_alleles)
                rows = [next(lines).decode().rstrip("\n").split("\t") for _ in range(begin, end)]
                for name, column in _H5_TEXTS.items():
                    texts = [row[column] for row in rows]
                    self._file[name][begin:end] = texts
                    checksums[name] = checksum_of_texts(texts, checksums[name])
        self._file.attrs[CHECKSUMS] = json.dumps(checksums)
        size = self._file.id.get_filesize()
        self._file.close()
        os.truncate(self.path, size)  # gives back what was reserved
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Leave it as it is; the first error is the one to show."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()


class GrowingEffects:
    """Effects that blocks are appended to.

    `records` of the source are done, `alleles` of them scored, `without_evalue` of these have none.
    """

    def __init__(
        self, folder: Path, header: EffectsHeader, kind: str, state: State, request: State
    ) -> None:
        self._folder, self._header, self._request = folder, header, request
        self.records: int = state.get("records", 0)
        self.alleles: int = state.get("alleles", 0)
        self.without_evalue: int = state.get("without_evalue", 0)
        self.saved = self.records
        self._last_save = time.monotonic()
        is_h5 = kind in (".h5", ".hdf5")
        texts = state.get("texts", {})
        self._texts: list[_GrowingText] = []
        self._h5: _GrowingH5 | None = None
        try:
            for name, rows in _rows(header, kind).items():
                packed = name == _EFFECTS and kind.endswith(".gz")
                text = _GrowingText(folder / name, rows, packed=packed, state=texts.get(name))
                self._texts.append(text)
            if is_h5:
                with signals_deferred():
                    self._h5 = _GrowingH5(folder / _EFFECTS, header, state.get("h5"))
        except BaseException:
            self.close()
            raise

    def write(self, scored: ScoredBlock) -> None:
        """Append a block, and every `SAVE_SECONDS` keep how much there is."""
        block = scored.block
        if self.alleles + len(block.alleles) > self._header.n_alleles:
            raise changed(self._header)
        with signals_deferred():
            for text in self._texts:
                text.write(text.rows.lines(scored))
            if self._h5 is not None and block.alleles:
                self._h5.write(scored, self.alleles)
            self.records += len(block.records)
            self.alleles += len(block.alleles)
            if scored.evalue is not None:
                self.without_evalue += int(np.isnan(scored.evalue[:, 0]).sum())
        if time.monotonic() - self._last_save > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Make what is there now what a later process goes on from."""
        with signals_deferred():
            state = {
                "request": self._request,
                "records": self.records,
                "alleles": self.alleles,
                "without_evalue": self.without_evalue,
                "texts": {text.path.name: text.state() for text in self._texts},
                "h5": None if self._h5 is None else self._h5.state(),
            }
            write_json(self._folder / _STATE, {**state, "checksum": _checksum(state)})
        self.saved = self.records
        self._last_save = time.monotonic()

    def finish(self) -> None:
        """Complete the files."""
        if self.alleles != self._header.n_alleles:
            raise changed(self._header)
        for text in self._texts:
            text.finish()
        if self._h5 is not None:
            self._h5.finish(self._folder / _ALLELES)

    def close(self) -> None:
        """Close the files as they are."""
        for file in (*self._texts, self._h5):
            if file is not None:
                file.close()


def changed(header: EffectsHeader) -> InputError:
    """What is said when the second pass finds other variants than the first."""
    return InputError(
        f"{header.attributes['source']}: changed while it was read. Score it again when it is "
        "complete."
    )


def _rows(header: EffectsHeader, kind: str) -> dict[str, Rows]:
    """Name of each text file in the folder → what makes its lines."""
    skipped = {_SKIPPED: SkippedRows()}
    if kind.startswith(".vcf"):
        return {_EFFECTS: VcfRows(header), **skipped}
    if kind.startswith(".tsv"):
        return {_EFFECTS: TableRows(header), **skipped}
    keys = EffectsHeader(header.targets, (), header.n_alleles, False, False, header.attributes)
    return {_ALLELES: TableRows(keys), **skipped}


@contextlib.contextmanager
def growing_effects(
    out: Path,
    header: EffectsHeader,
    *,
    request: Mapping[str, Any],
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[GrowingEffects]:
    """Open files of effects, new or to go on with; when the block succeeds they take their places.

    A stop, or a full disk, leaves what was kept so far; a mistake before that leaves nothing.

    Args:
        out: file to write, its ending one of `KINDS`; left-out alleles are listed beside it.
        header: what the file says of itself.
        request: all that decides what is written: a file is continued only by the same.
        resume: go on with what is there.
        overwrite: replace what is there.

    Raises:
        InputError: an output exists, or an unfinished one does and may be neither continued nor
            replaced, is of another request, or damaged.
    """
    kind, folder = output_kind(out), partial_path(out)
    if not resume:
        for path in (out, skipped_path(out)):
            refuse_existing(path, overwrite=overwrite)
    _make_folder(folder, out)
    with claimed_folder(folder):
        try:
            state = _state(folder, out, request, resume=resume, overwrite=overwrite)
        except InputError:
            if not any(folder.iterdir()):
                folder.rmdir()
            raise
        growing, keep = None, bool(state)
        try:
            growing = GrowingEffects(folder, header, kind, state, dict(request))
            yield growing
            growing.finish()
            _publish(folder, out, overwrite=overwrite or resume)
            keep = False
        except (KeyboardInterrupt, Terminated):
            keep = _keep_stopped(growing, folder, header)
            raise
        except OSError as error:  # such as a full disk: what was kept stays
            named = str(error.filename or out)
            error.filename = str(out) if named.startswith(str(folder)) else named
            keep = keep or (growing is not None and growing.saved > 0)
            raise
        except BaseException:
            keep = keep or (growing is not None and growing.saved > 0)
            raise
        finally:
            if growing is not None:
                growing.close()
            if not keep:
                shutil.rmtree(folder)


def _keep_stopped(growing: GrowingEffects | None, folder: Path, header: EffectsHeader) -> bool:
    if growing is None or not growing.records:
        return False
    growing.save()
    done, n = f"{growing.alleles:,}", f"{header.n_alleles:,}"
    log.info("%s: %s of %s alleles are done. --resume goes on.", folder, done, n)
    return True


def _make_folder(folder: Path, out: Path) -> None:
    make_parent(out)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{folder}: is in the way. Remove it, or choose another name.") from error
    foreign = [path.name for path in folder.iterdir() if not _is_ours(path.name)]
    if foreign:
        raise InputError(
            f"{folder}: holds what score_variants.py never writes: {foreign[0]}. Choose another "
            "name."
        )


def _is_ours(name: str) -> bool:
    return name in _WRITTEN or name.startswith(f".{_STATE}.partial-")


def _state(
    folder: Path, out: Path, request: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> State:
    """What to go on from, checked against the files; {} where everything begins anew."""
    started = (folder / _STATE).exists()
    if started and not overwrite:
        if not resume:
            raise InputError(
                f"{folder}: an unfinished scoring is there. Pass `resume=True` to go on with it, "
                "or `overwrite=True` to begin anew."
            )
        return _read_state(folder, out, request)
    for path in folder.iterdir():  # of a process that was killed before it kept anything
        path.unlink()
    return {}


def _read_state(folder: Path, out: Path, request: Mapping[str, Any]) -> State:
    state = read_json(folder / _STATE)
    if state.pop("checksum", None) != _checksum(state):
        raise _damaged(folder, f"{_STATE} does not agree with its own checksum")
    before, now = state["request"], json.loads(json.dumps(dict(request)))
    differing = sorted(key for key in before | now if before.get(key) != now.get(key))
    if differing:
        raise InputError(
            f"{folder}: was begun with another {', '.join(differing)}. Repeat the first command "
            "with `resume=True`, or pass `overwrite=True` to begin anew."
        )
    for name, text in state["texts"].items():
        path = folder / name
        if name == _SKIPPED and not path.exists():  # stopped while the files took their places
            path = skipped_path(out)
        _check_text(folder, path, text, packed=name == _EFFECTS and out.suffix == ".gz")
        if path.parent != folder:
            path.replace(folder / name)
    if state["h5"] is not None:
        _check_h5(folder, state["alleles"], state["h5"])
    return state


def _check_text(folder: Path, path: Path, state: State, *, packed: bool) -> None:
    """Refuse a text whose finished part is not there, or not what was written."""
    if not path.is_file() or path.stat().st_size < state["bytes"]:
        raise _damaged(folder, f"{path.name} ends before the rows that are said to be done")
    checksum, left = 0, state["bytes"]
    try:
        with path.open("rb") as raw:
            if packed:
                os.truncate(path, left)  # what is behind it was not finished
            with gzip.open(raw) if packed else contextlib.nullcontext(raw) as file:
                while block := file.read(1 << 20 if packed else min(left, 1 << 20)):
                    checksum = zlib.crc32(block, checksum)
                    left -= 0 if packed else len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(folder, f"{path.name} is not what was written") from error
    if checksum != state["checksum"]:
        raise _damaged(folder, f"{path.name} is not what was written")


def _check_h5(folder: Path, n_rows: int, checksums: State) -> None:
    path, advice = folder / _EFFECTS, "Pass `overwrite=True` to begin anew."
    with open_hdf5(path, "unfinished scoring", advice) as file:
        missing = {*TEXTS, "ref_pred", "alt_pred", "pos"} - set(file)
        if missing or any(len(file[name]) < n_rows for name in checksums if name in file):
            raise _damaged(folder, "it ends before the rows that are said to be done")
        for name in (name for name in checksums if name in file):
            checksum = 0
            for begin in range(0, n_rows, ROWS_AT_ONCE):
                rows = file[name][begin : min(begin + ROWS_AT_ONCE, n_rows)]
                checksum = zlib.crc32(rows.tobytes(), checksum)
            if checksum != checksums[name]:
                raise _damaged(folder, f"{name} is not what was written")


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(
        f"{folder}: not an unfinished scoring that can be gone on with: {why}. Pass "
        "`overwrite=True` to begin anew."
    )


def _checksum(state: State) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def is_complete(out: Path) -> bool:
    """Whether a scoring was killed after its last file had taken its place; its folder then goes.

    Args:
        out: the output of the scoring.
    """
    folder = partial_path(out)
    if not out.exists() or not folder.is_dir():
        return out.exists()
    if (folder / _EFFECTS).exists() or not (folder / _STATE).exists():  # under way, or a new one
        return False
    shutil.rmtree(folder)
    return True


def _publish(folder: Path, out: Path, *, overwrite: bool) -> None:
    for path in (out, skipped_path(out)):
        refuse_existing(path, overwrite=overwrite)  # somebody else may have been quicker
    with signals_deferred():
        (folder / _SKIPPED).replace(skipped_path(out))
        (folder / _EFFECTS).replace(out)
