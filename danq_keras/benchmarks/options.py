"""How a yardstick says its options: a dataclass whose fields tell their help."""

import dataclasses
from typing import Any


def option(default: Any, text: str) -> Any:
    """A field of a yardstick's `Options`.

    Args:
        default: its value where the user gives none.
        text: what it is, for `--help`.
    """
    return dataclasses.field(default=default, metadata={"help": text})
