"""How a command ends: its exit status, and a user's mistake as one line that names her flags.

The library's errors name the arguments of its functions in backticks, as `` `min_overlap` `` or
`` `on_mismatch='skip'` ``. `command` is the one place where they become a command's flags.
"""

import argparse
import contextlib
import errno
import functools
import logging
import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping

from danq_keras.system.errors import (
    EXIT_INPUT,
    EXIT_INTERRUPT,
    EXIT_PIPE,
    InputError,
    Terminated,
    WorkerLostError,
    error_number,
    one_line,
)
from danq_keras.system.names import printable
from danq_keras.system.signals import Interruption
from danq_keras.system.terminal import log, show_any_text

Main = Callable[[list[str] | None], int]
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
_SMALLEST_LIMIT = 1 << 20  # bytes
_RIGHTS = "permission denied. Change the rights of the place, or choose another"
_ADVICE = {
    errno.ENOSPC: "the disk is full. Free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up. Free some space or choose another place",
    errno.EFBIG: "the file would be larger than this process may write. Raise the limit "
    "(`ulimit -f`) or choose another place",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "the file system is read-only. Choose another place",
    errno.EEXIST: "something of this name is in the way. Choose another name",
    errno.ENOENT: "no such file or folder. Check the path",
    errno.EISDIR: "this is a folder, a file was expected. Check the path",
    errno.ENOTDIR: "a part of the path is not a folder. Check the path",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
    errno.ELOOP: "a link that leads to itself. Check the path",
    errno.EIO: "the disk or the network failed (input/output error). Check them and try again",
    errno.ESTALE: "the file was removed or replaced on its server. Check it and try again",
    errno.ETIMEDOUT: "the disk or the network does not answer. Check them and try again",
    errno.ENODEV: "the device is gone or cannot do this. Choose another place",
    errno.ENXIO: "the device is gone or cannot do this. Choose another place",
    errno.EBUSY: "it is in use. Wait, or choose another name",
    errno.EAGAIN: "another process is using it, or there are too many processes. Wait, or raise "
    "the limit (`ulimit -u`)",
    errno.ENOLCK: "the file system cannot lock files. Set HDF5_USE_FILE_LOCKING=FALSE, or choose "
    "another place",
    errno.EOPNOTSUPP: "the file system cannot do this. Choose another place",
    errno.ENOMEM: "not enough memory. Free some, or ask for less at once",
    errno.EMFILE: "too many open files. Raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many open files on this machine. Try again later",
}


def command(
    parser: Callable[[], argparse.ArgumentParser] | None, **flags: str
) -> Callable[[Main], Main]:
    """Decorate a command's `main`: its errors name flags where the library's name arguments.

    Args:
        parser: makes the command's parser, which knows the flag of most arguments; None for a
            process that a command starts, where an argument's flag is its name with dashes.
        **flags: what to write for an argument that the parser has under another name.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def with_flags(argv: list[str] | None = None) -> int:
            def named(message: str) -> str:
                return name_flags(message, parser and parser(), flags)

            with _messages_as(named):
                try:
                    return main(argv)
                except InputError as error:
                    raise InputError(named(str(error))) from error

        return with_flags

    return decorate


@contextlib.contextmanager
def _messages_as(named: Callable[[str], str]) -> Iterator[None]:
    """Name a command's flags in warnings too."""

    def rewrite(record: logging.LogRecord) -> bool:
        if "`" in (message := record.getMessage()):
            record.msg, record.args = named(message), ()
        return True

    log.addFilter(rewrite)
    try:
        yield
    finally:
        log.removeFilter(rewrite)


def name_flags(
    message: str, parser: argparse.ArgumentParser | None, flags: Mapping[str, str] | None = None
) -> str:
    """Write the arguments in a message as the flags of a command.

    `` `min_overlap` `` becomes `--min-overlap`, `` `on_mismatch='skip'` `` becomes
    `--on-mismatch skip`, `` `overwrite=True` `` becomes `--overwrite`; a positional argument
    becomes the word that stands for it in the usage. What the command does not have stays.

    Args:
        message: of an error of the library.
        parser: knows the command's flags and what they set; None for names with dashes.
        flags: further names of arguments → what to write.
    """
    known = ({} if parser is None else _flags_of(parser)) | dict(flags or {})

    def rewrite(match: re.Match[str]) -> str:
        name, value = match.group(1), match.group(2)
        if parser is None:
            known.setdefault(name, "--" + name.replace("_", "-"))
        if name not in known:
            return match.group(0)
        if value in (None, "True"):
            return known[name]
        return f"{known[name]} {value.strip(chr(39) + chr(34))}"

    return _ARGUMENT.sub(rewrite, message)


def _flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    known: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                known |= _flags_of(below)
        else:
            known[action.dest] = _flag(action)
    return known


def _flag(action: argparse.Action) -> str:
    if action.option_strings:
        return max(action.option_strings, key=len)
    metavar = action.metavar if isinstance(action.metavar, str) else None
    return metavar or action.dest.upper()


def run_command(main: Callable[[list[str] | None], int | None]) -> int:
    """Run a command's `main` with the exit statuses that all commands share.

    Returns:
        0, or what `main` returned; 2 after a user's mistake, a refusal of the system (a full disk,
        no memory and the like); 75 when another machine of a training was lost; 130 after Ctrl-C;
        141 when the reader of stdout went away; 143 after SIGTERM; 129 after SIGHUP.
    """
    show_any_text()
    try:
        with Interruption(raises=True, notice=""):
            _require_file_size()
            status = main(None) or 0
            sys.stdout.flush()
            return status
    except InputError as error:
        message = str(error)
    except WorkerLostError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # such as `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except (OSError, RuntimeError) as error:
        message = _describe_os_error(error)
    except MemoryError as error:
        message = _describe_memory_error(error)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPT
    except Terminated as error:
        print("Terminated.", file=sys.stderr)
        return 128 + error.signal
    print(f"Error: {printable(message)}", file=sys.stderr)
    return EXIT_INPUT


def _require_file_size() -> None:
    """Refuse a limit that not even the head of an HDF5 file keeps to: HDF5 would crash.

    Raises:
        InputError: files must be smaller.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and limit < _SMALLEST_LIMIT:
        raise InputError(
            f"No file of this process may be larger than {limit:,} bytes. Raise the limit "
            "(`ulimit -f`)."
        )


def _describe_memory_error(error: MemoryError) -> str:
    asked = f" ({one_line(error)})" if str(error) else ""
    return (
        f"not enough memory{asked}. Free some, raise the limit (`ulimit -v`, the job's memory), or "
        "ask for less at once."
    )


def _describe_os_error(error: OSError | RuntimeError) -> str:
    """One line for the operating system's refusals; anything else is a defect and is re-raised.

    A RuntimeError is one of them where HDF5 meets it on closing a file.
    """
    number, named = error_number(error), getattr(error, "filename", None)
    place = f"{named}: " if named else ""
    if number not in _ADVICE:
        raise error
    if not place:  # what it was about stands in the text alone
        hint = ""
        if number in (errno.ENOSPC, errno.EDQUOT):  # perhaps where nobody has named a place
            hint = f" Temporary files go to {tempfile.gettempdir()}: TMPDIR chooses another place."
        return f"{_ADVICE[number]}. ({one_line(error)}){hint}"
    return f"{place}{_ADVICE[number]}."
