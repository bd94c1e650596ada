"""How a command ends: its exit status, and a user's mistake as one line that names her flags.

The library's errors name the arguments of its functions in backticks, as `` `min_overlap` `` or
`` `on_mismatch='skip'` ``. `command` is the one place where they become a command's flags.
"""

import argparse
import errno
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from danq_keras.system.errors import (
    EXIT_INPUT,
    EXIT_INTERRUPT,
    EXIT_PIPE,
    EXIT_TERMINATE,
    InputError,
    Terminated,
)
from danq_keras.system.names import printable

Main = Callable[[list[str] | None], int]
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


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
            try:
                return main(argv)
            except InputError as error:
                message = name_flags(str(error), parser and parser(), flags)
                raise InputError(message) from error

        return with_flags

    return decorate


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
    print(f"Error: {printable(message)}", file=sys.stderr)
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
