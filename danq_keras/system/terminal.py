"""What a user sees while something runs: messages and progress bars, on stderr."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from danq_keras.system.names import printable

log = logging.getLogger("danq_keras")


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
        tqdm.write(printable(self.format(record)), file=sys.stderr)


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
