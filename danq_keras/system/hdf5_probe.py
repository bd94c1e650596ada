"""Whether HDF5 comes through a file: tried in a child process that may loop, crash or fill up.

Damaged metadata can send the HDF5 library into an endless loop, or crash it, and neither can be
caught in the process where it happens. So a child, forked in some milliseconds, opens the file
first, looks at every object and reads what is small, under a limit of processor time and memory. It
finds damage in files of any origin and age, which a checksum of our own could not. What the child
*raises* does not matter here: the reader will see the same. Where no child can be had (no memory
for one, a system without `fork`), the file is opened without.
"""

import contextlib
import faulthandler
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import h5py
from h5py._objects import phil

CPU_SECONDS = 2  # sound metadata take some milliseconds
WALL_SECONDS = 60.0  # of a slow disk: the file is opened without the child's word
_ENDLESS = "HDF5 comes to no end with it: it is damaged"
_MEMORY = 1 << 31
_SMALL = 1 << 20  # bytes of an array that is read as a whole
_MOST_CHUNKS = 100_000
_MOST_OBJECTS = 10_000
_TOO_LARGE = 4  # exit status of the child
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
_known: dict[tuple[str, int, int, int], str | None] = {}


def what_goes_wrong(path: Path) -> str | None:
    """What HDF5 does on a file other than reading it or saying what is wrong; None: nothing.

    Raises:
        OSError: the file cannot be looked at.
    """
    stat = path.stat()
    key = str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
    if key not in _known:
        _known[key] = _try(path)
    return _known[key]


def _try(path: Path) -> str | None:
    if sys.platform != "linux":  # elsewhere a forked child of many threads is not safe
        return None
    try:
        # h5py's lock, so that no other thread holds it for ever in the child.
        with phil, warnings.catch_warnings():  # warnings of threads that the child does not have
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
            if child == 0:
                _look_and_exit(path)
    except OSError:
        return None
    status = _wait(child)
    if status is None:  # stopped: a slow disk costs no processor time
        return _ENDLESS if _end(child) > CPU_SECONDS / 4 else None
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGXCPU:
            return _ENDLESS
        return "HDF5 crashes on it: it is damaged" if os.WTERMSIG(status) in _CRASHES else None
    too_large = os.WEXITSTATUS(status) == _TOO_LARGE
    return "it asks for more memory than it can mean: it is damaged" if too_large else None


def _wait(child: int) -> int | None:
    """The child's status; None where it is not at its end yet, and never seems to be."""
    until, pause = time.monotonic() + WALL_SECONDS, 0.0005
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(pause)
            pause = min(0.02, pause * 1.2)
    except BaseException:
        _end(child)
        raise
    return None


def _end(child: int) -> float:
    """Stop the child; the processor time that it took."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        usage = os.wait4(child, 0)[2]
        return usage.ru_utime + usage.ru_stime
    return 0.0


def _look_and_exit(path: Path) -> NoReturn:
    status = 0
    try:
        _limit()
        _look(path)
    except MemoryError:
        status = _TOO_LARGE
    finally:
        os._exit(status)  # whatever was raised: the reader will see it too


def _limit() -> None:
    faulthandler.disable()
    for number in (*_CRASHES, signal.SIGXCPU, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, hard))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _look(path: Path) -> None:
    seen = 0

    def look_at(_name: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        with contextlib.suppress(OSError, LookupError, ValueError, TypeError, RuntimeError):
            list(item.attrs.items())
        with contextlib.suppress(OSError, LookupError, ValueError, TypeError, RuntimeError):
            _look_at_values(item)
        return True if seen >= _MOST_OBJECTS else None

    with h5py.File(path, "r", locking=False) as file:
        look_at("/", file)
        file.visititems(look_at)


def _look_at_values(item: Any) -> None:
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return
    item.id.get_storage_size()
    if item.chunks:
        n_chunks = 1
        for n, each in zip(item.shape, item.chunks, strict=True):
            n_chunks *= -(-n // each)
        if n_chunks <= _MOST_CHUNKS:
            item.id.get_num_chunks()
    if item.size * item.dtype.itemsize <= _SMALL:
        item[()]
