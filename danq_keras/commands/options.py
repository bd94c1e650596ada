"""Options that several commands share, and how their words are read."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from danq_keras.system.errors import InputError


def add_target_names(parser: argparse.ArgumentParser) -> None:
    """Add `--target-names`, for models that do not know the names of their targets."""
    parser.add_argument(
        "--target-names",
        metavar="NAMES",
        help="names of the targets of a model file that has none: a text file with one a line, or "
        "deepsea for the 919 of DeepSEA (default: the model's own, or numbers)",
    )


def read_pairs(pairs: Iterable[str], settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`--set` pairs as settings in text, added to those that flags gave.

    Args:
        pairs: texts of the form KEY=VALUE, as `--set` takes them.
        settings: what other flags say.

    Raises:
        InputError: a pair is malformed, or a key is given twice with different values.
    """
    found = dict(settings or {})
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"--set takes KEY=VALUE. Received: {pair!r}.")
        if found.get(key, value) != value:
            raise InputError(f"{key} is given twice: {found[key]} and {value}. Give it once.")
        found[key] = value
    return found
