"""What a user sees while something runs: messages and progress bars, on stderr."""

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from danq_keras.system.names import printable
from danq_keras.system.signals import check_stop

log = logging.getLogger("danq_keras")


def show_any_text() -> None:
    """Let stdout and stderr show another character for one that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's are none
            stream.reconfigure(errors="replace")


def set_up_logging() -> None:
    """Send the package's messages to the terminal (stderr); who asked for more keeps it."""
    if log.level != logging.DEBUG:
        log.setLevel(logging.INFO)
    log.propagate = False
    if not any(isinstance(handler, _TerminalHandler) for handler in log.handlers):
        terminal = _TerminalHandler()
        terminal.setLevel(logging.INFO)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append the package's messages to a file too, until the block ends, however it ends."""
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    try:
        yield
    finally:
        log.removeHandler(file)
        file.close()


class _TerminalHandler(logging.Handler):
    """Writes through tqdm, so that a message does not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a terminal that has gone ends no work
            tqdm.write(printable(self.format(record)), file=sys.stderr)


class _Bar(tqdm):  # type: ignore[misc]
    """Between two updates is a good moment to stop."""

    def update(self, n: float | None = 1) -> bool | None:
        shown: bool | None = super().update(n)
        check_stop()
        return shown


def progress(*, total: int | None, desc: str, unit: str = "it", **options: Any) -> "tqdm[Any]":
    """A progress bar on stderr for what takes over a second.

    On a terminal it goes when it is done; elsewhere it writes at most every ten seconds and its
    last state stays. Its update raises a request to stop, see `signals.check_stop`.
    """
    on_terminal = sys.stderr.isatty()
    return _Bar(
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


def _memory_file() -> IO[bytes]:
    """A nameless file, in memory where the system has such: no disk can be too full for it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("held-back"), "r+b")
    return tempfile.TemporaryFile()


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hold back what native libraries write to stderr; an error shows it after all."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with _memory_file() as held:
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
