"""A user's mistake, the exit statuses of commands, and libraries that an extra installs.

A mistake is an `InputError`: a command prints its one line and ends with status 2.
"""

import difflib
import importlib.util
import re
import signal
from collections.abc import Sequence
from typing import Any

EXIT_INPUT = 2


EXIT_LOST = 75
"""Another worker was lost: "temporary failure" in sysexits.h; start all again."""


EXIT_INTERRUPT = 130


EXIT_PIPE = 141


EXIT_TERMINATE = 143


_HDF5_ERRNO = re.compile(r"errno = (\d+)")  # HDF5 tells the system's number only in its text


class InputError(ValueError):
    """A user's mistake. The message is one line: the rule, what was received, what to do.

    What was received may come from a damaged file: characters that end a line or steer a terminal
    become escapes.
    """

    def __init__(self, message: str = "") -> None:
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in message)
        super().__init__(message if message.isprintable() else "".join(shown))


class ChildFailedError(RuntimeError):
    """A process that was started ended with an error, which it has shown itself.

    `status` is its exit status.
    """

    def __init__(self, what: object, status: int) -> None:
        super().__init__(f"{what}: a process ended with status {status}; its error is above.")
        self.status = status


class WorkerLostError(RuntimeError):
    """Another worker of a training on several machines ended or cannot be reached.

    `status` is the exit status of the command.
    """

    status = EXIT_LOST


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: unwind, clean up, exit with 128 and the number of `signal`."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.signal = number


def optional_module(name: str, extra: str) -> Any:
    """Import a library that only an extra of the package installs.

    Args:
        name: dotted name of the module, as `import` takes it.
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
        name: what the library calls itself, for the message.
        program: name of the command, for the message.
        extra: the extra of the package that holds it.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(f'{program} needs {name}. Install it: pip install -e ".[{extra}]".')


def one_line(error: object) -> str:
    """The text of an error without its line breaks."""
    return " ".join(str(error).split())


def error_number(error: BaseException) -> int:
    """The operating system's number of an error, which HDF5 may hide in the text; 0 for none."""
    number = error.errno if isinstance(error, OSError) else None
    found = None if number else _HDF5_ERRNO.search(str(error))
    return int(found.group(1)) if found else number or 0


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """What a user may have meant by a wrong name; nothing where no name is near.

    Near is a name of about the same letters, or one of whose words is the wrong name: `batch` for
    `batch_size`.
    """
    alike = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return alike or [each for each in known if name in each.split("_")]


def shorten(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
