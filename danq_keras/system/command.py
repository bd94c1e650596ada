"""What a command shows and how it ends: errors, logging, progress, exit statuses, atomic output.

A user's mistake is an `InputError`: a command prints its one line and exits with status 2.
Output is written under a temporary name beside the final one and renamed when complete.
"""

import contextlib
import errno
import fcntl
import importlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

from tqdm.auto import tqdm

log = logging.getLogger("danq_keras")

EXIT_INPUT = 2
EXIT_INTERRUPT = 130
EXIT_PIPE = 141
EXIT_TERMINATE = 143


class InputError(ValueError):
    """A user's mistake. The message is one line: the rule, what was received, what to do."""


class Terminated(BaseException):
    """SIGTERM arrived: unwind, clean up, exit with 143."""


def set_up_logging(path: Path | None = None) -> None:
    """Send the package's messages to the terminal (stderr) and, if given, append them to a file."""
    log.setLevel(logging.INFO)
    log.propagate = False
    if not any(isinstance(handler, _TerminalHandler) for handler in log.handlers):
        terminal = _TerminalHandler()
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)
    if path is not None:
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


class _TerminalHandler(logging.Handler):
    """Writes through tqdm, so that a message does not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def progress(*, total: int | None, desc: str, unit: str = "it", **options: Any) -> "tqdm[Any]":
    """A progress bar on stderr for what takes over a second.

    On a terminal it goes when it is done; elsewhere it writes at most every ten seconds and its
    last state stays.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=desc,
        unit=unit,
        delay=1,
        leave=not on_terminal,
        mininterval=0.2 if on_terminal else 10,
        dynamic_ncols=on_terminal,
        file=sys.stderr,
        **options,
    )


def optional_module(name: str, extra: str) -> Any:
    """Import a library that only an extra of the package installs.

    Args:
        name: of the module.
        extra: the extra that holds it.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed, which this needs. Install it: "
            f"pip install 'danq_keras[{extra}]'."
        ) from error


def require_library(module: str, name: str, *, program: str, extra: str) -> None:
    """Stop a command where a library is not installed, before it does anything.

    Args:
        module: what is imported, which is not done here.
        name: the library's own.
        program: the command.
        extra: the extra of the package that holds it.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(f'{program} needs {name}. Install it: pip install -e ".[{extra}]".')


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hold back what native libraries write to stderr; an error shows it after all."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


class Interruption:
    """Turns Ctrl-C and SIGTERM into a request that a loop honours between two steps."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: stop at once
            raise KeyboardInterrupt
        self.signal = number
        log.info("Stopping after this step; the state is saved. (Again to stop at once.)")

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_error(self) -> NoReturn:
        """End the command as its signal asks."""
        if self.signal == signal.SIGTERM:
            raise Terminated
        raise KeyboardInterrupt


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block.

    For short work that must not be half-done, or in which the exception would be lost: HDF5 turns
    one that is raised while it converts text into an error of its own. Does nothing outside the
    main thread, which no signal interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _frame: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Stop before any work when an output is already there.

    Raises:
        InputError: `path` exists (an empty folder does not count) and may not be overwritten.
    """
    if path.exists() and not _is_empty_folder(path) and not overwrite:
        raise InputError(f"{path}: already exists. Choose another name, or pass --overwrite.")


@contextlib.contextmanager
def atomic_output(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the final name when the block succeeds.

    The caller creates a file or a folder at the temporary path. After an error or an
    interrupt nothing is left of it.

    Raises:
        InputError: `path` exists and `overwrite` is false, or its folder cannot be made.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = _temporary_sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path}: its parent is not a folder. Choose another place.") from error
    _remove(temporary)
    try:
        yield temporary
        refuse_existing(path, overwrite=overwrite)  # somebody else may have been quicker
        if path.exists() and (temporary.is_dir() or _is_empty_folder(path)):
            _remove(path)  # renaming replaces a file by a file only
        temporary.replace(path)
    except OSError as error:
        # The user knows the final name only, and writing names none at all.
        error.filename = str(error.filename or path).replace(str(temporary), str(path))
        raise
    finally:
        _remove(temporary)


@contextlib.contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from working in the same folder; the system ends it with the process.

    Raises:
        InputError: another process holds the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is at work there. Wait for its end, or choose another "
                "folder."
            ) from error
        except OSError as error:  # some network file systems cannot lock folders
            log.debug("%s: cannot be locked (%s)", folder, error)
        yield
    finally:
        os.close(descriptor)


def _raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def run_command(main: Callable[[list[str] | None], int | None]) -> int:
    """Run a command's `main` with the exit statuses that all commands share.

    Returns:
        0, or what `main` returned; 2 after a user's mistake or a disk that is full or not
        writable; 130 after Ctrl-C; 141 when the reader of stdout went away; 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return main(None) or 0
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # such as `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as error:
        message = _describe_os_error(error)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPT
    except Terminated:
        print("Terminated.", file=sys.stderr)
        return EXIT_TERMINATE
    print(f"Error: {message}", file=sys.stderr)
    return EXIT_INPUT


def _describe_os_error(error: OSError) -> str:
    """One line for the operating system's refusals; anything else is a defect and is re-raised."""
    advice = {
        errno.ENOSPC: "the disk is full. Free some space or choose another place",
        errno.EDQUOT: "the disk quota is used up. Free some space or choose another place",
        errno.EACCES: "permission denied. Change the rights of the place, or choose another",
        errno.EPERM: "permission denied. Change the rights of the place, or choose another",
        errno.EEXIST: "something of this name is in the way. Choose another name",
        errno.EROFS: "the file system is read-only. Choose another place",
        errno.ENOENT: "no such file or folder. Check the path",
        errno.EISDIR: "this is a folder, a file was expected. Check the path",
        errno.ENOTDIR: "a part of the path is not a folder. Check the path",
        errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
    }.get(error.errno or 0)
    if advice is None and "errno = 28" in str(error):  # HDF5 reports a full disk only in its text
        return f"the disk is full. Free some space or choose another place. ({error})".replace(
            "\n", " "
        )
    if advice is None:
        raise error
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{advice}."
