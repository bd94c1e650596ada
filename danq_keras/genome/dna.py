"""DNA as numbers: base codes, one-hot, packed one-hot, reverse complements, label bits.

Everything here is pure NumPy and knows no files. The channel order is DeepSEA's **A, G, C, T**.

- codes: (..., L) uint8, 0-3 = A,G,C,T, 4 = unknown (N and every other IUPAC letter)
- onehot: (..., L, 4) uint8 or float, an unknown base is a row of zeros
- packed: (..., ceil(L/2)) uint8, `np.packbits` of the flattened (L, 4) one-hot: two bases a byte,
  and zeros in the second half of the last byte where L is odd

A packed row holds 4 L bits; its reverse complement is the reversal of all of them, because
reversing positions and channels together is what complements A,G,C,T. How long a row is, its bytes
do not say where L may be odd: every function that reads rows is told.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]

ALPHABET = "AGCT"  # Source: DeepSEA's training files; not the alphabetical A,C,G,T
UNKNOWN = 4
BASES_OF_LETTER = {
    **dict(zip("ACGT", "ACGT", strict=True)),
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"},
}
"""Upper-case letter → the bases that it may stand for.

Source: IUPAC-IUB, Nucleic Acids Research 13:3021, 1985.
"""

_CODE_OF_BYTE = np.full(256, UNKNOWN, np.uint8)
# U is RNA's T.
for _code, _base in (*enumerate(ALPHABET), (ALPHABET.index("T"), "U")):
    _CODE_OF_BYTE[[ord(_base), ord(_base.lower())]] = _code
_IS_LETTER = np.zeros(256, bool)
for _base in (*BASES_OF_LETTER, "U"):
    _IS_LETTER[[ord(_base), ord(_base.lower())]] = True
_LETTERS = bytes(np.flatnonzero(_IS_LETTER).tolist())
_BYTE_OF_CODE = np.frombuffer((ALPHABET + "N").encode(), np.uint8)
_CODE_OF_NIBBLE = np.full(16, UNKNOWN, np.uint8)
_CODE_OF_NIBBLE[[0b1000, 0b0100, 0b0010, 0b0001]] = np.arange(4)
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], np.uint8)
_ONEHOT_OF_CODE = np.vstack([np.eye(4, dtype=np.uint8), np.zeros((1, 4), np.uint8)])

REVERSED_BITS: Bytes = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1
)[:, 0]
"""(256,) uint8: the byte whose bits are those of the index, read backwards."""


def encode(sequence: str | bytes | Bytes) -> Bytes:
    """Turn letters into base codes.

    Args:
        sequence: L letters in any case, as text or as an array of ASCII bytes. U is T; everything
            but A, C, G, T, U becomes `UNKNOWN`.

    Returns:
        (L,) uint8 codes.
    """
    if isinstance(sequence, str):
        sequence = sequence.encode("ascii", "replace")
    if isinstance(sequence, bytes):
        sequence = np.frombuffer(sequence, np.uint8)
    return _CODE_OF_BYTE[sequence]


def foreign_letters(letters: Bytes) -> npt.NDArray[np.intp]:
    """Places of the ASCII bytes (L,) that are neither bases, U, nor another letter of IUPAC's."""
    if not letters.tobytes().translate(None, _LETTERS):  # the usual case, in a fifth of the time
        return np.empty(0, np.intp)
    return np.flatnonzero(~_IS_LETTER[letters])


def decode(codes: Bytes) -> str:
    """Turn base codes (L,) into upper-case letters, unknown bases into N."""
    return _BYTE_OF_CODE[codes].tobytes().decode("ascii")


def reverse_complement_codes(codes: Bytes) -> Bytes:
    """Reverse complement of codes (..., L); unknown bases stay unknown."""
    return _COMPLEMENT[codes[..., ::-1]]


def onehot_from_codes(codes: Bytes) -> Bytes:
    """One-hot (..., L, 4) uint8, channels A,G,C,T, of codes (..., L)."""
    return _ONEHOT_OF_CODE[codes]


def packed_width(length: int) -> int:
    """Bytes of a packed window of `length` bases: two bases a byte, the last byte half filled."""
    return (length + 1) // 2


def pack_codes(codes: Bytes) -> Bytes:
    """Pack codes (..., L) into (..., ceil(L/2)) uint8; of an odd L the last half byte is zero."""
    nibbles = np.uint8(0b1000) >> codes  # nothing is left of it for an unknown base
    packed: Bytes = nibbles[..., 0::2] << np.uint8(4)
    packed[..., : codes.shape[-1] // 2] |= nibbles[..., 1::2]
    return packed


def unpack_codes(packed: Bytes, length: int) -> Bytes:
    """Codes (..., L) of packed rows (..., ceil(L/2)), L being `length`."""
    _require_width(packed, length)
    codes = np.empty((*packed.shape[:-1], length), np.uint8)
    codes[..., 0::2] = _CODE_OF_NIBBLE[packed >> 4]
    codes[..., 1::2] = _CODE_OF_NIBBLE[packed[..., : length // 2] & 15]
    return codes


def pack_onehot(onehot: npt.NDArray[np.generic]) -> Bytes:
    """Pack one-hot (..., L, 4), values 0 and 1, channels A,G,C,T, into (..., ceil(L/2)) uint8.

    Raises:
        ValueError: the last axis is not 4.
    """
    if onehot.shape[-1] != 4:
        raise ValueError(
            f"One-hot DNA has 4 channels on its last axis. Received shape: {onehot.shape}."
        )
    # Sizes are written out, since -1 has no meaning for an array without rows.
    bits = onehot.reshape(*onehot.shape[:-2], onehot.shape[-2] * 4)
    return np.packbits(bits.astype(bool), axis=-1)


def unpack_onehot(packed: Bytes, length: int) -> Bytes:
    """One-hot (..., L, 4) uint8, channels A,G,C,T, of packed rows (..., ceil(L/2))."""
    _require_width(packed, length)
    bits = np.unpackbits(packed, axis=-1, count=length * 4)
    return bits.reshape(*packed.shape[:-1], length, 4)


def reverse_complement(packed: Bytes, length: int) -> Bytes:
    """Reverse complement of packed rows (..., ceil(L/2)): all bits of a row in reverse order."""
    _require_width(packed, length)
    turned = REVERSED_BITS[packed[..., ::-1]]
    if length % 2:  # the empty half byte is now the first: all move up by it
        following = turned[..., 1:] >> np.uint8(4)
        turned = turned << np.uint8(4)
        turned[..., :-1] |= following
    return turned


def _require_width(packed: Bytes, length: int) -> None:
    if packed.shape[-1] != packed_width(length):
        raise ValueError(
            f"A window of {length} bases has {packed_width(length)} bytes a row, two bases a byte. "
            f"Received: {packed.shape[-1]}."
        )


def pack_labels(labels: npt.NDArray[np.generic]) -> Bytes:
    """Pack labels (N, T), zero or not, into (N, ceil(T/8)) uint8, first target in the top bit."""
    return np.packbits(labels.astype(bool), axis=-1)


def unpack_labels(packed: Bytes, n_targets: int) -> Bytes:
    """Labels (..., T) uint8, 0 or 1, of packed labels (..., ceil(T/8))."""
    return np.unpackbits(packed, axis=-1, count=n_targets)
