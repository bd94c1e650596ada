"""What a user names as an input: a file, or a pipe as shells make them.

A pipe (`<(zcat peaks.gz)`, `-` and /dev/stdin, a named one) can be read once, and readers look at a
file several times. So what comes through is copied to the folder of temporary files at the first
look, and the copy is read, by every reader of this process, until it ends.
"""

import codecs
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from danq_keras.system.claims import temporary_folder
from danq_keras.system.errors import InputError

BYTE_ORDER_MARK = codecs.BOM_UTF8
_STDIN_NAMES = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_copies: dict[tuple[int, int], Path] = {}
_folders: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def is_utf16(first: bytes) -> bool:
    """Whether a file with these first bytes says that it is text of two bytes a letter."""
    return first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def is_pipe(path: Path) -> bool:
    """Whether a path is standard input, a pipe or a device, and no file of its own."""
    return str(path) in _STDIN_NAMES or (path.exists() and not (path.is_file() or path.is_dir()))


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe for an input that is told by its name, has files beside it, or is no text.

    Raises:
        InputError: it is one.
    """
    if is_pipe(path):
        raise InputError(
            f"{path}: a pipe, and this input is read in several places more than once. Write it to "
            "a file first, and name that."
        )


def identity(path: Path) -> list[str | int]:
    """What tells an input from another, and from itself after a change; of a pipe its content."""
    if is_pipe(path):
        with input_file(path).open("rb") as file:
            return [str(path), hashlib.file_digest(file, "sha256").hexdigest()]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def input_file(path: Path) -> Path:
    """The file to read for a path: itself, or the copy of what a pipe gave.

    Args:
        path: what the user named; `-` is standard input.

    Raises:
        InputError: no such file, a folder, or no room for the copy.
    """
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, a file was expected. Check the path.")
    if not is_pipe(path):
        if not path.is_file():
            raise InputError(f"{path}: no such file. Check the path.")
        return path
    return _copy(path)


def _copy(path: Path) -> Path:
    """What a pipe gives, in a temporary file.

    A file that is standard input is taken as it is, unless somebody has read a part of it.
    """
    is_stdin = str(path) in _STDIN_NAMES
    try:
        status = os.fstat(0) if is_stdin else path.stat()
        redirected = Path(os.path.realpath("/dev/fd/0"))
        is_whole = stat.S_ISREG(status.st_mode) and os.lseek(0, 0, os.SEEK_CUR) == 0
        if is_whole and redirected.is_file():
            return redirected
        key = status.st_dev, status.st_ino
        if key not in _copies:
            with room_for(f"what {path} gives"), _opened(path) as source:
                _folders.append(temporary_folder("pipe"))
                copy = Path(_folders[-1].name) / "input"
                with copy.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            _copies[key] = copy
        return _copies[key]
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENXIO):
            raise
        raise InputError(
            f"{path}: there is nothing to read (standard input is closed). Name a file."
        ) from error


def _opened(path: Path) -> IO[bytes]:
    """A pipe, open to be read from where it stands."""
    return os.fdopen(os.dup(0), "rb") if str(path) in _STDIN_NAMES else path.open("rb")


@contextlib.contextmanager
def room_for(what: str) -> Iterator[None]:
    """Say which folder is full when temporary files find no room in it.

    Args:
        what: what is written there, for the message.

    Raises:
        InputError: the disk or the quota of the folder of temporary files is used up, or it cannot
            be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):
            raise InputError(
                f"There is no folder of temporary files, which {what} needs. Set TMPDIR to one "
                "that can be written."
            ) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise InputError(
            f"{tempfile.gettempdir()}: no room here for {what} "
            f"({os.strerror(error.errno)}). Set TMPDIR to a folder with more."
        ) from error
