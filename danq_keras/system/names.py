"""Names that come from outside: what none may hold, and how any text is shown on a terminal.

A target, a chromosome, a record or a feature is a cell of a table, a field of a VCF and a word on a
terminal. A tab or a line break in it breaks the first two, an escape sequence the last.
"""

import re
from collections.abc import Iterable

from danq_keras.system.errors import InputError

# Control characters, the line and paragraph separators, what turns the direction of writing, and a
# byte order mark, which nobody sees.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_CONTROL_BUT_LAYOUT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
_SHOWN = 60


def refuse_control(names: Iterable[str], where: object, what: str) -> None:
    """Refuse names with control characters: tabs, line breaks, escape sequences.

    Args:
        names: any number of them.
        where: the file or argument that has them, None where that is not known.
        what: what they name, such as "target".

    Raises:
        InputError: one has such a character.
    """
    names = list(names)
    if _CONTROL.search("".join(names)) is None:
        return
    name = next(name for name in names if _CONTROL.search(name))
    shown = f"{name[:_SHOWN]!r}" + ("…" if len(name) > _SHOWN else "")
    beginning = "The name" if where is None else f"{where}: the name"
    raise InputError(
        f"{beginning} of a {what} must not hold tabs, line breaks or other control characters. "
        f"Received: {shown}. Rename it."
    )


def printable(text: str) -> str:
    """Text for a terminal: control characters but tabs and line feeds become escapes."""
    return _CONTROL_BUT_LAYOUT.sub(lambda match: ascii(match.group())[1:-1], text)
