"""Files that appear whole or not at all, JSON, gzip.

Output is written under a temporary name beside the final one, and renamed when it is complete and
on the disk, so that neither a kill nor a power cut leaves a half-written file under its final name.
"""

import contextlib
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from danq_keras.system.claims import remove, remove_leftovers, temporary_sibling
from danq_keras.system.errors import InputError
from danq_keras.system.inputs import input_file

_GZIP_MAGIC = b"\x1f\x8b"
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block at the end of a bgzip file; one without it was cut."""


PathLike = str | os.PathLike[str]


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Stop before any work when an output is already there.

    Raises:
        InputError: `path` exists (an empty folder does not count) and may not be overwritten.
    """
    if path.exists() and not _is_empty_folder(path) and not overwrite:
        raise InputError(f"{path}: already exists. Choose another name, or pass `overwrite=True`.")


def refuse_replacing(out: Path, maker: str, *, overwrite: bool, written: str) -> None:
    """Stop before any work when an output is there, or holds what its maker never writes.

    Args:
        out: the folder to write.
        maker: word for what makes the folder.
        overwrite: whether it may be replaced.
        written: pattern of the names of the files in it that may go.

    Raises:
        InputError: `out` may not be overwritten, is a file, or holds other files.
    """
    refuse_existing(out, overwrite=overwrite)
    if not out.exists():
        return
    names = [path.name for path in out.iterdir()] if out.is_dir() else [out.name]
    foreign = sorted(name for name in names if not re.fullmatch(written, name))
    if foreign or not out.is_dir():
        raise InputError(
            f"{out}: `overwrite=True` replaces only what '{maker}' writes. Received: "
            f"{', '.join(foreign[:3]) or 'a file'}. Choose another name."
        )


def refuse_unmarked(out: Path, what: str, *, overwrite: bool, marker: str) -> None:
    """Stop before any work when an output is there, or is a folder of something else.

    Args:
        out: the folder to write.
        what: word for what is in such a folder.
        overwrite: whether it may be replaced.
        marker: name of the file that is in every such folder.

    Raises:
        InputError: `out` may not be overwritten, is a file, or holds something else.
    """
    refuse_existing(out, overwrite=overwrite)
    if out.exists() and not _is_empty_folder(out) and not (out / marker).is_file():
        raise InputError(
            f"{out}: `overwrite` replaces a folder of {what}. Received: something else. Choose "
            "another place."
        )


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or all files of a folder, are on the disk and not only in memory.

    Raises:
        OSError: the disk is full or fails.
    """
    if path.is_symlink():
        return
    if path.is_dir():
        for child in path.iterdir():
            flush_to_disk(child)
        _flush_folder(path)
        return
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Make names and renamings in a folder last; some file systems have no such request."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rename(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _flush_folder(path.parent)


def replace_durably(temporary: Path, path: Path) -> None:
    """Give a complete file its final name, in place of an earlier one, once it is on the disk.

    Raises:
        OSError: the disk is full or fails; an earlier file is still there.
    """
    flush_to_disk(temporary)
    _rename(temporary, path)


def make_parent(path: Path) -> None:
    """Make the folder of an output, and those above it.

    Raises:
        InputError: something that is no folder is in the way.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path}: its parent is not a folder. Choose another place.") from error


@contextlib.contextmanager
def atomic_output(path: Path, *, overwrite: bool = False, ending: str = "") -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the final name when the block succeeds.

    The caller creates a file or a folder at the temporary path. After an error or an
    interrupt nothing is left of it.

    Args:
        path: the output.
        overwrite: whether it may take the place of an earlier one.
        ending: how the temporary name must end, for libraries that look at it.

    Raises:
        InputError: `path` exists and `overwrite` is false, or its folder cannot be made.
        OSError: the disk is full or fails, at the latest when the output must be on it.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = temporary_sibling(path, ending)
    make_parent(path)
    remove(temporary)
    remove_leftovers(path.parent)
    try:
        yield temporary
        refuse_existing(path, overwrite=overwrite)  # somebody else may have been quicker
        flush_to_disk(temporary)
        if path.exists() and (temporary.is_dir() or _is_empty_folder(path)):
            remove(path)  # renaming replaces a file by a file only
        _rename(temporary, path)
    except OSError as error:
        # The user knows the final name only, and writing names none at all.
        error.filename = str(error.filename or path).replace(str(temporary), str(path))
        raise
    finally:
        remove(temporary)


def is_unfinished(out: Path) -> bool:
    """Whether files that belong to `out` were left incomplete, see `outputs_together`."""
    return _mark(out).exists()


@contextlib.contextmanager
def outputs_together(out: Path) -> Iterator[None]:
    """Write several files that belong together; a hidden one tells until all are there.

    Where the block was killed or failed, `is_unfinished` is true: the same may replace them.
    """
    mark = _mark(out)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    yield
    mark.unlink(missing_ok=True)


def _mark(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, in place of an earlier file; NaN has no place in it."""
    with atomic_output(path, overwrite=True) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """What a JSON file holds; a byte order mark before it does no harm.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: not JSON, not UTF-8, or nested too deeply.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no file.

    Raises:
        InputError: not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = load_json(path)
    except ValueError as error:
        raise InputError(f"{path}: not JSON text ({error}). Is the file cut short?") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object. Received: {type(content).__name__}.")
    return content


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file or a pipe, unpacking gzip (and so bgzip) whatever the name says.

    Raises:
        InputError: no such file, or damaged or truncated gzip.
    """
    with input_file(path).open("rb") as raw:
        first = raw.read(len(BGZIP_END))
        packed = first.startswith(_GZIP_MAGIC)
        if is_bgzip(first):
            _require_end(path, raw)
        raw.seek(0)
        try:
            if not packed:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{path}: damaged or truncated gzip ({error}). Fetch the file again."
            ) from error


def refuse_input(out: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read.

    Args:
        out: file to write.
        inputs: files that are read, None for those that were not given.

    Raises:
        InputError: it is one of them, by whatever name.
    """
    if out.resolve() in {path.resolve() for path in inputs if path}:
        raise InputError(f"{out}: is an input itself. Choose another name to write.")


def is_bgzip(first: bytes) -> bool:
    """Whether a file that begins with these 16 bytes was packed by bgzip, not by plain gzip."""
    return first[:4] == BGZIP_END[:4] and first[12:14] == b"BC"


def _require_end(path: Path, raw: IO[bytes]) -> None:
    """Refuse a bgzip file that was cut between two blocks: gzip alone does not notice."""
    raw.seek(max(0, raw.seek(0, io.SEEK_END) - len(BGZIP_END)))
    if raw.read() != BGZIP_END:
        raise InputError(
            f"{path}: truncated: the block that ends a bgzip file is missing. Fetch the file "
            "again; where it was joined with other gzip files, pack it anew."
        )
