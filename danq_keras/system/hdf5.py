"""HDF5 files: opened without trust, without locks, and with room on the disk for new ones.

Every reader of HDF5 goes through `open_hdf5` and the functions that take a named part out of a file
(`array`, `read_array`, `read_texts`, `attribute`). What is not as expected is a `ValueError` inside
the block, and whatever HDF5 says of damage comes out of it as one line of an `InputError`; a fault
of the machine (a failing disk, a lost network drive) stays an `OSError`, with the file's name. A
part is taken only where the file is large enough to hold what the part claims.

Locks: a file that nobody changes once it is there, and one under a temporary name of this process,
needs none, and many network file systems have none; so those are opened without.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, overload

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras.system.errors import InputError, error_number, one_line
from danq_keras.system.hdf5_probe import what_goes_wrong

HDF5_DAMAGE = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,  # with it RecursionError and NotImplementedError
    ArithmeticError,
)
"""What h5py may raise for a damaged file, or the code that takes its parts for what they are not.

Not MemoryError, since a sound file may be too large for a machine.
"""

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_MACHINE = {
    errno.EIO,
    errno.ESTALE,
    errno.EFBIG,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENODEV,
    errno.ENXIO,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EAGAIN,
    *NO_LOCKS,
}
_MOST_PACKED = 1100  # bytes that one byte of a file can stand for: deflate comes to 1032
_ALWAYS_ALLOWED = 1 << 24
_METADATA_BYTES = 1 << 16  # checksums and what HDF5 adds on closing


def machine_fault(error: BaseException, path: Path) -> OSError | None:
    """The operating system's error behind one of h5py's, with the file's name.

    Args:
        error: what h5py raised; HDF5 may hide the number in its text.
        path: the file.

    Returns:
        The error to raise in its place; None where the machine is not at fault.
    """
    number = error_number(error)
    if number not in _MACHINE:
        return None
    return OSError(number, os.strerror(number), str(path))


@contextlib.contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Turn what h5py says of a machine's fault while writing into an error that names the file.

    Raises:
        OSError: the disk is full, fails, or refuses.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        fault = machine_fault(error, path)
        if fault is None:
            raise
        raise fault from error


def reason_of(error: object) -> str:
    """The first words of an error on one line, without control characters."""
    # The text of a KeyError is in quotation marks.
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = one_line(said) or type(error).__name__
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:300])


@contextlib.contextmanager
def damage_told(path: Path, what: str, advice: str) -> Iterator[None]:
    """Turn the libraries' many ways to say that a file is damaged into one line.

    Args:
        path: the file that is read in the block.
        what: word for what it should be, such as "store".
        advice: what to do, a sentence.

    Raises:
        InputError: the file is damaged or something else; one of the block comes out as it is.
        OSError: the machine is at fault; it has the file's name.
    """
    try:
        yield
    except InputError:
        raise
    except HDF5_DAMAGE as error:
        fault = machine_fault(error, path)
        if fault is not None:
            raise fault from error
        raise InputError(f"{path}: not a readable {what} ({reason_of(error)}). {advice}") from error


def check_sound(path: Path, what: str, advice: str) -> None:
    """Refuse a file that HDF5 would never come to an end with, or crash on.

    Raises:
        InputError: it does.
    """
    wrong = what_goes_wrong(path)
    if wrong is not None:
        raise InputError(f"{path}: not a readable {what} ({wrong}). {advice}")


@contextlib.contextmanager
def open_hdf5(path: Path, what: str, advice: str) -> Iterator[h5py.File]:
    """Open a file for reading; damage that shows in the block becomes one line.

    Args:
        path: the file.
        what: word for what it should be, such as "store".
        advice: what to do where it is damaged, a sentence.

    Raises:
        InputError: the file is damaged or something else.
        OSError: it is not there, may not be read, or the machine is at fault.
    """
    with damage_told(path, what, advice):
        with path.open("rb"):  # says why, where h5py would only say no
            pass
        check_sound(path, what, advice)
        with h5py.File(path, "r", locking=False) as file:
            yield file


def new_hdf5(path: Path, **options: Any) -> h5py.File:
    """A new file under a name that is this process's own, open for writing, without a lock.

    Args:
        path: the file; an empty one may be there.
        **options: of `h5py.File`.

    Raises:
        OSError: it cannot be made; the file is named.
    """
    path.touch()  # says why, where h5py would only say no
    with faults_named(path):
        return h5py.File(path, "w", locking=False, **options)


def array(
    group: h5py.Group,
    name: str,
    *,
    kinds: str = "",
    shape: tuple[int | None, ...] | None = None,
) -> h5py.Dataset:
    """A named array of a file, of which nothing but its description has been read.

    Args:
        group: where it is.
        name: its name there.
        kinds: the kinds of NumPy dtype that it may have, such as "f" or "iu"; empty for all.
        shape: what it must have; None stands for any number.

    Raises:
        KeyError: there is none.
        ValueError: it is something else, refers to another file, or the file is too small for it.
    """
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise ValueError(f"{name!r} is a link to another file")
    if name not in group:
        raise KeyError(f"no {name!r} in it")
    stored = group[name]
    if not isinstance(stored, h5py.Dataset):
        raise ValueError(f"{name!r} is a group, an array was expected")
    if stored.shape is None:
        raise ValueError(f"{name!r} is an array without a shape")
    if kinds and stored.dtype.kind not in kinds:
        raise ValueError(f"{name!r} has values of the unexpected type {stored.dtype}")
    if shape is not None and not _fits(stored.shape, shape):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name!r} must have the shape ({wanted}), received {stored.shape}")
    require_stored(stored, name)
    return stored


def _fits(received: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(received) == len(shape) and all(
        wanted in (None, n) for n, wanted in zip(received, shape, strict=True)
    )


def require_stored(stored: h5py.Dataset, name: str) -> None:
    """Refuse an array that claims more than its file can hold, or has its values elsewhere.

    Raises:
        ValueError: it does.
    """
    if stored.is_virtual or stored.external:
        raise ValueError(f"{name!r} has its values in another file")
    claimed, held = int(stored.size) * stored.dtype.itemsize, stored.id.get_storage_size()
    packed = stored.id.get_create_plist().get_nfilters() > 0
    most = held * _MOST_PACKED if packed else held
    if claimed > max(most, _ALWAYS_ALLOWED):
        raise ValueError(
            f"{name!r} claims {claimed:,} bytes, of which the file holds {held:,}: it is cut short "
            "or damaged"
        )


def read_array(
    group: h5py.Group,
    name: str,
    *,
    kinds: str = "",
    shape: tuple[int | None, ...] | None = None,
) -> npt.NDArray[Any]:
    """The values of a named array; arguments and errors are those of `array`."""
    values: npt.NDArray[Any] = np.asarray(array(group, name, kinds=kinds, shape=shape)[()])
    return values


def read_texts(group: h5py.Group, name: str, length: int | None = None) -> tuple[str, ...]:
    """The texts of a one-dimensional array.

    Args:
        group: where it is.
        name: its name there.
        length: how many there must be; None for any number.

    Raises:
        KeyError: there is none.
        ValueError: it is something else, or not UTF-8; see `array`.
    """
    stored = array(group, name, shape=(length,))
    if h5py.check_string_dtype(stored.dtype) is None:
        raise ValueError(f"{name!r} has values of the unexpected type {stored.dtype}, not texts")
    return tuple(stored.asstr()[:].tolist())


@overload
def attribute(group: h5py.Group, name: str, kind: Literal["text"]) -> str: ...


@overload
def attribute(group: h5py.Group, name: str, kind: Literal["number"]) -> int: ...


def attribute(group: h5py.Group, name: str, kind: Literal["text", "number"]) -> str | int:
    """An attribute that is one text or one whole number.

    Raises:
        KeyError: there is none.
        ValueError: it is something else.
    """
    if name not in group.attrs:
        raise KeyError(f"no attribute {name!r}")
    value = group.attrs[name]
    if kind == "text" and isinstance(value, str):
        value.encode()  # a ValueError where it is no Unicode text
        return value
    if kind == "number" and isinstance(value, np.integer | int | np.bool_):
        return int(value)
    raise ValueError(f"the attribute {name!r} must be a {kind}, received {value!r}"[:200])


def reserve_space(file: h5py.File, n_bytes: int) -> None:
    """Take the space of all rows of a new file now, before hours are spent on them.

    HDF5 may crash the process when a disk fills up later.

    Args:
        file: open for writing, its datasets created and empty.
        n_bytes: what their values will take.

    Raises:
        OSError: the disk has not that much; the file is as small as before.
    """
    path = Path(file.filename)
    with faults_named(path):
        file.flush()
    used = file.id.get_filesize()
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as handle:
        try:
            os.posix_fallocate(handle.fileno(), 0, used + n_bytes + _METADATA_BYTES)
        except OSError as error:
            handle.truncate(used)
            raise OSError(error.errno, error.strerror, str(path)) from error
