"""Windows as a notebook has them: strings, one-hot arrays, base codes, a split.

All become base codes (N, L) uint8 (see `genome.dna`): 0 to 3 for A, G, C, T, 4 for an unknown base.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.data.store import Split
from danq_keras.genome.dna import ALPHABET, UNKNOWN, Bytes, encode, foreign_letters, unpack_codes
from danq_keras.system.errors import InputError

ArrayWindows: TypeAlias = Sequence[str] | npt.NDArray[Any] | Split


def codes_of(windows: ArrayWindows, length: int) -> Bytes:
    """Windows as base codes.

    Args:
        windows: N strings of L letters; one-hot (N, L, 4), channels A,G,C,T, all four zero (or all
            equal) for an unknown base; codes (N, L) uint8; or a split of an open dataset.
        length: bases L of a window.

    Returns:
        (N, L) uint8 codes.

    Raises:
        InputError: there are none, they are of another length, or something else than windows.
    """
    if isinstance(windows, Split):
        codes = unpack_codes(np.asarray(windows.sequence), windows.header.window)
    elif isinstance(windows, np.ndarray) and windows.ndim == 3:
        codes = _of_onehot(windows)
    elif isinstance(windows, np.ndarray) and windows.dtype.kind in "ui":
        codes = _of_codes(windows)
    else:
        codes = _of_strings(windows, length)
    if not len(codes):
        raise InputError("`windows`: none. Give at least one.")
    if codes.shape[1] != length:
        raise InputError(
            f"`windows`: the network reads {length} bases, received windows of {codes.shape[1]}. "
            "Cut them to that length."
        )
    return codes


def _of_onehot(onehot: npt.NDArray[Any]) -> Bytes:
    if onehot.shape[2] != len(ALPHABET):
        raise InputError(
            "`windows`: one-hot windows have the shape (N, L, 4), channels A,G,C,T. Received: "
            f"{onehot.shape}."
        )
    known = (onehot == 1).sum(axis=2) == 1
    single = known & ((onehot == 0).sum(axis=2) == len(ALPHABET) - 1)
    unknown = (onehot == onehot[..., :1]).all(axis=2)
    wrong = ~(single | unknown)
    if wrong.any():
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"`windows`: {int(wrong.sum()):,} bases are not one-hot (a single 1, or four equal "
            f"numbers for an unknown base), such as {onehot[row, place].tolist()} in window {row} "
            f"at base {place}. Give one-hot windows, channels A,G,C,T."
        )
    return np.where(single, onehot.argmax(axis=2), UNKNOWN).astype(np.uint8)


def _of_codes(codes: npt.NDArray[Any]) -> Bytes:
    if codes.ndim != 2 or (codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= UNKNOWN):
        raise InputError(
            "`windows`: base codes have the shape (N, L) and are 0 to 3 for A, G, C, T, 4 for an "
            f"unknown base. Received: shape {codes.shape}"
            + (f", {codes.min()} to {codes.max()}." if codes.size else ".")
        )
    return codes.astype(np.uint8)


def _of_strings(windows: Any, length: int) -> Bytes:
    if isinstance(windows, (str, bytes)):
        raise InputError("`windows`: a list of sequences. Received a single one: put it in [].")
    texts = list(windows)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                "`windows`: sequences, one-hot (N, L, 4), codes (N, L) or a split. Received: "
                f"{type(text).__name__} as number {number}."
            )
        if len(text) != length:
            raise InputError(
                f"`windows`: the network reads {length} bases, number {number} has {len(text)}. "
                "Cut all to that length."
            )
    if not texts:
        return np.empty((0, length), np.uint8)
    letters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    foreign = foreign_letters(letters)
    if len(foreign):
        number, place = divmod(int(foreign[0]), length)
        raise InputError(
            "`windows`: bases are A, C, G, T, U, N and the other IUPAC codes. Received: "
            f"{texts[number][place]!r} at base {place + 1} of number {number}, {len(foreign):,} "
            "such letters in all. Correct them, or write N."
        )
    return encode(letters).reshape(len(texts), length)
