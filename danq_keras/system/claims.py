"""Who is at work where: leftovers of killed processes, folders held by one process, turns.

An output grows under a hidden name beside its own, which tells the process that makes it:
`.NAME.partial-PID@MACHINE`. What a killed process leaves there is removed by the next process that
writes into the same folder. A machine is its name and its table of processes, which containers have
of their own: of a process on another machine nobody here can say whether it lives.
"""

import contextlib
import errno
import fcntl
import functools
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from danq_keras.system.errors import InputError
from danq_keras.system.signals import check_stop
from danq_keras.system.terminal import log

_LEFTOVER = re.compile(r"\..+\.partial-(?P<pid>\d+)(?:@(?P<machine>.+?))?(?:\.keras)?", re.DOTALL)
_TEMPORARY = re.compile(r"danq-[a-z]+-(?P<pid>\d+)@(?P<machine>.+)-[^-]+")
CLAIM = ".claim"
_SURELY_OLD = 24 * 3600.0  # seconds; for names without a machine, which older versions gave
_POLL_SECONDS = 0.2
_told: set[Path] = set()  # leftovers of other machines that were mentioned


@functools.cache
def this_machine() -> str:
    """Name of this machine, and the number of its table of processes."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:24] or "unnamed"
    try:
        table = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return name
    return name + "." + re.sub(r"\D", "", table)


def temporary_sibling(path: Path, ending: str = "") -> Path:
    """Where this process makes what becomes `path`; Keras wants `ending` to be .keras."""
    return path.with_name(f".{path.name}.partial-{os.getpid()}@{this_machine()}{ending}")


def temporary_folder(what: str) -> tempfile.TemporaryDirectory[str]:
    """A folder of temporary files, gone with its process; those of killed ones go now.

    Args:
        what: a word for what is in it, which begins its name.

    Raises:
        OSError: there is no place for temporary files, or it refuses.
    """
    with contextlib.suppress(OSError):  # they belong to somebody else, or cannot be listed
        for path in Path(tempfile.gettempdir()).glob("danq-*@*"):
            match = _TEMPORARY.fullmatch(path.name)
            is_ours = match is not None and match["machine"] == this_machine()
            if match is not None and is_ours and path.lstat().st_uid == os.getuid():
                _consider(path, int(match["pid"]), match["machine"])
    return tempfile.TemporaryDirectory(prefix=f"danq-{what}-{os.getpid()}@{this_machine()}-")


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is an output under way, or what is left of one."""
    return _LEFTOVER.fullmatch(name) is not None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's; no number of a process at all
        pass
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this machine left in a folder, and say so."""
    with contextlib.suppress(OSError):  # a folder that cannot be listed shows its leftovers to none
        for path in folder.iterdir():
            if ".partial-" in path.name and (match := _LEFTOVER.fullmatch(path.name)):
                _consider(path, int(match["pid"]), match["machine"])


def _consider(path: Path, pid: int, machine: str | None) -> None:
    if machine not in (None, this_machine()):
        if path not in _told:
            _told.add(path)
            log.info("%s: of another machine. Remove it if its process %d has ended.", path, pid)
        return
    if _lives(pid) or (machine is None and time.time() - path.stat().st_mtime < _SURELY_OLD):
        return
    try:
        remove(path)
    except OSError as error:
        log.info("%s: left by a killed process, cannot be removed (%s).", path, error.strerror)
    else:
        log.info("%s: left by a killed process, removed.", path)


def remove(path: Path) -> None:
    """Remove a file or a whole folder; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from working in the same folder; the system ends it with the process.

    Where the file system cannot lock a folder, a file `.claim` in it names the process.

    Raises:
        InputError: another process holds the folder.
    """
    with contextlib.ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is at work there. Wait for its end, or choose another "
                "folder."
            ) from error
        except OSError as error:  # network file systems lock files only, or nothing
            log.debug("%s: cannot be locked (%s)", folder, error)
            stack.enter_context(_claim_file(folder / CLAIM))
        yield


def require_unclaimed(folder: Path) -> None:
    """Stop before any work where another process holds a folder.

    Raises:
        InputError: one does.
    """
    if folder.is_dir():
        with contextlib.suppress(PermissionError), claimed_folder(folder):
            pass


@contextlib.contextmanager
def _claim_file(path: Path) -> Iterator[None]:
    """Hold a folder by a file that only one process can create.

    Raises:
        InputError: another process holds it, or may do so on another machine.
    """
    me = f"{os.getpid()}@{this_machine()}"
    try:
        _write_claim(path, me)
    except FileExistsError:
        owner = _read_claim(path)
        pid, _, machine = owner.partition("@")
        if machine != this_machine() or not pid.isdigit() or _lives(int(pid)):
            raise InputError(
                f"{path.parent}: another process is at work there ({owner or 'unknown'}). Wait for "
                f"its end, or choose another folder; if it has been killed, delete {path}."
            ) from None
        path.unlink(missing_ok=True)
        _write_claim(path, me)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write_claim(path: Path, owner: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, owner.encode())
    finally:
        os.close(descriptor)


def _read_claim(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")[:100].strip()
    except OSError:
        return ""


@contextlib.contextmanager
def taking_turns(path: Path) -> Iterator[bool]:
    """Let one process at a time make `path`; the others wait, and can use what it has made.

    Where the file system has no locks nobody waits.

    Returns:
        Whether another process was waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, waited = path.with_name(f".{path.name}.lock"), False
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(descriptor):
                if not waited:
                    log.info("%s: another process is making it; waiting for its end.", path)
                waited = True
                check_stop()
                time.sleep(_POLL_SECONDS)
                continue
            if not _is_same_file(descriptor, lock):  # the one before has just removed it
                continue
            try:
                yield waited
            finally:
                lock.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether the lock is ours, or there are none on this file system."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
